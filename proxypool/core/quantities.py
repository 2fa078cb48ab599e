"""Ranges of the numbers in documents. Pure.

JSON has numbers of any size. One that nothing can mean is refused where the document is read, so that what is computed,
printed or exported from it later cannot overflow.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_COUNT = 2**63 - 1
"""As much as ZooKeeper, the kernel and every reader of our JSON can count."""
MAX_MOMENT = 253402300799.0
"""The end of the year 9999."""
MAX_MEASURE = 1e15

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
"""Of things, bytes, packets; an epoch, a zxid."""
Moment = Annotated[float, Meta(ge=0.0, le=MAX_MOMENT)]
"""Wall time, seconds since the epoch."""
Measure = Annotated[float, Meta(ge=-MAX_MEASURE, le=MAX_MEASURE)]
"""A rate, a length of time, a load."""
