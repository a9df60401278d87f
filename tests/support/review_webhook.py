"""Webhooks that review tokens or accesses, over real TLS, and the kubeconfig that names one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.conversion_webhook import ConversionWebhook, serving

JSON = dict[str, Any]
# The spec of a review to the status of the answer, or to a whole answer that is no review.
Decide = Callable[[JSON], Any]


@dataclass
class ReviewWebhook:
    """What it says, and what it was asked."""

    decide: Decide
    specs: list[JSON] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    def answer(self, review: JSON) -> Any:
        self.specs.append(review["spec"])
        self.versions.append(review["apiVersion"])
        status = self.decide(review["spec"])
        return {**review, "status": status} if isinstance(status, dict) else status


@asynccontextmanager
async def reviewing(
    folder: Path, decide: Decide, *, name: str = "webhook"
) -> AsyncIterator[tuple[ReviewWebhook, Path]]:
    """The webhook, and a kubeconfig that leads to it."""
    webhook = ReviewWebhook(decide)
    served = ConversionWebhook(answer=webhook.answer)
    async with serving(served):
        yield webhook, kubeconfig(folder, served, name=name)


def kubeconfig(folder: Path, served: ConversionWebhook, *, name: str = "webhook") -> Path:
    """One that leads to the webhook."""
    cluster = {"server": served.url, "certificate-authority-data": served.ca_bundle}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "us", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "us"}}],
        "current-context": "it",
    }
    file = folder / f"{name}.kubeconfig"
    file.write_text(json.dumps(document))
    return file
