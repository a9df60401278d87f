"""ImagePolicyWebhook: somebody else says which images pods may use.

After upstream plugin/pkg/admission/imagepolicy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import durations, errors, meta
from kubecore.api.configuration_file import InvalidConfiguration, complain, misfits, parsed, unread
from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.webhooks.reviewing import Reviewer, ReviewFailed

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.clock import Clock

JSON = dict[str, Any]

_FIELDS = {"kubeConfigFile": str, "allowTTL": int, "denyTTL": int, "retryBackoff": int, "defaultAllow": bool}
_VERSION = "imagepolicy.k8s.io/v1alpha1"
_AUDIT = "imagepolicywebhook.image-policy.k8s.io/"
_FAILED_OPEN = "alpha.image-policy.k8s.io/failed-open"
_KNOWN = 1024
# What stands for the default, and for none at all.
_DEFAULT, _NONE = 0, -1
_HALF_AN_HOUR, _FIVE_MINUTES = 1800.0, 300.0


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """How long answers count, in seconds, and what holds where there is none."""

    kubeconfig: Kubeconfig
    allow_ttl: float
    deny_ttl: float
    first_pause: float
    default_allow: bool


def load(text: str) -> ImagePolicy:
    """From `imagePolicy` of a configuration. Raises InvalidConfiguration."""
    if not text.strip():
        raise InvalidConfiguration("no config specified")
    whole = parsed(text)
    given = (whole.get("imagePolicy") if isinstance(whole, dict) else whole) or {}
    complain(misfits(given, _FIELDS, "imagePolicy"))
    pause = _seconds(given.get("retryBackoff"), 0.001, 1e-9, _FIVE_MINUTES, 0.5)
    allow_ttl = _seconds(given.get("allowTTL"), 1.0, 1.0, _HALF_AN_HOUR, _FIVE_MINUTES)
    deny_ttl = _seconds(given.get("denyTTL"), 1.0, 1.0, _HALF_AN_HOUR, 30.0)
    if not (file := given.get("kubeConfigFile")):
        raise InvalidConfiguration("imagePolicy.kubeConfigFile: Required value: nobody is said who could be asked")
    try:
        kubeconfig = Kubeconfig.load(Path(file))
    except OSError as error:
        raise InvalidConfiguration(unread(error)) from None
    except ValueError as error:
        raise InvalidConfiguration(str(error)) from None
    return ImagePolicy(kubeconfig, allow_ttl, deny_ttl, pause, bool(given.get("defaultAllow")))


def _seconds(given: int | None, scale: float, least: float, most: float, default: float) -> float:
    """Raises InvalidConfiguration."""
    if given == _NONE:
        return 0.0
    if not given:
        return default
    found = given * scale
    if not least <= found <= most:
        told = f"between {durations.text(least)} and {durations.text(most)}, got {durations.text(found)}"
        raise InvalidConfiguration(f"valid value is {told}")
    return found


class ImagePolicyWebhook(Plugin):
    name = "ImagePolicyWebhook"

    def __init__(self, policy: ImagePolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._reviewer = Reviewer(policy.kubeconfig, clock, first_pause=policy.first_pause)
        # Answers by what was asked, with when they cease to count; those used last are at the end.
        self._answers: OrderedDict[bytes, tuple[float, JSON]] = OrderedDict()

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation in (CREATE, UPDATE) and subresource in ("", "ephemeralcontainers")

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        return self._ask(ctx, obj or {})

    async def close(self) -> None:
        await self._reviewer.close()

    async def _ask(self, ctx: RequestContext, pod: JSON) -> None:
        fields = ("ephemeralContainers",) if ctx.subresource else ("containers", "initContainers")
        spec = pod.get("spec") or {}
        asked: JSON = {
            "containers": [{"image": one.get("image") or ""} for field in fields for one in spec.get(field) or ()]
        }
        if told := {key: value for key, value in meta.annotations(pod).items() if ".image-policy.k8s.io/" in key}:
            asked["annotations"] = told
        asked["namespace"] = ctx.namespace
        try:
            status = await self._status(asked)
        except ReviewFailed as error:
            if not self._policy.default_allow:
                raise errors.forbidden("", "pods", ctx.name, str(error)) from error
            ctx.annotate(f"{_AUDIT}failed-open", "true")
            metadata = pod.setdefault("metadata", {})
            metadata["annotations"] = {**meta.annotations(pod), _FAILED_OPEN: "true"}
            return
        for key, value in (status.get("auditAnnotations") or {}).items():
            ctx.annotate(f"{_AUDIT}{key}", value)
        if not status.get("allowed"):
            reason = status.get("reason")
            detail = (
                f"image policy webhook backend denied one or more images: {reason}"
                if reason
                else "one or more images rejected by webhook backend"
            )
            raise errors.forbidden("", "pods", ctx.name, detail)

    async def _status(self, asked: JSON) -> JSON:
        """Raises ReviewFailed."""
        key = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        known = self._answers.get(key)
        if known is not None and known[0] > self._clock.monotonic():
            self._answers.move_to_end(key)
            return known[1]
        review = {"kind": "ImageReview", "apiVersion": _VERSION, "metadata": {}, "spec": asked, "status": {}}
        status: JSON = (await self._reviewer.review(review)).get("status") or {}
        lasts = self._policy.allow_ttl if status.get("allowed") else self._policy.deny_ttl
        self._answers[key] = (self._clock.monotonic() + lasts, status)
        self._answers.move_to_end(key)
        if len(self._answers) > _KNOWN:
            self._answers.popitem(last=False)
        return status
