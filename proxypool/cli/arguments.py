"""Arguments that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

SubnetArgument = Annotated[str, typer.Argument(metavar="SUBNET", help="Its id.", show_default=False)]
PairArgument = Annotated[str, typer.Argument(metavar="PAIR", help="Its id within the subnet.", show_default=False)]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Its name.", show_default=False)]
