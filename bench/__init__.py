"""Measurements of the pool on one machine: `python -m bench [NAME ...]`. See docs/measurements.md.

__main__    which benches, how many runs
settings    what the command line asked for
report      rows, the table, bench/out/NAME.json
figures     quantiles and paired ratios. Pure
labs        the lab of a bench: two nodes of ours, two that are laid by hand
by_hand     the same path from `ip`, `iptables` and a plain keepalived, as people set it up
probe       an instance that asks every millisecond; `inside` is its program
instances   thousands of instances behind one host, and their first packets
shell       a shell that stays in a machine, for what is done by hand
joins       hosts that are documents only, in a machine of the lab
attaching   a platform that starts one instance after the other, in a machine of the lab
datapath, blackout, switchover, onboard, restart, footprint, many_hosts, attach, first_use, sticky    one bench each
simulate    scaling policies on the traffic of traces/; needs no lab
"""
