"""What a controller exports."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.telemetry.controller_metrics import ControllerMetrics, ControllerView, SubnetSize


def samples(metrics: ControllerMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_leader_exports_the_sizes_of_subnets() -> None:
    """A load that is not known has no series: nobody must take it for zero."""
    size = SubnetSize(active=2, wanted=3, least=1, most=4, is_blocked=True, load={"bytes": 1.5, "ports": None})
    view = ControllerView(is_leader=True, epoch=7, evaluated_at=99.0, actions=1, subnets={"s1": size})
    found = samples(ControllerMetrics(lambda: view))
    of_s1 = (("subnet", "s1"),)
    assert found["proxypool_controller_leader", ()] == 1.0
    assert found["proxypool_controller_last_evaluation_timestamp_seconds", ()] == 99.0
    for name, value in {"pairs_ready": 2, "pairs_wanted": 3, "pairs_min": 1, "pairs_max": 4, "blocked": 1}.items():
        assert found[f"proxypool_scaling_{name}", of_s1] == value
    assert found["proxypool_scaling_load_pairs", (("signal", "bytes"), *of_s1)] == 1.5
    assert ("proxypool_scaling_load_pairs", (("signal", "ports"), *of_s1)) not in found


def test_actions_are_counted_by_how_they_ended() -> None:
    """Only those that did what they were to do have a duration."""
    metrics = ControllerMetrics(ControllerView)
    action = Action(
        id="1",
        kind=ActionKind.ADD,
        subnet="s1",
        pair="p1",
        step=Step.DONE,
        reason="load",
        began=100.0,
        step_since=100.0,
    )
    metrics.ended(action, 104.0)
    metrics.called("offers", "throttled")
    metrics.decided("panic", 2)
    found = samples(metrics)
    labels = (("kind", "add"), ("reason", "load"), ("result", "done"))
    assert found["proxypool_controller_actions_total", labels] == 1.0
    assert found["proxypool_controller_action_duration_seconds_sum", (("kind", "add"),)] == 4.0
    assert found["proxypool_provider_calls_total", (("call", "offers"), ("result", "throttled"))] == 1.0
    assert found["proxypool_controller_decisions_total", (("cause", "panic"), ("direction", "out"))] == 1.0
