"""Objects that etcd would not take are not taken here either."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import Api, config_map, pod
from tests.integration.apiserver.definitions import crd, define, widget

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
MEBIBYTE = 1 << 20
TOO_LARGE = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "etcdserver: request is too large",
    "code": 500,
}


def environment(length: int, letter: str = "x") -> JSON:
    container = {"name": "c", "image": "i", "env": [{"name": "A", "value": letter * length}]}
    return pod("large", containers=[container])


async def test_more_than_a_mebibyte_and_a_half_is_not_created(api: Api) -> None:
    assert await api.create("v1/pods", environment(MEBIBYTE * 3 // 2)) == (500, TOO_LARGE)
    status, refused = await api.create("v1/pods", environment(2 * MEBIBYTE))
    assert status == 500
    assert refused["message"].startswith(
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max ("
    )
    assert refused["message"].endswith(" vs. 2097152)")
    assert (await api.get("v1/pods", "large"))[0] == 404


async def test_built_in_kinds_are_measured_in_protobuf(api: Api) -> None:
    """Where a line's end is one byte, in JSON two."""
    assert (await api.create("v1/configmaps", config_map("lines", text="\n" * (MEBIBYTE - 1000))))[0] == 201


async def test_custom_objects_are_measured_as_they_are_and_not_updated_beyond(server: APIServer, api: Api) -> None:
    await define(Api(server.transport(username="admin", groups=["system:masters"]), ""), crd("bulks", "Bulk"))
    bulk = {**widget("a", color="x" * MEBIBYTE), "kind": "Bulk"}
    status, made = await api.create("example.com/v1/bulks", bulk)
    assert status == 201
    made["spec"]["color"] = "x" * (MEBIBYTE * 3 // 2)
    assert await api.update("example.com/v1/bulks", made) == (500, TOO_LARGE)
    assert len((await api.get("example.com/v1/bulks", "a"))[1]["spec"]["color"]) == MEBIBYTE
    assert (await api.delete("example.com/v1/bulks", "a"))[0] == 200


async def test_a_dry_run_does_not_meet_the_store(api: Api) -> None:
    assert (await api.create("v1/pods", environment(2 * MEBIBYTE), dryRun="All"))[0] == 201


async def test_who_would_fit_without_managed_fields_is_stored_without_them_but_for_an_apply(api: Api) -> None:
    large = config_map("keys", text="x" * 800_000, **{f"k{number}": "" for number in range(35_000)})
    status, made = await api.create("v1/configmaps", large)
    assert status == 201
    assert "managedFields" not in made["metadata"]
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": large["data"]}
    path, media = api.path("v1/configmaps", "applied"), "application/apply-patch+yaml"
    assert await api.call("PATCH", path, applied, media, fieldManager="me") == (500, TOO_LARGE)
