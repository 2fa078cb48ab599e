"""Random schedules of faults against a lab, recorded, and a checker over what was recorded.

python -m tests.chaos --seed 7 --schedules 3
python -m tests.chaos --replay FILE

history     what was recorded: pure data
world       what of the lab was whole at each moment, from the faults alone
checker     the invariants of the design over a history: violations with what went on around them
schedule    random faults from a seed
recorder    the observers of one run
runner      does a schedule, records it, heals
"""
