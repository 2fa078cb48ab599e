"""A shell that stays in a machine: what it is told to do costs the processes that it starts, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Self

from proxypool.lab.errors import LabError
from proxypool.lab.machine import Machine, end

DONE, FAILED = "@done", "@failed"


class Shell:
    """By hand, as fast as it can be: no shell to start, nobody to log in."""

    def __init__(self, machine: Machine) -> None:
        """Started at once."""
        self._name = machine.name
        self._process = machine.popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, whatever it does."""
        with self._process:
            end(self._process)

    def run(self, commands: Sequence[str]) -> None:
        """One after the other, until one fails. `LabError` with what it said."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{' && '.join(commands)} && echo {DONE} || echo {FAILED}\n")
        stdin.flush()
        said: list[str] = []
        while (line := stdout.readline()) and line.strip() not in {DONE, FAILED}:
            said.append(line)
        if line.strip() != DONE:
            raise LabError(f"by hand on {self._name}: {''.join(said).strip() or 'failed without a word'}")
