"""Webhook configurations that are there for a while, for the namespace of a test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.integration.apiserver.conftest import Api
from tests.support.admission_webhook import GROUP, MAPS, Decide, Hook, allow, configuration, hooked

JSON = dict[str, Any]
_numbers = itertools.count(1)


def within(api: Api) -> JSON:
    """Selects the namespace of a test."""
    return {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}}


@asynccontextmanager
async def registered(cluster: Api, kind: str, *webhooks: JSON, name: str = "") -> AsyncIterator[JSON]:
    """`kind` is Mutating or Validating."""
    plural = f"{GROUP}/{kind.lower()}webhookconfigurations"
    name = name or f"hook-{next(_numbers):04}"
    status, made = await cluster.create(plural, configuration(kind, name, *webhooks))
    assert status == 201, made
    try:
        yield made
    finally:
        assert (await cluster.delete(plural, name))[0] == 200


@asynccontextmanager
async def hooking(
    api: Api, cluster: Api, kind: str, decide: Decide = allow, *, rule: JSON = MAPS, name: str = "", **more: Any
) -> AsyncIterator[Hook]:
    """One webhook of one configuration, for what happens in the namespace of `api`."""
    async with hooked(decide) as hook:
        given = {"namespaceSelector": within(api), **more}
        webhook = hook.configured(f"{name or 'one'}.example.com", [rule], **given)
        async with registered(cluster, kind, webhook, name=name):
            yield hook
