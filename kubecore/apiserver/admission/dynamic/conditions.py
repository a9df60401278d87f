"""Expressions of webhooks and policies over a request.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/matchconditions/matcher.go and pkg/admission/plugin/cel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore import _native
from kubecore.api.errors import aggregated
from kubecore.apiserver.admission.dynamic.reviews import request_of
from kubecore.apiserver.authorization.authorizer import Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.subjects import Form, Subject
    from kubecore.apiserver.authorization.authorizer import Decision
    from kubecore.apiserver.registry.strategy import User

JSON = dict[str, Any]
# Verb, path of what is no resource, group, resource, subresource, namespace, name, field and label selector.
Question = tuple[str, str | None, str, str, str, str, str, str, str]

MATCH_BUDGET = 2_500_000


Found = tuple[list[tuple[bool | str | bytes | None, str | None]], int]


class ConditionError(Exception):
    """Conditions that could not be evaluated; the text says why."""


class Judgement:
    """Asks the authorizer for expressions about one user."""

    def __init__(self, ask: Callable[[User, Question], Decision], user: User) -> None:
        self._ask = ask
        self._user = user
        self._open: Unanswered | None = None

    def __call__(self, account: tuple[str, str] | None, question: Question) -> tuple[bool, str, str | None]:
        user = self._user if account is None else _service_account(*account)
        try:
            decision = self._ask(user, question)
        except Unanswered as open:
            # Expressions go on; what they come to is worth nothing.
            self._open = open
            return False, "", str(open)
        return decision.allowed, decision.reason, decision.error or None

    def evaluate(
        self,
        rules: _native.AdmissionRules,
        inputs: _native.AdmissionInputs,
        *,
        budget: int,
        params: bytes | None,
        only: list[int] | None,
    ) -> Found:
        """The values of expressions, or what is wrong with them, and the budget that is left. Raises ValueError when it
        does not do, and Unanswered where a webhook must be asked first."""
        self._open = None
        try:
            return rules.evaluate(inputs, self, budget=budget, params=params, only=only)
        finally:
            if self._open is not None:
                raise self._open

    def holds(
        self, rules: _native.AdmissionRules, inputs: _native.AdmissionInputs, *, budget: int, only: list[int]
    ) -> bool:
        """Whether all of these expressions, which see no parameters, are known to be true; else they are to be
        evaluated to hear why."""
        self._open = None
        return rules.hold(inputs, self, budget=budget, only=only) and self._open is None


def _service_account(namespace: str, name: str) -> User:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return _native.UserInfo(f"system:serviceaccount:{namespace}:{name}", "", groups)


def inputs_of(
    subject: Subject, target: Resource, form: Form, namespace: _native.AdmissionNamespace | None
) -> _native.AdmissionInputs:
    """`namespace` is the one of the request, if expressions are to see it."""
    return _native.AdmissionInputs(
        object=form.object,
        old=form.old,
        request=request_of(subject, target),
        namespace=namespace,
    )


class Matched(NamedTuple):
    """Whether all conditions hold, how many could not be evaluated, and why the request is refused for that."""

    holds: bool
    errors: int = 0
    refusal: str = ""


def matched(
    rules: _native.AdmissionRules,
    inputs: _native.AdmissionInputs,
    judge: Judgement,
    *,
    params: bytes | None = None,
    only: list[int] | None = None,
    ignores_failure: bool,
) -> Matched:
    """One condition that is false decides. Raises Unanswered."""
    try:
        found, _ = judge.evaluate(rules, inputs, budget=MATCH_BUDGET, params=params, only=only)
    except ValueError as error:
        return Matched(False, refusal="" if ignores_failure else str(error))
    errors = [why for _, why in found if why is not None]
    if any(value is False for value, _ in found):
        return Matched(False, len(errors))
    if not errors:
        return Matched(True)
    if ignores_failure:
        return Matched(False, len(errors))
    wrong = list(dict.fromkeys(errors))
    return Matched(False, len(errors), aggregated(wrong))
