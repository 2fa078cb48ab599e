"""How large each subnet should be: the policy, with what it remembers of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.documents import Action, coming
from proxypool.core.scaling.model import Decision, Observation, ScalingSpec
from proxypool.core.scaling.policy import History, Parameters, decide
from proxypool.core.scaling.records import active_pairs
from proxypool.core.scaling.signals import SubnetLoad


class Sizing:
    """Of a leader's time: another begins anew, and shrinks nothing before it has watched for long enough."""

    def __init__(self, parameters: Parameters) -> None:
        """Nothing is remembered. `parameters`: of all subnets, but for what each has of its own."""
        self._parameters = parameters
        self._histories: dict[str, History] = {}

    def use(self, parameters: Parameters) -> None:
        """Other ones from now on. What is remembered of subnets stays."""
        self._parameters = parameters

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
