"""Webhook configurations that are there for a while, for the namespace of a test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.integration.apiserver.conftest import Api
from tests.support.admission_webhook import GROUP, MAPS, Decide, Hook, allow, configuration, hooked

JSON = dict[str, Any]
# For autoscaling/v1, which `scaler` is not of.
SCALERS: JSON = {
    "apiGroups": ["autoscaling"],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["horizontalpodautoscalers"],
}
_numbers = itertools.count(1)


def within(api: Api) -> JSON:
    """Selects the namespace of a test."""
    return {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}}


def scaler(name: str) -> JSON:
    """A HorizontalPodAutoscaler of autoscaling/v2, which v1 can tell by its `targetCPUUtilizationPercentage`, 50."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    utilization = {"type": "Utilization", "averageUtilization": 50}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": utilization}}
    return {"metadata": {"name": name}, "spec": {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [metric]}}


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


@asynccontextmanager
async def bound(cluster: Api, policies: str, name: str, spec: JSON, binding: JSON) -> AsyncIterator[str]:
    """A policy with one binding, NAME-bound; `policies` is group, version and plural."""
    bindings = f"{policies.removesuffix('policies')}policybindings"
    for resource, obj in (
        (policies, {"metadata": {"name": name}, "spec": spec}),
        (bindings, {"metadata": {"name": f"{name}-bound"}, "spec": {"policyName": name, **binding}}),
    ):
        status, made = await cluster.create(resource, obj)
        assert status == 201, made
    try:
        yield name
    finally:
        await cluster.delete(bindings, f"{name}-bound")
        await cluster.delete(policies, name)
