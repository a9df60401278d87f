"""All admission that is configured by stored objects, and whether there is any.

Configurations are read anew after one of them has changed: what is stored is in force for the next request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.dynamic import mutating, validating
from kubecore.apiserver.admission.dynamic.asking import Asking
from kubecore.apiserver.admission.dynamic.judging import Judging
from kubecore.apiserver.admission.dynamic.mutating import Reinvocation
from kubecore.apiserver.admission.dynamic.mutating_policies import Invoked, MutatingPolicies
from kubecore.apiserver.admission.dynamic.parameters import Parameters
from kubecore.apiserver.admission.dynamic.policies import mutating_policies, validating_policies
from kubecore.apiserver.admission.dynamic.rules import Match, Namespaces
from kubecore.apiserver.admission.dynamic.validating_policies import ValidatingPolicies
from kubecore.apiserver.admission.dynamic.webhooks import Webhook, webhooks_of
from kubecore.apiserver.admission.metrics import ADMIT, VALIDATE
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.webhooks.credentials import Credentials

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.mutating import Matched
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.admission.dynamic.versions import Versions
    from kubecore.apiserver.admission.metrics import AdmissionMetrics
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.apiserver.webhooks.calling import WebhookCaller
    from kubecore.clock import Clock

JSON = dict[str, Any]

GROUP = "admissionregistration.k8s.io"
_MUTATING = f"mutatingwebhookconfigurations.{GROUP}"
_VALIDATING = f"validatingwebhookconfigurations.{GROUP}"
_MUTATING_POLICIES = f"mutatingadmissionpolicies.{GROUP}"
_VALIDATING_POLICIES = f"validatingadmissionpolicies.{GROUP}"
_BINDINGS = f"admissionpolicybindings.{GROUP}"
# The plugins that ask them, which may be off.
_PLUGINS = {
    _MUTATING_POLICIES: "MutatingAdmissionPolicy",
    _MUTATING: "MutatingAdmissionWebhook",
    _VALIDATING_POLICIES: "ValidatingAdmissionPolicy",
    _VALIDATING: "ValidatingAdmissionWebhook",
}
# Requests for these are never asked about: what is wrong with them could not be mended any more.
EXEMPT = frozenset(
    (
        _MUTATING,
        _VALIDATING,
        _MUTATING_POLICIES,
        _VALIDATING_POLICIES,
        f"mutating{_BINDINGS}",
        f"validating{_BINDINGS}",
    )
)
# Policies are not about these: a faulty one would lock everybody out.
_REVIEWS = frozenset(
    (
        "selfsubjectreviews.authentication.k8s.io",
        "tokenreviews.authentication.k8s.io",
        "localsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "subjectaccessreviews.authorization.k8s.io",
    )
)
# Version, resource, subresource, operation, whether it is for a namespace.
_Request = tuple[str, str, str, str, bool]
T = TypeVar("T")


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
        return match.target(subject, self._versions.equivalents)


class DynamicAdmission:
    """While there is nothing to ask (`awake` is false), requests pay for finding that out and no more."""

    def __init__(
        self,
        cacher: Cacher,
        versions: Versions,
        caller: WebhookCaller,
        authorizer: Authorizer,
        clock: Clock,
        *,
        plugins: Collection[str],
        configured: Mapping[str, Any],
        metrics: AdmissionMetrics,
    ) -> None:
        """`plugins` are those that are on, `configured` has their configurations."""
        self._clock = clock
        self._metrics = metrics
        self.versions = versions
        self._plugins = plugins
        self._cacher = cacher
        namespaces = Namespaces(cacher)
        hooks = {True: _PLUGINS[_MUTATING], False: _PLUGINS[_VALIDATING]}
        credentials = {mutating: configured.get(plugin) or Credentials() for mutating, plugin in hooks.items()}
        self._asking = Asking(caller, namespaces, authorizer, clock, metrics, credentials)
        self._judging = Judging(versions, namespaces, Parameters(cacher, versions), authorizer, clock, metrics)
        numbers = [cached.number for key in sorted(EXEMPT) if (cached := cacher.cached(key)) is not None]
        self._changes = cacher.native.changes(numbers)
        # What configurations are made from; none of them yet.
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
        self._judging.targets.forget()
        self._mutating = _Webhooks(webhooks_of(self._stored(_MUTATING)), self.versions)
        self._validating = _Webhooks(webhooks_of(self._stored(_VALIDATING)), self.versions)
        policies = mutating_policies(self._stored(_MUTATING_POLICIES), self._stored(f"mutating{_BINDINGS}"))
        self._changing = MutatingPolicies(self._judging, policies)
        policies = validating_policies(self._stored(_VALIDATING_POLICIES), self._stored(f"validating{_BINDINGS}"))
        self._refusing = ValidatingPolicies(self._judging, policies)
        every = (self._mutating, self._validating, self._changing, self._refusing)
        self._any = any(one.all for one in every)
        self._seen = revision

    @property
    def mutates(self) -> bool:
        """Whether anybody is there who may want to change requests."""
        self._refresh()
        return bool(self._mutating.all or self._changing.all)

    @property
    def validates(self) -> bool:
        """Whether anybody is there who may want to refuse them."""
        self._refresh()
        return bool(self._validating.all or self._refusing.all)

    def _stored(self, key: str) -> list[JSON]:
        """Configurations; none where their kind is not served, or nobody is to ask them."""
        if self._cacher.cached(key) is None or _PLUGINS.get(key, "") not in ("", *self._plugins):
            return []
        return [loads(item) for item in self._cacher.list(key).items]

    async def mutate(self, subject: Subject, again: Callable[[], bool]) -> bool:
        """Whether anything has changed. `again` has the built-in plugins look at the object once more and says whether
        they changed it. Raises StatusError to refuse.

        Who wants to see what others changed after it is asked twice, at most (upstream pkg/admission/reinvocation.go).
        """
        self._refresh()
        policies = self._changing if self._changing.all and _is_for_policies(subject) else None
        webhooks = self._mutating.matching(subject)
        changed = await self._mutate(subject, again, policies, webhooks)
        self._metrics.admitted(subject.ctx)
        return changed

    async def _mutate(
        self,
        subject: Subject,
        again: Callable[[], bool],
        policies: MutatingPolicies | None,
        webhooks: Sequence[Matched],
    ) -> bool:
        of_policies: Reinvocation[Invoked] = Reinvocation()
        of_webhooks: Reinvocation[int] = Reinvocation()

        async def by_policies(*, twice: bool) -> bool:
            assert policies is not None
            work = policies.mutate(subject, of_policies, again=twice)
            return await self._counted(_MUTATING_POLICIES, ADMIT, subject, work)

        async def by_webhooks(number: int) -> bool:
            work = mutating.mutate(self._asking, subject, webhooks, of_webhooks, number=number)
            return await self._counted(_MUTATING, ADMIT, subject, work)

        first = policies is not None and await by_policies(twice=False)
        second = bool(webhooks) and await by_webhooks(0)
        if not (first or second):
            return False
        changed = again()
        if changed or second:
            of_policies.changed()
        if policies is not None and of_policies.due:
            changed = await by_policies(twice=True) or changed
        if changed:
            of_webhooks.changed()
        if of_webhooks.due:
            await by_webhooks(1)
        return True

    async def validate(self, subject: Subject) -> None:
        """Raises StatusError to refuse."""
        self._refresh()
        if self._refusing.all and _is_for_policies(subject):
            await self._counted(_VALIDATING_POLICIES, VALIDATE, subject, self._refusing.validate(subject))
        webhooks = self._validating.matching(subject)
        if webhooks:
            work = validating.validate(self._asking, subject, webhooks)
            await self._counted(_VALIDATING, VALIDATE, subject, work)

    async def _counted(self, key: str, type_: str, subject: Subject, work: Awaitable[T]) -> T:
        """What the work of a plugin comes to, whose time counts among that of its step."""
        name, ctx = _PLUGINS[key], subject.ctx
        so_far = ctx.admit_seconds if type_ == ADMIT else ctx.validate_seconds
        began = self._clock.monotonic()
        try:
            found = await work
        except StatusError:
            took = self._clock.monotonic() - began
            self._metrics.refused(name, type_, ctx.operation, plugin_seconds=took, step_seconds=so_far + took)
            raise
        took = self._clock.monotonic() - began
        self._metrics.plugins(name, type_, ctx.operation).observe(took)
        if type_ == ADMIT:
            ctx.admit_seconds = so_far + took
        else:
            ctx.validate_seconds = so_far + took
        return found

    async def admit(self, subject: Subject) -> None:
        """Both, of what is not stored."""
        await self.mutate(subject, lambda: False)
        await self.validate(subject)


def _is_for_policies(subject: Subject) -> bool:
    return subject.resource.key not in _REVIEWS
