"""The mode Webhook: somebody else decides, who is sent a SubjectAccessReview.

After upstream k8s.io/apiserver plugin/pkg/authorizer/webhook. What was answered the front remembers, so that a request
like one that was decided does not come here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from kubecore import _native
from kubecore.api.errors import aggregated
from kubecore.apiserver.authorization.attributes import Attributes, review_spec
from kubecore.apiserver.authorization.authorizer import Opinion
from kubecore.apiserver.webhooks.reviewing import Reviewer, ReviewFailed

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.authorization.metrics import WebhookMetrics
    from kubecore.clock import Clock

JSON = dict[str, Any]

log = logging.getLogger("kubecore.apiserver.authorization")

VERSIONS = ("v1", "v1beta1")
# Conditions look at nothing but the question, so that they come to the same again.
_SKIPPED_SECONDS = 300.0
_CONTRADICTIONS, _LONGEST_KEY = 1000, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTerms:
    """How one webhook is asked, and what is made of its silence. Times in seconds; 0: answers are not remembered."""

    name: str
    version: str
    authorized_ttl: float
    unauthorized_ttl: float
    denies_on_failure: bool = False
    conditions: Sequence[_native.IdentityExpression] = ()
    """One that is false: the webhook has no opinion."""


class Webhook:
    """Complies with `WebhookMode`; `number` is its place among the webhooks."""

    def __init__(
        self,
        number: int,
        reviewer: Reviewer,
        terms: WebhookTerms,
        native: _native.Authorizer,
        clock: Clock,
        metrics: WebhookMetrics,
    ) -> None:
        self._metrics = metrics
        reviewer.heard = partial(metrics.heard, terms.name)
        self._number = number
        self._reviewer = reviewer
        self._terms = terms
        self._native = native
        self._clock = clock
        self._asking: dict[bytes, asyncio.Task[Opinion]] = {}
        # What the front cannot remember: opinions that are contradictions, by what was asked, and until when.
        self._contradictions: dict[bytes, tuple[Opinion, float]] = {}
        self._closed = False

    async def ask(self, user: UserInfo, attributes: Attributes) -> Opinion:
        spec = review_spec(user, attributes)
        key = orjson.dumps(spec)
        known, until = self._contradictions.get(key, (None, 0.0))
        if known is not None and until > self._clock.monotonic():
            return known
        asking = self._asking.get(key)
        if asking is None:
            work = self._ask(user, attributes, spec, key)
            asking = self._asking[key] = asyncio.get_running_loop().create_task(work, name=self._terms.name)
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, user: UserInfo, attributes: Attributes, spec: JSON, key: bytes) -> Opinion:
        try:
            wanted = self._matches(spec)
        except ValueError as error:
            return self._failed(str(error))
        if not wanted:
            self._remember(user, attributes, Opinion(None), _SKIPPED_SECONDS)
            return Opinion(None)
        try:
            status = await self._status(spec)
        except ReviewFailed as failed:
            log.error("Failed to make webhook authorizer request: %s", failed)
            if not self._terms.denies_on_failure:
                self._metrics.failed_open(self._terms.name, failed.result)
            return self._failed(str(failed))
        opinion = _said(status)
        seconds = self._terms.authorized_ttl if status.get("allowed") else self._terms.unauthorized_ttl
        if not opinion.error:
            self._remember(user, attributes, opinion, seconds)
        elif seconds > 0 and len(key) < _LONGEST_KEY:
            if len(self._contradictions) >= _CONTRADICTIONS:
                self._contradictions.clear()
            self._contradictions[key] = opinion, self._clock.monotonic() + seconds
        return opinion

    def _remember(self, user: UserInfo, attributes: Attributes, opinion: Opinion, seconds: float) -> None:
        # Once closed, its number is another webhook's.
        if seconds > 0 and not self._closed:
            until = self._clock.now().timestamp() + seconds
            self._native.remember(
                self._number, user, attributes, allowed=opinion.allowed, reason=opinion.reason, until=until
            )

    def _matches(self, spec: JSON) -> bool:
        """Raises ValueError for conditions that fail, unless another one is false."""
        if not self._terms.conditions:
            return True
        began = self._clock.monotonic()
        holds, problems = _evaluated(self._terms.conditions, orjson.dumps(_for_conditions(spec)))
        seconds = self._clock.monotonic() - began
        self._metrics.evaluated(self._terms.name, seconds, excluded=not holds, failed=bool(problems))
        if holds and problems:
            raise ValueError(aggregated(problems))
        return holds

    async def _status(self, spec: JSON) -> JSON:
        if self._terms.version == "v1beta1":
            spec = {("group" if key == "groups" else key): value for key, value in spec.items()}
        review = {
            "apiVersion": f"authorization.k8s.io/{self._terms.version}",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": spec,
            "status": {"allowed": False},
        }
        answer = await self._reviewer.review(review)
        return answer.get("status") or {}

    def _failed(self, why: str) -> Opinion:
        return Opinion(False if self._terms.denies_on_failure else None, "", why)

    async def close(self) -> None:
        self._closed = True
        await self._reviewer.close()


def _evaluated(conditions: Sequence[_native.IdentityExpression], seen: bytes) -> tuple[bool, list[str]]:
    """Whether none of them is false, and what is wrong with those that cannot tell."""
    problems: list[str] = []
    for condition in conditions:
        try:
            if condition.evaluate(seen) is not True:
                return False, problems
        except ValueError as error:
            problems.append(f"cel evaluation error: {error}")
    return True, problems


def _said(status: JSON) -> Opinion:
    reason = str(status.get("reason") or "")
    allowed, denied = status.get("allowed") is True, status.get("denied") is True
    if allowed and denied:
        return Opinion(False, reason, "webhook subject access review returned both allow and deny response")
    return Opinion(False if denied else True if allowed else None, reason)


def _for_conditions(spec: JSON) -> JSON:
    """With every text that there could be, as conditions see it."""
    seen = {"uid": "", "extra": {}, **spec}
    if "resourceAttributes" in spec:
        names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        seen["resourceAttributes"] = {**dict.fromkeys(names, ""), **spec["resourceAttributes"]}
    return seen
