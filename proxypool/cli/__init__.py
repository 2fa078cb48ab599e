"""The command line: parse, call, print. No logic.

start       the first module of all
main        the root: global options, lazily loaded groups, errors to exit codes
lazy        groups that import nothing but what the line asks for
settings    what the global options say; connect to the pool
output      tables, JSON, YAML, units
views       what each kind of thing looks like as a table; *_texts: what is said in words
status, topology, explain, history, events, pool, subnet, pair, …    the commands
"""
