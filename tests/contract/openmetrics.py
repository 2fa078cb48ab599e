"""Scrapes as one text: OpenMetrics with a time at every sample, as `promtool tsdb create-blocks-from openmetrics` takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample


@dataclass
class Samples:
    """What was scraped so far, by family: each must be in the text once, with all its samples."""

    _families: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    def scraped(self, at: float, target: Mapping[str, str], metrics: Iterable[Metric] | None) -> None:
        """A target, with its labels, was scraped at a wall time. None: it did not answer."""
        self.add("up", "gauge", at, [Sample("up", {}, float(metrics is not None))], target)
        for family in metrics or ():
            self.add(family.name, family.type, at, family.samples, target)

    def add(self, name: str, kind: str, at: float, samples: Iterable[Sample], target: Mapping[str, str]) -> None:
        """Samples of one family. As with `honor_labels`, a label of a sample's own goes before the target's."""
        _, lines = self._families.setdefault(name, (kind, []))
        common, end = _text(target), f"{at:.3f}"
        for one in samples:
            own = one.labels
            labels = common + _text(own) if own.keys().isdisjoint(target) else _text({**target, **own})
            lines.append(f"{one.name}{{{labels[:-1]}}} {one.value!r} {end}")

    def lines(self) -> Iterator[str]:
        """The text."""
        for name, (kind, lines) in self._families.items():
            yield f"# TYPE {name} {kind}"
            yield from lines
        yield "# EOF"


def _text(labels: Mapping[str, str]) -> str:
    return "".join([f'{key}="{value}",' for key, value in labels.items()])
