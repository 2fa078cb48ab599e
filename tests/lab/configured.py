"""Daemons of a lab that are told to read their configuration again."""

from __future__ import annotations

import signal

from proxypool.lab import processes
from proxypool.lab.lab import Lab
from tests.lab.observe import metrics, wait_until

CONFIG = "/etc/proxypool/proxypool.toml"


class Configured:
    """A machine whose daemon is told to read its configuration again."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self._name, self._machine = lab, name, lab.machine(name)
        self.text = self._machine.run(["cat", CONFIG]).stdout
        self._started = self._value("process_start_time_seconds")

    def _value(self, name: str) -> float:
        return metrics(self._lab, self._name).get(name, -1.0)

    def changed(self, old: str, new: str) -> str:
        """The text as it was, but for one thing."""
        assert self.text.count(old) == 1
        return self.text.replace(old, new)

    def reload(self, text: str, *, is_good: bool) -> None:
        """SIGHUP, and wait until it is counted; it is the same process."""
        self._machine.run(["sh", "-c", f"cat > {CONFIG}"], input=text)
        process = self._machine.service_process("daemon")
        assert process is not None
        read_at = self._value("proxypool_config_reload_timestamp_seconds")
        processes.send(process, signal.SIGHUP)

        def is_counted() -> bool:
            is_newer = self._value("proxypool_config_reload_timestamp_seconds") > read_at
            return self._value("proxypool_config_reload_success") == is_good and (is_newer or not is_good)

        wait_until(is_counted, 10.0, f"{self._name} to {'take it over' if is_good else 'refuse it'}")
        assert self._value("process_start_time_seconds") == self._started
