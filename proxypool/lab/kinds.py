"""The kinds of documents that `proxypool lab` prints, as `core.kinds` has those of all other commands. Pure."""

from __future__ import annotations

from proxypool.core.kinds import Form, Kind
from proxypool.lab.documents import LabDemo, LabStatus

LAB_KINDS = (
    Kind("LabStatus", LabStatus, Form.SINGLE, "lab status"),
    Kind("LabDemo", LabDemo, Form.SINGLE, "lab demo"),
)
