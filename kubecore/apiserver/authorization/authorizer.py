"""Authorization: what Rust can decide first, then the modes it leaves to Python, in the configured order.

Everything in Python asks an `Authorizer`: the handler chain for requests Rust could not decide, the in-process
transport, admission and the access reviews. Webhooks are what must be waited for: whoever cannot wait hears
`Unanswered`, and has its work done over by `settled` once they have answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import orjson

from kubecore._native import UserInfo
from kubecore.api import errors
from kubecore.api.errors import aggregated
from kubecore.api.quoting import quoted
from kubecore.apiserver.authorization.attributes import Attributes

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.admission.dynamic.conditions import Question
    from kubecore.apiserver.registry.strategy import User

__all__ = [
    "MASTERS",
    "Attributes",
    "Authorizer",
    "Decision",
    "Mode",
    "Opinion",
    "Unanswered",
    "WebhookMode",
    "forbidden",
    "refusal",
]

T = TypeVar("T")

MASTERS = "system:masters"


class Opinion(NamedTuple):
    """Of one mode; `allowed` None is no opinion, `error` why there is none, or why it may be wrong."""

    allowed: bool | None
    reason: str = ""
    error: str = ""


class Decision(NamedTuple):
    """Of all modes together; `denied`: one of them says no, and it is not that none has an opinion."""

    allowed: bool
    reason: str = ""
    error: str = ""
    denied: bool = False


@dataclass(slots=True)
class HeldRules:
    """As PolicyRules; `incomplete` where a mode may allow more than it can tell."""

    rules: list[dict[str, Any]] = field(default_factory=list)
    incomplete: bool = False
    failures: list[str] = field(default_factory=list)


def is_node(user: UserInfo) -> bool:
    return user.username.startswith("system:node:") and "system:nodes" in user.groups


class Mode(Protocol):
    """An authorization mode in Python that answers at once."""

    def authorize(self, user: UserInfo, attributes: Attributes) -> tuple[bool | None, str]:
        """(decision, reason); None is no opinion."""

    def changes_unseen(self, user: UserInfo, attributes: Attributes) -> bool:
        """Whether its opinion may become another though no role and no setting does."""


class WebhookMode(Protocol):
    """One that has to ask somebody, and remembers what it heard with the front."""

    async def ask(self, user: UserInfo, attributes: Attributes) -> Opinion: ...
    async def close(self) -> None: ...


class Unanswered(Exception):
    """A webhook must be asked first."""

    def __init__(self, number: int, user: UserInfo, attributes: Attributes) -> None:
        super().__init__("an authorization webhook has to be asked first")
        self.number, self.user, self.attributes = number, user, attributes


_Heard = dict[tuple[int, UserInfo, Attributes], Opinion]


class Authorizer:
    """The configured modes in order: the first that has an opinion decides, and nobody's opinion is a no."""

    def __init__(self, native: _native.Authorizer, modes: Sequence[str], python_modes: Mapping[str, Mode]) -> None:
        self._native = native
        self._python = python_modes
        self._webhooks: tuple[WebhookMode, ...] = ()
        self._heard: _Heard = {}
        self.changed: Callable[[], None] | None = None
        """Called when the modes have been set."""
        self.set_modes(modes)

    def set_modes(
        self, modes: Sequence[str], webhooks: Sequence[WebhookMode] = (), *, names: Sequence[str] = ()
    ) -> None:
        """`webhooks` are those that the modes of that name stand for, in their order; metrics tell each mode by its
        name."""
        self._modes = tuple(modes)
        self._webhooks = tuple(webhooks)
        self._native.set_modes(list(modes), list(names))
        if self.changed is not None:
            self.changed()

    @property
    def asks_webhooks(self) -> bool:
        return bool(self._webhooks)

    def rules(self, user: UserInfo, namespace: str) -> HeldRules:
        """What the modes can tell of it together (upstream's RuleResolver)."""
        found = HeldRules()
        for mode in self._modes:
            if mode == "RBAC":
                raw, failures = self._native.rules_for(user, namespace)
                found.rules += orjson.loads(raw)
                found.failures += failures
            elif mode == "AlwaysAllow":
                found.rules += [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "nonResourceURLs": ["*"]}]
            elif mode == "Webhook" or (mode == "Node" and is_node(user)):
                found.incomplete = True
                found.failures.append(f"{mode.lower()} authorizer does not support user rule resolution")
        return found

    def authorize(self, user: UserInfo, attributes: Attributes) -> Decision:
        """At once, with the reason also where it is allowed. Raises Unanswered."""
        return self._in_turn(user, attributes, self._heard)

    async def decide(self, user: UserInfo, attributes: Attributes) -> Decision:
        """The same, however long it takes."""
        heard: _Heard = {}
        while True:
            try:
                return self._in_turn(user, attributes, heard)
            except Unanswered as open:
                await self._ask(open, heard)

    async def settled(self, work: Callable[[], T]) -> T:
        """What `work` comes to, which asks this authorizer at once and changes nothing before that."""
        heard: _Heard = {}
        while True:
            self._heard = heard
            try:
                return work()
            except Unanswered as open:
                unanswered = open
            finally:
                self._heard = {}
            await self._ask(unanswered, heard)

    async def _ask(self, open: Unanswered, heard: _Heard) -> None:
        # The modes may have been changed meanwhile.
        if open.number < len(self._webhooks):
            opinion = await self._webhooks[open.number].ask(open.user, open.attributes)
            heard[open.number, open.user, open.attributes] = opinion

    def allows(self, user: UserInfo, attributes: Attributes) -> bool:
        """Whether that is known at once; False says nothing."""
        return self._native.authorize(user, attributes)[0] is True

    async def judge(self, user: UserInfo, attributes: Attributes) -> Decision:
        """As `decide`, and sooner for who may; the reason is told only where it is not allowed."""
        return Decision(True) if self.allows(user, attributes) else await self.decide(user, attributes)

    async def check(self, user: UserInfo, attributes: Attributes) -> None:
        """Raises what `refusal` says, unless it is allowed."""
        decision = await self.judge(user, attributes)
        if not decision.allowed:
            raise refusal(user, attributes, decision)

    def changes_unseen(self, user: UserInfo, attributes: Attributes) -> bool:
        """Whether the decision may become another though no role and no setting does."""
        if self._webhooks:
            return True
        return any(mode in self._modes and one.changes_unseen(user, attributes) for mode, one in self._python.items())

    def answer(self, user: User, question: Question) -> Decision:
        """As `authorize`, of an expression's question. Raises Unanswered."""
        verb, path, group, resource, subresource, namespace, name, fields, labels = question
        if not isinstance(user, UserInfo):
            extra = {key: list(values) for key, values in user.extra.items()}
            user = UserInfo(user.username, user.uid, list(user.groups), extra)
        asked = Attributes(verb, group, "*", resource, subresource, namespace, name, path or "", fields, labels)
        return self.authorize(user, asked)

    def _in_turn(self, user: UserInfo, attributes: Attributes, heard: _Heard) -> Decision:
        if MASTERS in user.groups:
            return Decision(True)
        reasons: list[str] = []
        problems: list[str] = []
        webhooks = 0
        for place, mode in enumerate(self._modes):
            if mode == "Webhook":
                found = self._of_webhook(webhooks, user, attributes, heard)
                webhooks += 1
            else:
                found = self._opinion(mode, user, attributes)
            if found.error:
                problems.append(found.error)
            if found.allowed is not None:
                self._native.decided(place, found.allowed)
                return Decision(found.allowed, found.reason, found.error, denied=not found.allowed)
            if found.reason:
                reasons.append(found.reason)
        problem = aggregated(problems)
        return Decision(False, "\n".join(reasons), problem)

    def _of_webhook(self, number: int, user: UserInfo, attributes: Attributes, heard: _Heard) -> Opinion:
        opinion = heard.get((number, user, attributes))
        if opinion is not None:
            return opinion
        known = self._native.opinion(number, user, attributes)
        if known is not None:
            return Opinion(*known)
        raise Unanswered(number, user, attributes)

    def _opinion(self, mode: str, user: UserInfo, attributes: Attributes) -> Opinion:
        if mode == "AlwaysAllow":
            return Opinion(True)
        if mode == "AlwaysDeny":
            return Opinion(None, "Everything is forbidden.")
        if mode == "RBAC":
            allowed, reason = self._native.rbac_allows(user, attributes)
            return Opinion(allowed or None, reason)
        if mode == "ABAC":
            return Opinion(True) if self._native.abac_allows(user, attributes) else Opinion(None, "No policy matched.")
        python = self._python.get(mode)
        return Opinion(None) if python is None else Opinion(*python.authorize(user, attributes))


