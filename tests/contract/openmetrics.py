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
        self.add("up", "gauge", at, [Sample("up", dict(target), float(metrics is not None))])
        for family in metrics or ():
            # As with `honor_labels`: a label of the metric's own goes before the target's.
            samples = (one._replace(labels={**target, **one.labels}) for one in family.samples)
            self.add(family.name, family.type, at, samples)

    def add(self, name: str, kind: str, at: float, samples: Iterable[Sample]) -> None:
        """Samples of one family."""
        _, lines = self._families.setdefault(name, (kind, []))
        for one in samples:
            labels = ",".join(f'{key}="{text}"' for key, text in one.labels.items())
            lines.append(f"{one.name}{{{labels}}} {one.value!r} {at:.3f}")

    def lines(self) -> Iterator[str]:
        """The text."""
        for name, (kind, lines) in self._families.items():
            yield f"# TYPE {name} {kind}"
            yield from lines
        yield "# EOF"
