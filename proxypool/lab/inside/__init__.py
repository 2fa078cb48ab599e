"""Programs that run inside machines: a server to talk to, and instruments that measure.

Standard library only, and little of it: they are started often, on slow kernels, a hundred at a time.

    responder   answers everything, in a customer's subnet; tells clients how it sees them
    blackout    a request every millisecond: how long was there no answer?
    arp         who answers for an address, as the wire sees it?
    talks       many TCP connections: how many lived, how long did they stall, through which pair?
    spread      very many short connections or flows: through which pairs?
    reach       which targets answer at all?

Not instruments: `delayer` and `stutter`, which make faults.

The instruments print a line when answers come, and one JSON document at the end: after --duration, on SIGTERM or on
SIGINT. Times are CLOCK_MONOTONIC in seconds; `*_wall` is the same moment as Unix time.
"""
