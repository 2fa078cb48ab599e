"""``python -m proxypool.lab.guest [options] -- COMMAND``: see the package."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from proxypool.lab.guest.runner import GuestError, GuestJob, GuestTimeoutError, run, select_environment

_TIMED_OUT = 124
_COULD_NOT_START = 125
_INTERRUPTED = 130
_OUTPUT_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parser().parse_args(argv)
    job = GuestJob(
        command=tuple(arguments.command),
        cwd=arguments.cwd,
        memory_mib=arguments.mem,
        writable=tuple(arguments.rw),
        environment=select_environment(os.environ, arguments.env),
        timeout_s=arguments.timeout,
        terminal=arguments.tty,
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        return run(job)
    except GuestError as error:
        sys.stderr.write(f"guest: {error}\n")
        return _TIMED_OUT if isinstance(error, GuestTimeoutError) else _COULD_NOT_START
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _OUTPUT_CLOSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proxypool.lab.guest",
        description="Run a command in a throw-away Linux guest that has GRE, on this machine's own file system.",
        epilog="The exit status is the command's; 124 after a timeout, 125 if the guest could not be started.",
    )
    parser.add_argument("--mem", type=_mebibytes, default=1536, metavar="SIZE", help="memory: 1536M (default), 2G, …")
    parser.add_argument(
        "--rw",
        type=_directory,
        action="append",
        default=[],
        metavar="DIR",
        help="what the guest writes here stays; all else is thrown away",
    )
    parser.add_argument("--cwd", type=_directory, default=Path.cwd(), metavar="DIR", help="where the command starts")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="pass this variable on too, beside PATH, HOME, TERM, PROXYPOOL_… and PYTEST_…",
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end the guest after so long")
    parser.add_argument("--tty", action="store_true", help="give the command this terminal: -- bash, to look around")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def _directory(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        msg = f"{text!r} is not a directory"
        raise argparse.ArgumentTypeError(msg)
    return path.resolve()


def _mebibytes(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]*)([MG])", text)
    if not found:
        msg = f"{text!r} is not a size such as 1536M or 2G"
        raise argparse.ArgumentTypeError(msg)
    return int(found[1]) * (1024 if found[2] == "G" else 1)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
