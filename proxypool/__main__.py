"""`python -m proxypool`: the command line, without an installed script."""

from proxypool.cli.start import main

main()
