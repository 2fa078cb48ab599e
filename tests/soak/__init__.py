"""A lab under traffic, churn and faults for as long as one likes, and whether anything grows: `make soak MINUTES=60`.

`churn` and `tests.chaos.schedule` say what happens in a cycle, from a seed; `sampling` measures when the cycle is over
and everything was taken back; `growth` (pure) judges what the measurements do from cycle to cycle.
"""
