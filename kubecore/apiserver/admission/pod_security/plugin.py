"""PodSecurity: refuses pods that their namespace's standard forbids, warns of and reports others, and says which pods a
namespace has that a new standard would refuse.

After upstream k8s.io/pod-security-admission `admission/admission.go` and plugin/pkg/admission/security/podsecurity.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.api.errors import aggregated
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.admission.held_namespaces import HeldNamespaces
from kubecore.apiserver.admission.pod_security.configuration import PodSecurityConfiguration
from kubecore.apiserver.admission.pod_security.evaluation import Verdict, judge
from kubecore.apiserver.admission.pod_security.policy import (
    PREFIX,
    PRIVILEGED,
    Policy,
    Standard,
    asked_for,
    stricter,
)
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.api.errors import Cause
    from kubecore.apiserver.admission.pod_security.metrics import PodSecurityMetrics
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

# Where the template of a kind's pods is.
_TEMPLATES = {
    "replicationcontrollers": ("spec", "template"),
    "podtemplates": ("template",),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
# Nothing of what these bring is a pod.
_IGNORED_SUBRESOURCES = ("exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status")
# How many pods of a namespace are looked at, for how long, and how many before others may go on.
_PODS_LOOKED_AT, _SECONDS, _AT_ONCE = 3000, 1.0, 50


class PodSecurity(Plugin):
    name = "PodSecurity"

    def __init__(self, cacher: Cacher, configuration: PodSecurityConfiguration, metrics: PodSecurityMetrics) -> None:
        self._cacher = cacher
        self._metrics = metrics
        self._configuration = configuration
        self._policies: HeldNamespaces[tuple[Policy, Sequence[Cause]]] = HeldNamespaces(
            cacher, lambda namespace: asked_for(meta.labels(namespace), configuration.defaults)
        )

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        if operation not in (CREATE, UPDATE):
            return False
        if resource_key == "pods":
            return subresource not in _IGNORED_SUBRESOURCES
        return not subresource and (resource_key == "namespaces" or resource_key in _TEMPLATES)

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        assert obj is not None
        if ctx.resource_key == "namespaces":
            self._check_labels(ctx, obj, old)
            return
        if ctx.facet is not None:
            # It comes through a subresource (scale), which has no template.
            return
        if (exempt := self._exempt(ctx)) is not None:
            self._metrics.exempted(ctx)
            ctx.annotate(f"{PREFIX}exempt", exempt)
            return
        policy, causes = self._policy(ctx)
        if ctx.resource_key == "pods":
            if not causes and policy.is_privileged:
                self._metrics.passed(ctx)
                ctx.annotate(f"{PREFIX}enforce-policy", f"{PRIVILEGED}:latest")
            elif old is None or _differs(obj, old):
                self._judge(ctx, policy, causes, obj.get("metadata") or {}, obj.get("spec") or {}, enforce=True)
            return
        if not causes and policy.warn.level == policy.audit.level == PRIVILEGED:
            return
        template: Any = obj
        for step in _TEMPLATES[ctx.resource_key]:
            template = (template or {}).get(step)
        if template is not None:
            metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
            self._judge(ctx, policy, causes, metadata, spec, enforce=False)

    def _exempt(self, ctx: RequestContext) -> str | None:
        if ctx.namespace in self._configuration.namespaces:
            return "namespace"
        return "user" if ctx.user.username in self._configuration.usernames else None

    def _policy(self, ctx: RequestContext) -> tuple[Policy, Sequence[Cause]]:
        try:
            return self._policies.get(ctx.namespace)
        except errors.StatusError:
            self._metrics.failed(ctx, fatal=True)
            raise errors.internal_error(f'failed to lookup namespace "{ctx.namespace}"') from None

    def _judge(
        self, ctx: RequestContext, policy: Policy, causes: Sequence[Cause], metadata: JSON, spec: JSON, *, enforce: bool
    ) -> None:
        """Raises 403 for what is forbidden; warns, and tells the audit."""
        if spec.get("runtimeClassName") in self._configuration.runtime_classes:
            self._metrics.exempted(ctx)
            ctx.annotate(f"{PREFIX}exempt", "runtimeClass")
            return
        if causes:
            self._metrics.failed(ctx, fatal=False)
            ctx.annotate(f"{PREFIX}error", f"Failed to parse policy: {_aggregate(causes)}")
        verdicts: dict[Standard, Verdict] = {}

        def verdict(standard: Standard) -> Verdict:
            if standard not in verdicts:
                verdicts[standard] = judge(standard, metadata, spec)
            return verdicts[standard]

        if enforce:
            ctx.annotate(f"{PREFIX}enforce-policy", str(policy.enforce))
        if not (audited := verdict(policy.audit)).allowed:
            self._metrics.evaluated(ctx, policy.audit, "audit", allowed=False)
            text = f'would violate PodSecurity "{policy.audit}": {audited.detail}'
            ctx.annotate(f"{PREFIX}audit-violations", text)
        if enforce:
            enforced = verdict(policy.enforce)
            self._metrics.evaluated(ctx, policy.enforce, "enforce", allowed=enforced.allowed)
            if not enforced.allowed:
                plural, _, group = ctx.resource_key.partition(".")
                text = f'violates PodSecurity "{policy.enforce}": {enforced.detail}'
                raise errors.forbidden(group, plural, ctx.name, text)
        if not (warned := verdict(policy.warn)).allowed:
            self._metrics.evaluated(ctx, policy.warn, "warn", allowed=False)
            ctx.warn(f'would violate PodSecurity "{policy.warn}": {warned.detail}')

    # --- namespaces

    def _check_labels(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> None:
        """Raises 422 for labels that say nothing."""
        policy, causes = asked_for(meta.labels(obj), self._configuration.defaults)
        before = None if old is None else asked_for(meta.labels(old), self._configuration.defaults)
        if causes and (before is None or before[1] != causes):
            raise errors.invalid("Namespace", ctx.name, causes)
        if ctx.name in self._configuration.namespaces and (
            before is None or _is_to_be_checked(policy.enforce, before[0].enforce)
        ):
            self._warn_exempt(ctx, policy, meta.labels(obj))

    def _warn_exempt(self, ctx: RequestContext, policy: Policy, labels: dict[str, str]) -> None:
        if policy.is_privileged or policy.equivalent(self._configuration.defaults):
            return
        told = [
            f"{mode}={standard}"
            for mode, standard in (("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn))
            if standard.level != PRIVILEGED
            if f"{PREFIX}{mode}" in labels or f"{PREFIX}{mode}-version" in labels
        ]
        text = f'namespace "{ctx.name}" is exempt from Pod Security, and the policy ({", ".join(told)}) will be ignored'
        ctx.warn(text)

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        """Where a namespace is to enforce another standard: which of its pods that would refuse."""
        if ctx.resource_key != "namespaces" or obj is None or old is None:
            return None
        if ctx.name in self._configuration.namespaces:
            return None
        enforce = asked_for(meta.labels(obj), self._configuration.defaults)[0].enforce
        if not _is_to_be_checked(enforce, asked_for(meta.labels(old), self._configuration.defaults)[0].enforce):
            return None
        return self._warn_of_pods(ctx, enforce)

    async def _warn_of_pods(self, ctx: RequestContext, enforce: Standard) -> None:
        pods = self._prioritized([loads(item) for item in self._cacher.list("pods", ctx.name).items])
        violations = _Violations()
        until = ctx.clock.monotonic() + _SECONDS
        checked = 0
        for pod in pods[:_PODS_LOOKED_AT]:
            checked += 1
            violations.add(meta.name(pod), judge(enforce, pod["metadata"], pod.get("spec") or {}))
            if checked % _AT_ONCE == 0:
                await ctx.clock.sleep(0)
                if ctx.clock.monotonic() >= until:
                    break
        if checked < len(pods):
            ctx.warn(
                f"new PodSecurity enforce level only checked against the first {checked} of {len(pods)} existing pods"
            )
        if told := violations.told():
            ctx.warn(f'existing pods in namespace "{ctx.name}" violate the new PodSecurity enforce level "{enforce}"')
        for text in told:
            ctx.warn(text)

    def _prioritized(self, pods: Iterable[JSON]) -> list[JSON]:
        """Without exempt ones; of the pods of one controller one comes early, the others after all else."""
        first, rest = [], []
        seen: set[str] = set()
        for pod in pods:
            if (pod.get("spec") or {}).get("runtimeClassName") in self._configuration.runtime_classes:
                continue
            owner = meta.controller_of(pod)
            if owner is not None and owner["uid"] in seen:
                rest.append(pod)
                continue
            if owner is not None:
                seen.add(owner["uid"])
            first.append(pod)
        return first + rest


@dataclass(slots=True)
class _Violations:
    """Pods by what is wrong with them: the first one's name, and how many there are."""

    pods: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, name: str, verdict: Verdict) -> None:
        if not verdict.allowed:
            first, count = self.pods.get(verdict.reason, (name, 0))
            self.pods[verdict.reason] = min(first, name), count + 1

    def told(self) -> list[str]:
        return sorted(f"{name}{_others(count - 1)}: {reason}" for reason, (name, count) in self.pods.items())


def _others(count: int) -> str:
    return f" (and {count} other pod{'' if count == 1 else 's'})" if count else ""


def _is_to_be_checked(new: Standard, old: Standard) -> bool:
    """Whether pods that the old standard let in may be none that the new one does."""
    if new == old or new.level == PRIVILEGED:
        return False
    return new.version != old.version or stricter(new.level, old.level)


def _differs(pod: JSON, old: JSON) -> bool:
    """Whether an update changes anything that is judged; of what can be changed that is images, and new containers."""
    spec, before = pod.get("spec") or {}, old.get("spec") or {}
    for name in ("containers", "initContainers"):
        new, was = spec.get(name) or (), before.get(name) or ()
        if [one.get("image") for one in new] != [one.get("image") for one in was]:
            return True
    images = {one["name"]: one.get("image") for one in before.get("ephemeralContainers") or ()}
    return any(
        one["name"] not in images or one.get("image") != images[one["name"]]
        for one in spec.get("ephemeralContainers") or ()
    )


def _aggregate(causes: Sequence[Cause]) -> str:
    told = list(dict.fromkeys(map(str, causes)))
    return aggregated(told)