def refusal(user: UserInfo, attributes: Attributes, decision: Decision) -> errors.StatusError:
    """403 in Kubernetes' words, 500 when a mode failed and no other allows it."""
    if decision.error:
        return errors.internal_error(decision.error)
    refused = forbidden(user, attributes, decision.reason)
    # It repeats what was sent, and is never to be taken for a page.
    refused.headers.append(("X-Content-Type-Options", "nosniff"))
    return refused


def forbidden(user: UserInfo, attributes: Attributes, reason: str = "") -> errors.StatusError:
    """The 403 for a user and what was asked, which never looks like HTML (upstream
    endpoints/handlers/responsewriters/errors.go)."""
    suffix = f": {reason}" if reason else ""
    if attributes.path:
        message = f"User {quoted(user.username)} cannot {attributes.verb} path {quoted(attributes.path)}"
        return errors.StatusError(403, "Forbidden", f"forbidden: {escape(message, quote=False)}{suffix}", {})
    resource = attributes.resource
    if attributes.subresource:
        resource += f"/{attributes.subresource}"
    group = quoted(attributes.group)
    message = f"User {quoted(user.username)} cannot {attributes.verb} resource {quoted(resource)} in API group {group}"
    if attributes.namespace:
        message += f" in the namespace {quoted(attributes.namespace)}"
    else:
        message += " at the cluster scope"
    told = escape(message, quote=False) + suffix
    return errors.forbidden(attributes.group, attributes.resource, attributes.name, told)
