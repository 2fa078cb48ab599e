"""`proxypool lab …`: a whole pool on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from proxypool.cli.exits import ExitCode, fail, reported
from proxypool.cli.output import Format, OutputOption, show, single
from proxypool.core.detection import Profile
from proxypool.lab.fault_kinds import Fault, Options

app = typer.Typer(
    name="lab",
    help="A whole pool on one machine, from network namespaces and the real programs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class TunnelChoice(StrEnum):
    """How hosts reach nodes."""

    AUTO = "auto"
    GRE = "gre"
    VXLAN = "vxlan"


Name = Annotated[str, typer.Option("--name", help="Several labs can be up at the same time.")]
MachineArgument = Annotated[str, typer.Argument(help="node-a, host1, pod1, db1, zk1, …", show_default=False)]


@app.command()
def up(
    nodes: Annotated[int, typer.Option(help="Proxy nodes, in zones a, b, c, …")] = 2,
    hosts: Annotated[int, typer.Option(help="Function hosts.")] = 1,
    pods: Annotated[int, typer.Option(help="Instances per host: pod1, pod1-2, …")] = 1,
    subnets: Annotated[int, typer.Option(help="Customers' subnets, each with a server.")] = 1,
    pairs: Annotated[int, typer.Option(help="Pairs per subnet, each of two nodes of its own.")] = 1,
    zk: Annotated[int, typer.Option(help="ZooKeeper servers: 1 or 3.")] = 1,
    tunnel: Annotated[
        TunnelChoice, typer.Option(help="auto: GRE if this kernel has it, else VXLAN.")
    ] = TunnelChoice.AUTO,
    overlap: Annotated[bool, typer.Option("--overlap", help="All customers use the same addresses.")] = False,
    attach_all: Annotated[
        bool, typer.Option("--attach-all", help="Every instance reaches every subnet, without being attached.")
    ] = False,
    detection: Annotated[
        Profile | None,
        typer.Option(help="How soon a silent master is replaced; default: balanced, conservative on one CPU."),
    ] = None,
    egress: Annotated[
        bool, typer.Option("--egress", help="Every pair has an egress address: connections survive a failover.")
    ] = False,
    controllers: Annotated[int, typer.Option(help="With any, pairs beyond the first come and go with the load.")] = 0,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure", help="TLS to ZooKeeper, a secret for each role, the pool closed; a machine ops for you."
        ),
    ] = False,
    name: Name = "lab",
    timeout: Annotated[float, typer.Option(help="Seconds until traffic must flow.")] = 120.0,
) -> None:
    """Bring a lab up, or what is missing of it. Does nothing when it is up already."""
    with _errors():
        from proxypool.lab.lab import Lab
        from proxypool.lab.preflight import choose_detection, choose_tunnel, require
        from proxypool.lab.topology import Topology

        require()
        progress = _progress()
        kind, remark = choose_tunnel(tunnel.value)
        if remark:
            progress(remark)
        topology = Topology(
            name,
            nodes,
            hosts,
            subnets,
            zk,
            kind,
            overlap,
            pairs=pairs,
            pods=pods,
            attach_all=attach_all,
            detection=detection or choose_detection(),
            egress=egress,
            controllers=controllers,
            secure=secure,
        )
        lab = Lab.up(topology, progress, timeout_s=timeout)
        progress(f"lab {name!r} is up: {', '.join(lab.machines)}")


@app.command()
def status(name: Name = "lab", output: OutputOption = Format.TABLE) -> None:
    """Show the machines of a lab, what runs on them and which cables are cut."""
    with _errors():
        from proxypool.lab.lab import Lab
        from proxypool.lab.report import describe, table

        found = describe(Lab.attach(name))
        show(single("LabStatus", found), output, lambda _wide: table(found))


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    machine: MachineArgument,
    command: Annotated[list[str], typer.Argument(help="-- CMD…", metavar="-- CMD…", show_default=False)],
    name: Name = "lab",
) -> None:
    """Run a command in a machine; its exit code is ours."""
    with _errors():
        from proxypool.lab.lab import Lab
        from proxypool.lab.namespaces import base_environment, enter

        pid = Lab.attach(name).machine(machine).pid
        words = enter(pid) + [word for i, word in enumerate(command) if i or word != "--"]
        os.execvpe(words[0], words, base_environment(name, machine))  # noqa: S606 - the command takes our place


@app.command()
def fault(
    kind: Annotated[Fault, typer.Argument(show_default=False)],
    machine: MachineArgument,
    subnet: Annotated[str | None, typer.Option(help="Which ENI or namespace; default: all of the machine.")] = None,
    percent: Annotated[float, typer.Option(help="lose-…: of the packets, each way.", min=0, max=100)] = 20.0,
    delay_ms: Annotated[float, typer.Option(help="delay-…: how late packets arrive.", min=0)] = 60.0,
    jitter_ms: Annotated[float, typer.Option(help="delay-…: up to so much later still.", min=0)] = 40.0,
    seconds: Annotated[float, typer.Option(help="jump-clock: by how much; negative: back.")] = 3600.0,
    name: Name = "lab",
) -> None:
    """Break something, or heal it. power-on starts and heals whatever is missing on a machine."""
    with _errors():
        from proxypool.lab.lab import Lab

        options = Options(subnet, percent, delay_ms, jitter_ms, seconds)
        Lab.attach(name).fault(kind, machine, options=options)


@app.command()
def logs(
    machine: MachineArgument,
    service: Annotated[str | None, typer.Option(help="daemon, keepalived, zookeeper, …; default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    name: Name = "lab",
) -> None:
    """Show what the services of a machine wrote."""
    with _errors():
        from proxypool.lab.lab import Lab
        from proxypool.lab.report import follow_logs

        for line in follow_logs(Lab.attach(name).machine(machine), service, follow=follow):
            typer.echo(line)


@app.command()
def down(name: Name = "lab") -> None:
    """End a lab, or what a killed `lab up` left of it."""
    with _errors():
        from proxypool.lab.lab import remove
        from proxypool.lab.preflight import require_root

        require_root()
        count = remove(name)
        typer.echo(f"lab {name!r} is down" if count else f"there was no lab {name!r}", err=True)


@app.command()
def demo(
    tunnel: Annotated[
        TunnelChoice, typer.Option(help="auto: GRE if this kernel has it, else VXLAN.")
    ] = TunnelChoice.AUTO,
    name: Name = "demo",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show it all: traffic flows, the master is powered off, the blackout is measured. A lab of its own, then gone."""
    with _errors():
        from proxypool.lab.demo import Narrator, run

        is_document = output in {Format.JSON, Format.YAML}
        tell = partial(typer.echo, err=is_document)
        found = run(name, tunnel.value, Narrator(_progress(), lambda block: tell(f"\n{block}\n")))
        if is_document:
            show(single("LabDemo", found), output, lambda _wide: "")


def _progress() -> Callable[[str], None]:
    """Lines on standard error, with seconds since the start."""
    began = time.monotonic()
    return lambda text: typer.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)


@contextmanager
def _errors() -> Iterator[None]:
    """One sentence and an exit code for what went wrong; SIGTERM cleans up as Ctrl-C does."""
    from proxypool.lab.errors import LabTimeout

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with reported():
        try:
            yield
        except LabTimeout as error:
            raise fail(str(error), ExitCode.TIMED_OUT) from None
        except subprocess.TimeoutExpired as error:
            raise fail(str(error), ExitCode.TIMED_OUT) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(ExitCode.FAILED) from None
