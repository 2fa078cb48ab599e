"""Measurements of the pool on one machine: `python -m bench [NAME ...]`. See docs/measurements.md.

__main__    which benches, how many runs
settings    what the command line asked for
report      rows, the table, bench/out/NAME.json
figures     quantiles and paired ratios. Pure
labs        the lab of a bench: two nodes of ours, two that are laid by hand
by_hand     the same path from `ip`, `iptables` and a plain keepalived, as people set it up
probe       an instance that asks every millisecond; `inside` is its program
datapath, blackout, switchover, onboard, restart, footprint    one bench each
"""
