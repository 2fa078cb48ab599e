"""`python -m proxypool`: the command line, without an installed script."""

from proxypool.cli.main import main

main()
