"""Looks at this machine for `proxypool doctor` and `bundle`: reads, tries, and changes nothing that lasts.

limits     many probes at the same time, none of which can hold up the others
programs   what is installed, and what it says
kernel     features, tried in a throw-away namespace or read from lists of modules; sysctls
process    capabilities; which daemon runs here
place      underlay, clock, files, servers' ports
"""
