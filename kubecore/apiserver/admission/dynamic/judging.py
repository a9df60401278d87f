"""Which policies are for a request, and what a policy's expressions see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.apiserver.admission.dynamic.conditions import Judgement, holds, inputs_of, namespace_object
from kubecore.apiserver.admission.dynamic.rules import object_selected

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self.versions = versions
        self.parameters = parameters
        self._namespaces = namespaces
        self._authorize = authorize

    def target(self, match: Match, subject: Subject) -> Resource | None:
        """What the request is seen as by what matches it; None where it does not. Raises 404 for a namespace that is
        not there."""
        target = match.target(subject, self.versions.equivalents)
        if target is None:
            return None
        if not object_selected(match.objects, subject) or not self._namespaces.selected(match.namespaces, subject):
            return None
        return target

    def bound(self, binding: Binding, subject: Subject) -> bool:
        return binding.match is None or self.target(binding.match, subject) is not None

    def judge(self, subject: Subject) -> Judgement:
        return Judgement(self._authorize, subject.ctx.user)

    async def inputs(self, subject: Subject, target: Resource) -> _native.AdmissionInputs:
        """Raises 404 for a namespace that is not there."""
        namespace = namespace_object(self._namespaces, subject) if subject.placed else None
        return inputs_of(subject, target, await subject.form(target), namespace)

    def applies(self, policy: Policy, inputs: _native.AdmissionInputs, judge: Judgement, params: bytes | None) -> bool:
        """Whether the match conditions hold. Raises ConditionError."""
        if not policy.conditions:
            return True
        return holds(
            policy.rules,
            inputs,
            judge,
            params=params,
            only=list(policy.conditions),
            ignores_failure=policy.ignores_failure,
        )
