"""All admission that is configured by stored objects, and whether there is any.

Configurations are read anew after one of them has changed: what is stored is in force for the next request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.admission.dynamic import mutating, validating
from kubecore.apiserver.admission.dynamic.asking import Asking
from kubecore.apiserver.admission.dynamic.rules import Match, Namespaces
from kubecore.apiserver.admission.dynamic.webhooks import Webhook, webhooks_of
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.conditions import Question
    from kubecore.apiserver.admission.dynamic.mutating import Matched
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.admission.dynamic.versions import Versions
    from kubecore.apiserver.registry.strategy import User
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.apiserver.webhooks.calling import WebhookCaller
    from kubecore.clock import Clock

JSON = dict[str, Any]

GROUP = "admissionregistration.k8s.io"
_MUTATING = f"mutatingwebhookconfigurations.{GROUP}"
_VALIDATING = f"validatingwebhookconfigurations.{GROUP}"
# Requests for these are never asked about: what is wrong with them could not be mended any more.
EXEMPT = frozenset(
    (
        _MUTATING,
        _VALIDATING,
        f"validatingadmissionpolicies.{GROUP}",
        f"validatingadmissionpolicybindings.{GROUP}",
        f"mutatingadmissionpolicies.{GROUP}",
        f"mutatingadmissionpolicybindings.{GROUP}",
    )
)
# Version, resource, subresource, operation, whether it is for a namespace.
_Request = tuple[str, str, str, str, bool]


class _Webhooks:
    """Those of one kind, with what rules make of the requests seen so far."""

    def __init__(self, webhooks: Sequence[Webhook], versions: Versions) -> None:
        self.all = webhooks
        self._versions = versions
        self._known: dict[_Request, tuple[Matched, ...]] = {}

    def matching(self, subject: Subject) -> tuple[Matched, ...]:
        if not self.all:
            return ()
        resource = subject.resource
        request = (resource.api_version, resource.plural, subject.subresource, subject.operation, subject.placed)
        found = self._known.get(request)
        if found is None:
            found = tuple(
                (place, webhook, target)
                for place, webhook in enumerate(self.all)
                if (target := self._target(webhook.match, subject)) is not None
            )
            # What versions a custom resource has is another matter tomorrow.
            if self._versions.are_fixed(resource):
                self._known[request] = found
        return found

    def _target(self, match: Match, subject: Subject) -> Resource | None:
        return match.target(subject, match.rules, self._versions.equivalents)


class DynamicAdmission:
    """While there is nothing to ask (`awake` is false), requests pay for finding that out and no more."""

    def __init__(
        self,
        cacher: Cacher,
        versions: Versions,
        caller: WebhookCaller,
        authorize: Callable[[User, Question], tuple[bool, str]],
        clock: Clock,
    ) -> None:
        self.versions = versions
        self._cacher = cacher
        self._asking = Asking(caller, Namespaces(cacher), authorize, clock)
        self._mutating = self._validating = _Webhooks((), versions)
        configured = [cached.number for key in sorted(EXEMPT) if (cached := cacher.cached(key)) is not None]
        self._changes = cacher.native.changes(configured)
        # What `_mutating` and `_validating` were made from; none of them yet.
        self._seen = -1
        self._any = False

    @property
    def awake(self) -> bool:
        return self._any or self._changes.revision != self._seen

    def _refresh(self) -> None:
        """Reads configurations that have changed."""
        revision = self._changes.revision
        if revision == self._seen:
            return
        self._mutating = self._webhooks(_MUTATING)
        self._validating = self._webhooks(_VALIDATING)
        self._any = bool(self._mutating.all or self._validating.all)
        self._seen = revision

    def _webhooks(self, key: str) -> _Webhooks:
        return _Webhooks(webhooks_of([loads(item) for item in self._cacher.list(key).items]), self.versions)

    async def mutate(self, subject: Subject, again: Callable[[], bool]) -> bool:
        """Whether anything has changed. `again`: see `mutating.mutate`. Raises StatusError to refuse."""
        self._refresh()
        webhooks = self._mutating.matching(subject)
        return bool(webhooks) and await mutating.mutate(self._asking, subject, webhooks, again)

    async def validate(self, subject: Subject) -> None:
        """Raises StatusError to refuse."""
        self._refresh()
        webhooks = self._validating.matching(subject)
        if webhooks:
            await validating.validate(self._asking, subject, webhooks)

    async def admit(self, subject: Subject) -> None:
        """Both, of what is not stored."""
        await self.mutate(subject, lambda: False)
        await self.validate(subject)
