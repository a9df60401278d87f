"""Which policies are for a request, and what a policy's expressions see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kubecore.apiserver.admission.dynamic.conditions import Judgement, holds, inputs_of, namespace_object
from kubecore.apiserver.admission.dynamic.rules import object_selected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubecore import _native
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.conditions import Question
    from kubecore.apiserver.admission.dynamic.parameters import Parameters
    from kubecore.apiserver.admission.dynamic.policies import Binding, Policy
    from kubecore.apiserver.admission.dynamic.rules import Match, Namespaces
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.admission.dynamic.versions import Versions
    from kubecore.apiserver.registry.strategy import User

# For all expressions of a policy over one request and one parameter.
BUDGET = 10_000_000


class Judging:
    def __init__(
        self,
        versions: Versions,
        namespaces: Namespaces,
        parameters: Parameters,
        authorize: Callable[[User, Question], tuple[bool, str]],
    ) -> None:
        self._versions = versions
        self._parameters = parameters
        self._namespaces = namespaces
        self._authorize = authorize

    def target(self, policy: Policy, subject: Subject) -> Resource | None:
        """What the request is seen as by a policy; None where it is not for the request. Raises 404 for a namespace
        that is not there, and Misconfigured."""
        target = self._matched(policy.match, subject)
        if target is not None and policy.param_kind is not None:
            self._parameters.resource(policy.param_kind)
        return target

    async def params(self, policy: Policy, binding: Binding, subject: Subject) -> Sequence[bytes | None]:
        """Each of a binding's parameters, [None] where it has none; [] where it is not for the request. Raises as
        `target`."""
        if binding.match is not None and self._matched(binding.match, subject) is None:
            return []
        return await self._parameters.collect(policy.param_kind, binding.params, subject.namespace)

    def _matched(self, match: Match, subject: Subject) -> Resource | None:
        target = match.target(subject, self._versions.equivalents)
        if target is None:
            return None
        if not object_selected(match.objects, subject) or not self._namespaces.selected(match.namespaces, subject):
            return None
        return target

    def judge(self, subject: Subject) -> Judgement:
        return Judgement(self._authorize, subject.ctx.user)

    async def inputs(self, subject: Subject, target: Resource) -> _native.AdmissionInputs:
        """Raises 404 for a namespace that is not there."""
        namespace = namespace_object(self._namespaces, subject) if subject.placed else None
        return inputs_of(subject, target, await subject.form(target), namespace)


class Case(NamedTuple):
    """A policy over one request and one parameter."""

    policy: Policy
    inputs: _native.AdmissionInputs
    judge: Judgement
    params: bytes | None

    def applies(self) -> bool:
        """Whether the match conditions hold. Raises ConditionError."""
        policy = self.policy
        if not policy.conditions:
            return True
        return holds(
            policy.rules,
            self.inputs,
            self.judge,
            params=self.params,
            only=list(policy.conditions),
            ignores_failure=policy.ignores_failure,
        )

    def evaluate(
        self, places: list[int], budget: int = BUDGET
    ) -> tuple[list[tuple[bool | str | bytes | None, str | None]], int]:
        """The values of the expressions at these places, or what is wrong with them, and the budget that is left.
        Raises ValueError when it does not do."""
        return self.policy.rules.evaluate(self.inputs, self.judge, budget=budget, params=self.params, only=places)
