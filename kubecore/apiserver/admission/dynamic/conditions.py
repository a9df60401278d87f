"""Expressions of webhooks and policies over a request.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/matchconditions/matcher.go and pkg/admission/plugin/cel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kubecore import _native
from kubecore.api import meta
from kubecore.apiserver.admission.dynamic.reviews import request_of
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.rules import Namespaces
    from kubecore.apiserver.admission.dynamic.subjects import Form, Subject
    from kubecore.apiserver.registry.strategy import User

JSON = dict[str, Any]
# Verb, path of what is no resource, group, resource, subresource, namespace, name, field and label selector.
Question = tuple[str, str | None, str, str, str, str, str, str, str]

MATCH_BUDGET = 2_500_000
_NAMESPACE_METADATA = tuple(one for one in meta.FIELDS if one not in ("selfLink", "ownerReferences", "managedFields"))


class ConditionError(Exception):
    """Conditions that could not be evaluated; the text says why."""


class Judgement:
    """Asks the authorizer for expressions about one user."""

    def __init__(self, ask: Callable[[User, Question], tuple[bool, str]], user: User) -> None:
        self._ask = ask
        self._user = user

    def __call__(self, account: tuple[str, str] | None, question: Question) -> tuple[bool, str, str | None]:
        user = self._user if account is None else _service_account(*account)
        allowed, reason = self._ask(user, question)
        return allowed, reason, None


def _service_account(namespace: str, name: str) -> User:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return _native.UserInfo(f"system:serviceaccount:{namespace}:{name}", "", groups)


def inputs_of(subject: Subject, target: Resource, form: Form, namespace: bytes | None) -> _native.AdmissionInputs:
    """`namespace` is the one of the request, if expressions are to see it."""
    return _native.AdmissionInputs(
        object=form.object,
        old=form.old,
        request=orjson.dumps(request_of(subject, target)),
        namespace=namespace,
    )


def namespace_object(namespaces: Namespaces, subject: Subject) -> bytes | None:
    """The namespace as expressions see it. Raises 404."""
    if not subject.namespace:
        return None
    stored = loads(namespaces.stored(subject.namespace))
    metadata = stored["metadata"]
    kept = {name: metadata[name] for name in _NAMESPACE_METADATA if name in metadata}
    return orjson.dumps({"metadata": kept, "spec": stored.get("spec") or {}, "status": stored.get("status") or {}})


def holds(
    rules: _native.AdmissionRules,
    inputs: _native.AdmissionInputs,
    judge: Judgement,
    *,
    params: bytes | None = None,
    only: list[int] | None = None,
    ignores_failure: bool,
) -> bool:
    """Whether all conditions hold; one that is false decides. Raises ConditionError."""
    try:
        found, _ = rules.evaluate(inputs, judge, budget=MATCH_BUDGET, params=params, only=only)
    except ValueError as error:
        if ignores_failure:
            return False
        raise ConditionError(str(error)) from None
    if any(value is False for value, _ in found):
        return False
    wrong = list(dict.fromkeys(why for _, why in found if why is not None))
    if not wrong:
        return True
    if ignores_failure:
        return False
    raise ConditionError(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]")
