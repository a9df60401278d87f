"""What the configuration of ResourceQuota limits is had only where a quota covers it, as with kube-apiserver v1.35."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.server import APIServer

from .conftest import Api, pod
from .serving import served
from .test_resource_quotas import CLAIMS, PODS, allowed, claim, limit, refusal, used

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOLD = "gold.storageclass.storage.k8s.io/requests.storage"
CRITICAL = {"scopeName": "PriorityClass", "operator": "In", "values": ["critical", "urgent"]}
CONFIGURATION = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "ResourceQuotaConfiguration",
    "limitedResources": [
        {"resource": "persistentvolumeclaims", "matchContains": ["gold.storageclass.storage.k8s.io/"]},
        {"apiGroup": "", "resource": "pods", "matchScopes": [CRITICAL]},
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    configured = AdmissionOptions(configuration={"ResourceQuota": orjson.dumps(CONFIGURATION).decode()})
    async with served(tmp_path_factory.mktemp("limited"), admission=configured) as made:
        root = Api(made.transport(username="admin", groups=["system:masters"]), "")
        given = {"metadata": {"name": "critical"}, "value": 1000}
        assert (await root.create("scheduling.k8s.io/v1/priorityclasses", given))[0] == 201
        yield made


async def test_an_amount_that_is_limited_needs_a_quota_that_counts_it(api: Api) -> None:
    names = f"gold.storageclass.storage.k8s.io/persistentvolumeclaims,{GOLD}"
    assert await refusal(api, CLAIMS, claim("a", "1Gi", "gold")) == f"insufficient quota to consume: {names}"
    await allowed(api, CLAIMS, claim("silver", "1Gi", "silver"))
    await limit(api, {GOLD: "5Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "9"})
    await allowed(api, CLAIMS, claim("a", "2Gi", "gold"))
    assert (await used(api))[GOLD] == "2Gi"
    assert "exceeded quota" in await refusal(api, CLAIMS, claim("b", "4Gi", "gold"))


async def test_a_quota_of_something_else_covers_nothing(api: Api) -> None:
    await limit(api, {"requests.storage": "5Gi", GOLD: "5Gi"})
    lacking = "gold.storageclass.storage.k8s.io/persistentvolumeclaims"
    assert await refusal(api, CLAIMS, claim("a", "1Gi", "gold")) == f"insufficient quota to consume: {lacking}"


async def test_objects_of_a_limited_scope_need_a_quota_of_that_scope(api: Api) -> None:
    critical = pod("p", priorityClassName="critical")
    told = "insufficient quota to match these scopes: [{PriorityClass In [critical urgent]}]"
    await limit(api, {"pods": "5"}, name="any")
    assert await refusal(api, PODS, critical) == told
    await allowed(api, PODS, pod("plain"))
    await limit(api, {"pods": "1"}, scopeSelector={"matchExpressions": [{**CRITICAL, "values": ["critical"]}]})
    await allowed(api, PODS, critical)
    assert await used(api) == {"pods": "1"}
