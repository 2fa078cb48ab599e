"""proxypool: HA pairs of proxy nodes between function hosts and customers' subnets."""

__version__ = "0.1.0"
