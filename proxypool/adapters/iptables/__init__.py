"""Our chains in the legacy iptables tables: the one owner of python-iptables.

python-iptables swaps the process' standard output while it reads parameters and keeps its tables by name for the whole
process, so all of it runs on one thread (the dataplane's), one table at a time, and nobody may log to standard output.
"""

from proxypool.adapters.iptables import environment  # noqa: F401 - must come before iptc
from proxypool.adapters.iptables.blocked import BlockedCounts
from proxypool.adapters.iptables.fingerprint import TableProbe
from proxypool.adapters.iptables.new_flows import NewFlows
from proxypool.adapters.iptables.tables import apply_table, observe_table, remove_table

__all__ = ["BlockedCounts", "NewFlows", "TableProbe", "apply_table", "observe_table", "remove_table"]
