"""Other autoscalers, re-implemented for comparison: Kubernetes' HPA and Knative's KPA with their defaults. Pure.

Sources: kubernetes.io "Horizontal Pod Autoscaling" and pkg/controller/podautoscaler (replica_calculator.go,
horizontal.go); knative.dev "Additional autoscaling configuration for KPA" and pkg/autoscaler/scaling/autoscaler.go.
A pod is a pair, 100 % of it what one pair can carry. Both see the load itself, also where it is more than there are
pairs for, which a real HPA that reads CPU does not.
"""

from __future__ import annotations

import math
from collections import deque

EPSILON = 1e-9


class Hpa:
    """Kubernetes' HorizontalPodAutoscaler, autoscaling/v2, default behaviour.

    Not modelled: the five minutes in which the CPU of a pod that has just started is left aside.
    """

    sync_s = 15.0
    """--horizontal-pod-autoscaler-sync-period."""
    target = 0.8
    """Of an HPA whose `metrics` are not set: 80 % of the CPU."""
    tolerance = 0.1
    down_window_s = 300.0
    period_s, most_pods, most_percent = 15.0, 4, 100
    """scaleUp: the larger of 4 pods and 100 %, in 15 s. scaleDown: 100 % in 15 s, which is no limit."""

    def __init__(self) -> None:
        self._recommended: deque[tuple[float, int]] = deque()
        """Those of the last `down_window_s`, without the ones that a later one is not less than."""
        self._ups: deque[tuple[float, int]] = deque()

    def sync(self, now: float, load: float, ready: int, coming: int) -> int:
        """Replicas that there should be, at least one."""
        current = ready + coming
        desired = max(1, self.desired(load, ready, coming))
        while self._recommended and self._recommended[0][0] <= now - self.down_window_s:
            self._recommended.popleft()
        highest = max(desired, self._recommended[0][1]) if self._recommended else desired
        while self._recommended and self._recommended[-1][1] <= desired:
            self._recommended.pop()
        self._recommended.append((now, desired))
        if desired < current:
            return min(current, highest)
        return self._limited(now, current, desired) if desired > current else current

    def desired(self, load: float, ready: int, coming: int) -> int:
        """`ceil(replicas * usage / target)` of the pods that are ready, with those that are not counted as idle."""
        current = ready + coming
        ratio = load / ready / self.target
        pods = ready
        if coming and ratio > 1:
            ratio, pods = load / current / self.target, current
            if ratio < 1:
                return current
        if abs(1 - ratio) <= self.tolerance:
            return current
        return math.ceil(ratio * pods - EPSILON)

    def _limited(self, now: float, current: int, desired: int) -> int:
        while self._ups and self._ups[0][0] <= now - self.period_s:
            self._ups.popleft()
        at_start = current - sum(pods for _, pods in self._ups)
        most = max(at_start + self.most_pods, math.ceil(at_start * (1 + self.most_percent / 100)), current)
        allowed = min(desired, most)
        if allowed > current:
            self._ups.append((now, allowed - current))
        return allowed


class Kpa:
    """Knative's Pod Autoscaler with the defaults of config-autoscaler."""

    tick_s = 2.0
    target = 0.7
    """container-concurrency-target-percentage."""
    stable_s = 60.0
    panic_s = 6.0
    panic_threshold = 2.0
    max_up_rate, max_down_rate = 1000.0, 2.0

    def __init__(self, now: float, ready: int) -> None:
        # It begins in panic if there is more than one pod, so as not to shrink without knowing the past.
        self._panicked_at = now if ready > 1 else None
        self._most = ready

    @property
    def is_panicking(self) -> bool:
        """The burst of the last minute decides, and nothing shrinks."""
        return self._panicked_at is not None

    def scale(self, now: float, stable: float, panic: float, ready: int) -> int:
        """Pods that there should be, at least one: this pool cannot scale to zero.

        Args:
            now: Seconds.
            stable: Mean load over the stable window, in pods.
            panic: Mean load over the panic window.
            ready: Pods that serve.
        """
        pods = max(1, ready)
        for_panic = math.ceil(panic / self.target - EPSILON)
        wanted = self.pods_for(stable, ready)
        if for_panic / pods >= self.panic_threshold:
            self._panicked_at = now
        elif self._panicked_at is not None and self._panicked_at + self.stable_s < now:
            self._panicked_at, self._most = None, 0
        if self._panicked_at is not None:
            self._most = max(self._most, wanted, self.pods_for(panic, ready))
            wanted = self._most
        return wanted

    def pods_for(self, load: float, ready: int) -> int:
        """What a mean load asks for, within the limits of rate."""
        pods = max(1, ready)
        most, fewest = math.ceil(self.max_up_rate * pods), math.floor(pods / self.max_down_rate)
        return max(1, min(max(math.ceil(load / self.target - EPSILON), fewest), most))
