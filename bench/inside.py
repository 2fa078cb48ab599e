"""Runs inside an instance: the lab's blackout instrument, with every gap told however short, and every loss.

python -S -m bench.inside ADDRESS:PORT [--interval-ms MS]

The lab's own tells gaps from 10 ms on; a planned switchover is to stay below that, and the noise it must be told apart
from is there, too. Standard library only, as everything inside machines.
"""

from __future__ import annotations

import json
from itertools import pairwise

from proxypool.lab.inside.blackout import Blackout
from proxypool.lab.inside.instrument import Stop, address, arguments, hurry, say

GAPS_TOLD = 200


def main() -> None:
    """Measure until told to stop, print one document."""
    options = arguments(__doc__, 1.0).parse_args()
    stop = Stop()
    hurry()
    blackout = Blackout(address(options.target), options.interval_ms / 1e3)
    blackout.run(stop, options.duration, None)
    widest = sorted(pairwise(blackout.answers), key=lambda gap: gap[0] - gap[1])[:GAPS_TOLD]
    lost_at = [at for at, after in zip(blackout.sent_at, blackout.answer_after, strict=True) if after < 0]
    document = blackout.result()
    document["gaps_s"] = sorted(widest)
    document["lost_at"] = lost_at
    document["first_answer"] = blackout.answers[0] if blackout.answers else None
    document["last_answer"] = blackout.answers[-1] if blackout.answers else None
    say(json.dumps(document))


if __name__ == "__main__":
    main()
