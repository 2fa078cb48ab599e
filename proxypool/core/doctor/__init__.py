"""Can this machine do its part? Pure: what was found out about it is judged here, and nothing is looked at.

facts      what the probes tell; None: they could not
codes      every kind of finding: its code, which never changes its meaning, and how bad it is
machine    judges kernel, programs, capabilities, underlay and clock
pool       judges configuration, files, ZooKeeper and the provider
report     all of it: the findings of a role, and its exit code
"""
