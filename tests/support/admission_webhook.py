"""Admission webhooks over real TLS, in the test's process, and the configurations that name them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.conversion_webhook import ConversionWebhook, serving

JSON = dict[str, Any]
# An AdmissionRequest to a response without its uid, or to a whole answer.
Decide = Callable[[JSON], Any]

GROUP = "admissionregistration.k8s.io/v1"
PODS: JSON = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["pods"]}
MAPS: JSON = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


def allow(request: JSON) -> JSON:
    return {"allowed": True}


def deny(request: JSON) -> JSON:
    return {"allowed": False}


def patch(*operations: JSON) -> Decide:
    """A webhook that always answers with these operations of a JSON patch."""
    encoded = base64.b64encode(orjson.dumps(operations)).decode()
    return lambda request: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def annotate(key: str, value: str) -> Decide:
    """A webhook that sets an annotation, whatever annotations there are."""

    def decide(request: JSON) -> JSON:
        known = request["object"]["metadata"].get("annotations")
        operations = [] if known else [{"op": "add", "path": "/metadata/annotations", "value": {}}]
        decided: JSON = patch(*operations, {"op": "add", "path": f"/metadata/annotations/{key}", "value": value})(
            request
        )
        return decided

    return decide


@dataclass
class Hook:
    """One webhook: what it decides, and what it was asked."""

    decide: Decide = allow
    requests: list[JSON] = field(default_factory=list)
    reviews: list[JSON] = field(default_factory=list)
    served: ConversionWebhook | None = None

    def answer(self, review: JSON) -> Any:
        self.reviews.append(review)
        request = review["request"]
        self.requests.append(request)
        decided = self.decide(request)
        if not isinstance(decided, dict) or "allowed" not in decided:
            return decided
        response = {"uid": request["uid"], **decided}
        return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}

    def configured(self, name: str, rules: Sequence[JSON], **more: Any) -> JSON:
        """An entry of `webhooks`."""
        assert self.served is not None, "the webhook is not served"
        return {
            "name": name,
            "clientConfig": {"url": self.served.url, "caBundle": self.served.ca_bundle},
            "rules": list(rules),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }


@asynccontextmanager
async def hooked(decide: Decide = allow) -> AsyncIterator[Hook]:
    hook = Hook(decide)
    hook.served = ConversionWebhook(answer=hook.answer)
    async with serving(hook.served):
        yield hook


def configuration(kind: str, name: str, *webhooks: JSON) -> JSON:
    """`kind` is Mutating or Validating."""
    return {
        "apiVersion": GROUP,
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": list(webhooks),
    }
