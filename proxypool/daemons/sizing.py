"""How large each subnet should be: what is known of its load, and the policy with what it remembers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec.structs import replace

from proxypool.core.model import PairSpec, PairState, Snapshot, SubnetSpec
from proxypool.core.scaling.documents import Action, by_subnet, coming
from proxypool.core.scaling.model import Decision, Observation, ScalingSpec, Signal
from proxypool.core.scaling.policy import History, Parameters, decide
from proxypool.core.scaling.records import active_pairs
from proxypool.core.scaling.signals import Signals, SubnetLoad


class Sizing:
    """Of a leader's time: another begins anew, and shrinks nothing before it has watched for long enough."""

    def __init__(self, parameters: Parameters, signals: Signals, decided: Callable[[str, int], None]) -> None:
        """Nothing is remembered. `parameters`: of all subnets, but for what each has of its own. `decided` hears of
        each decision for another number of pairs than there is: its cause, and how many more.
        """
        self._parameters, self._signals, self._decided = parameters, signals, decided
        self._histories: dict[str, History] = {}
        self.decisions: dict[str, Decision] = {}
        self.loads: dict[str, Mapping[Signal, float | None]] = {}

    def use(self, parameters: Parameters) -> None:
        """Other ones from now on. What is remembered of subnets stays."""
        self._parameters = parameters

    def look(
        self, subnets: Mapping[str, SubnetSpec], snapshot: Snapshot, actions: Iterable[Action], now: float
    ) -> None:
        """Decide on these subnets. `actions`: all that are under way. `now`: monotonic seconds."""
        under_way = by_subnet(actions)
        for name, spec in subnets.items():
            if spec.scaling is not None:
                pairs = tuple(snapshot.pairs.get(name, {}).values())
                load = self._signals.load_of(pairs, now)
                decision = self.decide(name, spec.scaling, pairs, under_way.get(name, ()), load, now)
                before, more = self.decisions.get(name), decision.wanted - active_pairs(pairs)
                if more and (before is None or before.wanted != decision.wanted):
                    self._decided(decision.cause.value, more)
                self.decisions[name], self.loads[name] = decision, load.load

    def decide(
        self,
        subnet: str,
        scaling: ScalingSpec,
        pairs: Collection[PairSpec],
        actions: Collection[Action],
        load: SubnetLoad,
        now: float,
    ) -> Decision:
        """The policy's word on a subnet. `actions`: what is done to it. `now`: monotonic seconds."""
        parameters = replace(
            self._parameters, min_pairs=scaling.min_pairs, max_pairs=max(scaling.min_pairs, scaling.max_pairs)
        )
        observation = Observation(
            now=now,
            active=active_pairs(pairs),
            coming=coming(actions),
            draining=sum(pair.state is PairState.DRAINING for pair in pairs),
            load=load.load,
            at_least=load.at_least,
            drops=load.drops,
        )
        history = self._histories.get(subnet, History())
        self._histories[subnet], decision = decide(parameters, history, observation)
        return decision

    def keep(self, subnets: Iterable[str]) -> None:
        """Forget all others."""
        for name in self._histories.keys() - set(subnets):
            del self._histories[name]
            self.decisions.pop(name, None)
            self.loads.pop(name, None)
