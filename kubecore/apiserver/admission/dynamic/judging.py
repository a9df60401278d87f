"""Which policies are for a request, and what a policy's expressions see of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kubecore.apiserver.admission.dynamic.conditions import (
    ConditionError,
    Judgement,
    Matched,
    inputs_of,
    matched,
)
from kubecore.apiserver.admission.dynamic.rules import Targets, object_selected
from kubecore.apiserver.admission.metrics import VALIDATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubecore import _native
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.conditions import Found
    from kubecore.apiserver.admission.dynamic.parameters import Parameters
    from kubecore.apiserver.admission.dynamic.policies import Binding, Policy
    from kubecore.apiserver.admission.dynamic.rules import Match, Namespaces
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.admission.dynamic.versions import Versions
    from kubecore.apiserver.admission.metrics import AdmissionMetrics
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.clock import Clock

T = TypeVar("T")

_NO_PARAMS: Sequence[None] = (None,)
# For all expressions of a policy over one request and one parameter.
BUDGET = 10_000_000


class Judging:
    def __init__(
        self,
        versions: Versions,
        namespaces: Namespaces,
        parameters: Parameters,
        authorizer: Authorizer,
        clock: Clock,
        metrics: AdmissionMetrics,
    ) -> None:
        self.targets = Targets(versions.equivalents, versions.are_fixed)
        self._parameters = parameters
        self._namespaces = namespaces
        self._authorizer = authorizer
        self._metrics = metrics.conditions
        self.clock = clock
        self.metrics = metrics.policies

    def target(self, policy: Policy, subject: Subject) -> Resource | None:
        """What the request is seen as by a policy; None where it is not for the request. Raises 404 for a namespace
        that is not there, and Misconfigured."""
        target = self._matched(policy.match, subject)
        if target is not None and policy.param_kind is not None:
            self._parameters.resource(policy.param_kind)
        return target

    async def params(self, policy: Policy, binding: Binding, subject: Subject) -> Sequence[bytes | None]:
        """Each of a binding's parameters, (None,) where it has none; [] where it is not for the request. Raises as
        `target`."""
        if binding.match is not None and self._matched(binding.match, subject) is None:
            return []
        if policy.param_kind is None:
            return _NO_PARAMS
        return await self._parameters.collect(policy.param_kind, binding.params, subject.namespace)

    def _matched(self, match: Match, subject: Subject) -> Resource | None:
        target = self.targets.of(match, subject)
        if target is None:
            return None
        if not object_selected(match.objects, subject) or not self._namespaces.selected(match.namespaces, subject):
            return None
        return target

    def judge(self, subject: Subject) -> Judgement:
        return Judgement(self._authorizer.answer, subject.ctx.user)

    async def settled(self, work: Callable[[], T]) -> T:
        """What `work` comes to, which evaluates expressions and changes nothing: done over where an authorization
        webhook had to be asked first."""
        return await self._authorizer.settled(work) if self._authorizer.asks_webhooks else work()

    async def applies(self, case: Case, subject: Subject) -> bool:
        """Whether the policy's match conditions hold. Raises ConditionError."""
        if not case.policy.conditions:
            return True
        began = self.clock.monotonic()
        found = await self.settled(case.matched)
        labels = (case.policy.name, "policy", VALIDATE, subject.ctx.operation)
        self._metrics.evaluated(*labels, self.clock.monotonic() - began, errors=found.errors)
        if found.refusal:
            raise ConditionError(found.refusal)
        return found.holds

    async def inputs(self, subject: Subject, target: Resource) -> _native.AdmissionInputs:
        """Raises 404 for a namespace that is not there."""
        namespace = self._namespaces.shown(subject.namespace) if subject.placed else None
        return inputs_of(subject, target, await subject.form(target), namespace)


class Case(NamedTuple):
    """A policy over one request and one parameter."""

    policy: Policy
    inputs: _native.AdmissionInputs
    judge: Judgement
    params: bytes | None

    def matched(self) -> Matched:
        """What the match conditions come to. Raises Unanswered."""
        policy = self.policy
        return matched(
            policy.rules,
            self.inputs,
            self.judge,
            params=self.params,
            only=list(policy.conditions),
            ignores_failure=policy.ignores_failure,
        )

    def evaluate(self, places: list[int], budget: int = BUDGET) -> Found:
        """The values of the expressions at these places. Raises as `Judgement.evaluate`."""
        return self.judge.evaluate(self.policy.rules, self.inputs, budget=budget, params=self.params, only=places)
