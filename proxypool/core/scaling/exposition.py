"""Reads our own series from the text of a node's `/metrics`. Pure.

Not a parser of the format: whatever is not one of `Series` or `NodeSeries` is passed over. prometheus-client's parser
takes some 20 us a line, which is nine seconds of every round for a thousand nodes of twenty members each; this takes
one, and half of one where only values have changed since the last page. Labels of ours are names by `core.model.Name`,
so nothing in them is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

from proxypool.core.scaling.series import NodeSeries, Sample, Series, Where

_LINE = re.compile(r"^(proxypool_[a-z_]+)(?:\{([^}\n]*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"\\]*)"')
_SERIES = {str(series): str(series) for series in Series}
_NODE_SERIES = {str(series): str(series) for series in NodeSeries}
"""To themselves, as plain strings: the same few for every sample, and quicker in a dict than members of an enum."""


Page: TypeAlias = tuple[Sample, Mapping[Where, Sample]]
"""The limits of a node, and a sample for each of its members."""


class NoSeries(ValueError):
    """The text has none of the series: it is of something else, or of a daemon that is too old."""


class PageReader:
    """Reads the pages of one node, one after the other. From one to the next mostly the values change: what the rest of
    the words mean is remembered.
    """

    def __init__(self) -> None:
        self._layout: _Layout | None = None

    def read(self, text: str) -> Page:
        """As `parse`, and as it raises."""
        page = self._layout.read(text) if self._layout is not None else None
        if page is None:
            page = parse(text)
            self._layout = _layout_of(text)
        return page


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of a page: which of its words are values, and whose."""

    count: int
    """Of words."""
    others: Callable[[Sequence[str]], Any]
    """All words but the values."""
    said: Any
    """What those are."""
    values: Callable[[Sequence[str]], Any]
    """Sample by sample."""
    samples: tuple[tuple[Where | None, tuple[str, ...]], ...]
    """Whose they are, and of which series; None: of the node."""

    def read(self, text: str) -> Page | None:
        """None: it is another layout, or a value is no number."""
        words = text.split()
        if len(words) != self.count or self.others(words) != self.said:
            return None
        try:
            values = list(map(float, self.values(words)))
        except ValueError:
            return None
        limits: Sample = {}
        members: dict[Where, Sample] = {}
        at = 0
        for where, series in self.samples:
            sample = dict(zip(series, values[at : at + len(series)], strict=True))
            at += len(series)
            if where is None:
                limits = sample
            else:
                members[where] = sample
        return limits, members


@lru_cache(256)
def _getter(places: tuple[int, ...]) -> Callable[[Sequence[str]], Any]:
    """One for all nodes whose pages are alike: of a thousand nodes they would have 24 MB."""
    return itemgetter(*places)


def _layout_of(text: str) -> _Layout | None:
    """None: it is not as our nodes write it. It is read all the same, line by line."""
    words: list[str] = []
    places: dict[Where | None, dict[str, int]] = {}
    for line in text.split("\n"):
        of_line = line.split()
        found = _LINE.match(line)
        if found is not None:
            name, labels, value = found.groups()
            series = _SERIES.get(name) if labels else _NODE_SERIES.get(name)
            where = _where(labels) if labels else None
            if series is not None and (where is not None or not labels):
                place = places.setdefault(where, {})
                if series in place or of_line[1] != value:
                    return None
                place[series] = len(words) + 1
        words += of_line
    order = [at for place in places.values() for at in place.values()]
    rest = sorted(set(range(len(words))) - set(order))
    if len(order) < 2:  # noqa: PLR2004 - of one place `itemgetter` makes no tuple
        return None
    others = _getter(tuple(rest))
    samples = tuple((where, tuple(place)) for where, place in places.items())
    return _Layout(len(words), others, others(words), _getter(tuple(order)), samples)


def parse(text: str) -> Page:
    """A page of which nothing is known before.

    A value that is no number, or is there twice, is NaN.

    Raises:
        NoSeries: see there.
    """
    limits: dict[str, float] = {}
    members: dict[Where, dict[str, float]] = {}
    by_labels: dict[str, dict[str, float]] = {"": limits}
    for name, labels, word in _LINE.findall(text):
        series = _SERIES.get(name) if labels else _NODE_SERIES.get(name)
        if series is None:
            continue
        sample = by_labels.get(labels)
        if sample is None:
            sample = by_labels[labels] = _sample_of(labels, members)
        sample[series] = _number(word) if series not in sample else math.nan
    if not limits and not members:
        raise NoSeries("none of the series that the controller reads is there")
    return limits, members


def _sample_of(labels: str, members: dict[Where, dict[str, float]]) -> dict[str, float]:
    where = _where(labels)
    return {} if where is None else members.setdefault(where, {})


def _where(labels: str) -> Where | None:
    found = dict(_LABEL.findall(labels))
    return (found["subnet"], found["pair"]) if "subnet" in found and "pair" in found else None


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
