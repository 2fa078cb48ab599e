"""The command line: parse, call, print. No logic.

main        the root: global options, lazily loaded groups, errors to exit codes
lazy        groups that import nothing but what the line asks for
settings    what the global options say; connect to the pool
output      tables, JSON, YAML, units
views       what each kind of thing looks like as a table
status, pool, subnet, pair, machines, run, config, lab    the commands
"""
