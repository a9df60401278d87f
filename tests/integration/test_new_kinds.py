"""A custom kind is a kind like any other within a second of its definition: served, described, permitted, counted in
quotas, collected with its owner. Of virtual time, so that nothing waits for a poll to come by.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.local import LocalTransport
from kubecore.clock import VirtualClock
from kubecore.cluster import Cluster, ClusterConfig
from tests.integration.apiserver.definitions import crd, version

JSON = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

START = datetime(2026, 3, 1, tzinfo=UTC)
GROUP = "new.example.com"
WIDGETS = f"/apis/{GROUP}/v1/namespaces/default/widgets"
SCHEMA = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "description": "How big."}}}},
}


@dataclass
class World:
    clock: VirtualClock
    cluster: Cluster
    admin: LocalTransport

    def as_user(self, name: str) -> LocalTransport:
        return self.cluster.server.transport(username=name, groups=["system:authenticated"])

    async def call(
        self, method: str, path: str, body: JSON | None = None, *, by: LocalTransport | None = None
    ) -> tuple[int, JSON]:
        sent = None if body is None else orjson.dumps(body)
        status, answer = await self.clock.drive(
            (by or self.admin).request(method, path, query={}, body=sent, content_type="application/json")
        )
        return status, orjson.loads(answer)

    async def made(self, path: str, body: JSON) -> JSON:
        status, answer = await self.call("POST", path, body)
        assert status == 201, answer
        return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock(START)
    cluster = Cluster(ClusterConfig(data_dir=tmp_path, secure_port=0, grpc_port=0, nodes=0, durable=False), clock)
    await clock.drive(cluster.start())
    await clock.advance(10)
    yield World(clock, cluster, cluster.server.transport(username="admin", groups=["system:masters"]))
    await clock.drive(cluster.stop())


def widget(name: str) -> JSON:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1}}


async def test_a_kind_is_all_there_within_a_second_of_its_definition(world: World) -> None:
    api, rbac = "/api/v1/namespaces/default", "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    counted = f"count/widgets.{GROUP}"
    await world.made(f"{api}/resourcequotas", {"metadata": {"name": "one"}, "spec": {"hard": {counted: "1"}}})
    rule = {"apiGroups": [GROUP], "resources": ["widgets"], "verbs": ["create", "get"]}
    await world.made(f"{rbac}/roles", {"metadata": {"name": "maker"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "maker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "maker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "smith"}],
    }
    await world.made(f"{rbac}/rolebindings", binding)
    await world.clock.advance(10)

    definition = crd("widgets", "Widget", version(schema=SCHEMA), group=GROUP)
    await world.made("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    await world.clock.advance(0.4)

    resources = (await world.call("GET", f"/apis/{GROUP}/v1"))[1]["resources"]
    assert "widgets" in [one["name"] for one in resources]
    described = (await world.call("GET", f"/openapi/v3/apis/{GROUP}/v1"))[1]["components"]["schemas"]
    size = described["com.example.new.v1.Widget"]["properties"]["spec"]["properties"]["size"]
    assert size["description"] == "How big."

    status, owner = await world.call("POST", WIDGETS, widget("a"), by=world.as_user("smith"))
    assert status == 201, owner
    status, refused = await world.call("POST", WIDGETS, widget("b"), by=world.as_user("smith"))
    assert (status, f"requested: {counted}=1, used: {counted}=1" in refused["message"]) == (403, True), refused
    assert (await world.call("DELETE", f"{WIDGETS}/a", by=world.as_user("smith")))[0] == 403

    reference = {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "name": "a", "uid": owner["metadata"]["uid"]}
    await world.made(f"{api}/configmaps", {"metadata": {"name": "of-a", "ownerReferences": [reference]}})
    assert (await world.call("DELETE", f"{WIDGETS}/a"))[0] == 200
    await world.clock.advance(0.4)
    assert (await world.call("GET", f"{api}/configmaps/of-a"))[0] == 404
