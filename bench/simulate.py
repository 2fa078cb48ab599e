"""The scaling policy against other autoscalers on real traffic. No lab: `core.scaling.simulate` is all it needs."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Report
from bench.settings import Settings
from proxypool.core.scaling.fleet import World
from proxypool.core.scaling.policy import Parameters
from proxypool.core.scaling.simulate import Load, Outcome, Rival, least_slack, replay, replay_rival
from proxypool.core.scaling.trace import loads_of, parse, scale_of

TRACES = Path(__file__).resolve().parent / "traces"
OVERLOAD_PERCENT, SLACK_PERCENT, ACTIONS_PER_HOUR = 0.1, 30.0, 4.0
MEASURES: tuple[tuple[str, str, Callable[[Outcome], float], float], ...] = (
    ("overload", "% of the time", lambda outcome: 100 * outcome.overload_fraction, OVERLOAD_PERCENT),
    ("slack beyond the reserve", "%", lambda outcome: 100 * outcome.mean_slack_fraction, SLACK_PERCENT),
    ("actions", "/h", lambda outcome: outcome.actions_per_hour, ACTIONS_PER_HOUR),
)
YEAR_MINUTES, QUICK_MINUTES = 525_600, 10_000


def run(settings: Settings) -> Report:
    """Every trace through every policy, with all defaults; then the time that a year of minutes takes."""
    report = Report()
    for path in sorted(TRACES.glob("*.csv")):
        settings.progress(path.stem)
        _measure(report, path)
    _year(report, QUICK_MINUTES if settings.is_quick else YEAR_MINUTES)
    return report


def _measure(report: Report, path: Path) -> None:
    trace = parse(path.read_text(encoding="utf-8"))
    scale = scale_of(trace)
    loads, name = loads_of(trace, scale), path.stem.split("_")[0]
    ours = replay(loads, trace.until, World(), Parameters())
    rivals = {rival: replay_rival(loads, trace.until, World(), rival) for rival in (Rival.HPA, Rival.KPA)}
    bare = {rival: replay_rival(loads, trace.until, World(rival_reserve=0), rival) for rival in (Rival.HPA, Rival.KPA)}
    for measure, unit, of, limit in MEASURES:
        report.limit(f"{name}: {measure}", unit, [of(ours)], limit)
    for rival, outcome in rivals.items():
        for measure, unit, mine, theirs in (
            ("overload", "% of the time", 100 * ours.overload_fraction, 100 * outcome.overload_fraction),
            ("cost", "pair hours", ours.pair_hours, outcome.pair_hours),
            ("broken flows", "flows", float(ours.broken_flows), float(outcome.broken_flows)),
        ):
            target = "" if measure == "broken flows" else "not more"
            report.compare(f"{name}: {measure}, against {rival}", unit, [mine], [theirs], rival, target=target)
    report.notes.append(
        f"{name}: one pair carries {scale.pair_capacity:g}, {scale.why}; whole pairs cannot have less slack than "
        f"{least_slack(loads, trace.until):.1%}"
    )
    report.notes.extend(f"{name}: {rival} without a pair in reserve: {_brief(bare[rival])}" for rival in bare)


def _brief(outcome: Outcome) -> str:
    return (
        f"overload {outcome.overload_fraction:.4%}, not safe against the loss of a pair {outcome.unsafe_fraction:.2%}, "
        f"{outcome.pair_hours:.0f} pair hours"
    )


def _year(report: Report, minutes: int) -> None:
    noise = random.Random(1)  # noqa: S311 - the same year each time
    loads = [
        Load(60.0 * minute, 5 * (1.3 + math.sin(minute / 1440 * 2 * math.pi)) * math.exp(noise.gauss(0, 0.05)))
        for minute in range(minutes)
    ]
    began = time.process_time()
    replay(loads, 60.0 * minutes, World(), Parameters())
    report.limit(f"{minutes} minutes, one by one different", "s of CPU", [time.process_time() - began], None)
