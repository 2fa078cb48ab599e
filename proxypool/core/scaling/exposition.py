"""Reads our own series from the text of a node's `/metrics`. Pure.

Not a parser of the format: whatever is not one of `Series` or `NodeSeries` is passed over. prometheus-client's parser
takes some 20 us a line, which is nine seconds of every round for a thousand nodes of twenty members each; this takes
one. Labels of ours are names by `core.model.Name`, so nothing in them is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from proxypool.core.scaling.series import NodeSeries, Sample, Series, Where

_LINE = re.compile(r"^(proxypool_[a-z_]+)(?:\{([^}\n]*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"\\]*)"')
_SERIES = {str(series): str(series) for series in Series}
_NODE_SERIES = {str(series): str(series) for series in NodeSeries}
"""To themselves, as plain strings: the same few for every sample, and quicker in a dict than members of an enum."""


class NoSeries(ValueError):
    """The text has none of the series: it is of something else, or of a daemon that is too old."""


def parse(text: str) -> tuple[Sample, Mapping[Where, Sample]]:
    """The limits of a node, and a sample for each of its members.

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
    found = dict(_LABEL.findall(labels))
    if "subnet" not in found or "pair" not in found:
        return {}
    return members.setdefault((found["subnet"], found["pair"]), {})


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
