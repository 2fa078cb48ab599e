"""A throw-away Linux guest on this machine's own file system, for kernel features that the running kernel lacks.

The guest is User-Mode Linux, the distribution's package ``user-mode-linux``: a Linux kernel that runs as ordinary
processes, with GRE, IPIP, VXLAN, legacy iptables, ipset and conntrack. It needs no image and no virtualisation: its
root is the machine's own ``/``, read-only, below an overlay in memory, so that everything installed here works there
and nothing done there stays.

    python -m proxypool.lab.guest -- ip link add t0 type gre local 192.0.2.1 key 7

Correctness is what it is for, not speed: it has one CPU and a system call costs about ten microseconds.

This package owns the start and the end of a guest. It knows nothing of what runs inside.
"""

from proxypool.lab.guest.runner import GuestError, GuestJob, GuestTimeoutError, run, select_environment

__all__ = ["GuestError", "GuestJob", "GuestTimeoutError", "run", "select_environment"]
