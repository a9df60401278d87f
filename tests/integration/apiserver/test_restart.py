"""What survives a restart: objects, certificates, tokens, and watches from where they were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.interface import DataDirError
from kubecore.clock import RealClock
from tests.support.conversion_webhook import ConversionWebhook, serving

from .conftest import Api, config_map
from .definitions import DEFINITIONS, begin, crd, define, gone, seen, version, widget

JSON = dict[str, Any]
Start = Callable[[], Coroutine[Any, Any, APIServer]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[APIServer] = []

    async def begin() -> APIServer:
        for server in running:
            await server.stop()
        server = APIServer(APIServerConfig(data_dir=tmp_path, secure_port=0), RealClock())
        await server.start()
        running.append(server)
        return server

    yield begin
    for server in running:
        await server.stop()


def _api(server: APIServer) -> Api:
    return Api(server.transport(username="admin", groups=["system:masters"]))


async def test_a_second_start_changes_nothing(start: Start) -> None:
    server = await start()
    before = server.storage.revision
    port, ca = server.secure_port, server.authority.certificate
    server = await start()
    assert server.authority.certificate == ca
    # Only what names the port may differ: the Service's target, its Endpoints and EndpointSlice.
    assert server.storage.revision - before <= (0 if server.secure_port == port else 3)


async def test_objects_and_tokens_outlive_the_server(start: Start) -> None:
    server = await start()
    await _api(server).create("v1/configmaps", config_map("a", k="v"))
    await _api(server).create("v1/serviceaccounts", {"metadata": {"name": "default"}})
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    _, answer = await _api(server).call("POST", path, {"spec": {}})
    server = await start()
    assert (await _api(server).get("v1/configmaps", "a"))[1]["data"] == {"k": "v"}
    review = {"spec": {"token": answer["status"]["token"]}}
    _, reviewed = await _api(server).call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert reviewed["status"]["authenticated"] is True


async def test_37_a_watch_resumes_across_a_restart_missing_and_repeating_nothing(start: Start) -> None:
    server = await start()
    api = _api(server)
    _, listed = await api.list("v1/configmaps")
    for number in range(3):
        await api.create("v1/configmaps", config_map(f"c{number}"))
    await api.patch("v1/configmaps", "c1", {"data": {"x": "y"}})
    await api.delete("v1/configmaps", "c0")
    server = await start()
    api = _api(server)
    await api.create("v1/configmaps", config_map("late"))
    query = {"resourceVersion": listed["metadata"]["resourceVersion"]}
    seen: list[tuple[str, str]] = []
    async for batch in api.transport.watch("/api/v1/namespaces/default/configmaps", query=query):
        seen += [(event.type, orjson.loads(event.object)["metadata"]["name"]) for event in batch]
        if seen[-1][1] == "late":
            break
    assert seen == [
        ("ADDED", "c0"),
        ("ADDED", "c1"),
        ("ADDED", "c2"),
        ("MODIFIED", "c1"),
        ("DELETED", "c0"),
        ("ADDED", "late"),
    ]


async def test_a_data_directory_serves_one_server_at_a_time(start: Start, tmp_path: Path) -> None:
    await start()
    other = APIServer(APIServerConfig(data_dir=tmp_path, secure_port=0), RealClock())
    with pytest.raises(DataDirError, match="in use"):
        await other.start()


async def test_bootstrap_repairs_what_was_taken_away(start: Start) -> None:
    server = await start()
    api = Api(_api(server).transport, "")
    rbac = "rbac.authorization.k8s.io/v1"
    await api.delete(f"{rbac}/clusterroles", "view")
    _, edit = await api.get(f"{rbac}/clusterroles", "edit")
    wanted = len(edit["rules"])
    await api.update(f"{rbac}/clusterroles", {**edit, "rules": edit["rules"][:3]})
    server = await start()
    api = Api(_api(server).transport, "")
    assert (await api.get(f"{rbac}/clusterroles", "view"))[0] == 200
    assert len((await api.get(f"{rbac}/clusterroles", "edit"))[1]["rules"]) == wanted


async def test_custom_resources_are_served_from_the_start(start: Start) -> None:
    """Semantics 37: what was listed before is watched from there after it."""
    server = await start()
    cluster, api = Api(_api(server).transport, ""), _api(server)
    await define(cluster, crd("widgets", "Widget"))
    await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
    resource = "example.com/v1/widgets"
    _, one = await api.create(resource, widget("one"))
    _, listed = await api.list(resource)
    await api.create(resource, widget("two"))
    server = await start()
    api = _api(server)
    status, found = await api.get(resource, "one")
    assert (status, found) == (200, one)
    version = listed["metadata"]["resourceVersion"]
    async for batch in api.transport.watch(api.path(resource), query={"resourceVersion": version}):
        assert [orjson.loads(event.object)["metadata"]["name"] for event in batch] == ["two"]
        break
    status, refused = await api.create(resource, widget("bad", size=0))
    assert (status, refused["reason"]) == (422, "Invalid")
    _, groups = await api.call("GET", "/apis")
    assert "example.com" in [group["name"] for group in groups["groups"]]


async def test_a_deletion_that_was_begun_is_finished(start: Start) -> None:
    server = await start()
    cluster, api = Api(_api(server).transport, ""), _api(server)
    await define(cluster, crd("widgets", "Widget"))
    held = widget("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create("example.com/v1/widgets", held)
    await cluster.delete(DEFINITIONS, "widgets.example.com")
    server = await start()
    cluster, api = Api(_api(server).transport, ""), _api(server)
    going = begin(gone(cluster, "widgets.example.com"))
    status, _ = await api.patch("example.com/v1/widgets", "held", {"metadata": {"finalizers": None}})
    assert status == 200
    await going


async def test_versions_of_several_ages_are_converted_after_a_restart(start: Start) -> None:
    def schema(*names: str) -> JSON:
        spec = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        return {"type": "object", "properties": {"spec": spec}}

    async with serving(ConversionWebhook()) as webhook:
        server = await start()
        cluster, api = Api(_api(server).transport, ""), _api(server)
        config = {"url": webhook.url, "caBundle": webhook.ca_bundle}
        conversion = {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": config}}
        versions = [version("v1", schema("host", "port")), version("v1beta1", schema("hostPort"), storage=False)]
        definition = await define(cluster, crd("hosts", "Host", *versions, conversion=conversion))
        old = {"apiVersion": "example.com/v1", "kind": "Host", "metadata": {"name": "old"}}
        await api.create("example.com/v1/hosts", {**old, "spec": {"host": "here", "port": "80"}})
        for one in definition["spec"]["versions"]:
            one["storage"] = one["name"] == "v1beta1"
        renewed = begin(seen(api, "example.com/v1/hosts", "ERROR"))
        assert (await cluster.update(DEFINITIONS, definition))[0] == 200
        await renewed
        api = _api(await start())
        assert (await api.get("example.com/v1/hosts", "old"))[1]["spec"] == {"host": "here", "port": "80"}
        assert (await api.get("example.com/v1beta1/hosts", "old"))[1]["spec"] == {"hostPort": "here:80"}
