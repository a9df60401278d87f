"""Discovery and OpenAPI of an extension API server among our own, kept and renewed by the clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecore.apiserver.server import APIServer
from kubecore.clock import VirtualClock
from tests.support.extension_server import GROUP, ROOT, VERSION, Extension, serving

from .extensions import NAME, SERVICES, WARDLE, admin, aggregated, api_service, lead_to, made, until
from .http import Http
from .serving import served

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def specification(description: str = "A flunder.") -> JSON:
    reference = {"$ref": "#/definitions/io.wardle.Flunder"}
    operation = {"get": {"operationId": "listFlunders", "responses": {"200": {"schema": reference}}}}
    return {
        "swagger": "2.0",
        "info": {"title": "wardle", "version": "1"},
        "paths": {f"{ROOT}/flunders": operation, "/apis/": {}},
        "definitions": {"io.wardle.Flunder": {"type": "object", "description": description}},
    }


async def discovered(http: Http) -> JSON | None:
    """Of the group, in the one document of all groups."""
    answer = await http.call("GET", "/apis", headers={"Accept": AGGREGATED})
    found = [one for one in answer.json["items"] if one["metadata"]["name"] == GROUP]
    return found[0]["versions"][0] if found else None


async def freshness(http: Http) -> str:
    return str((await discovered(http) or {}).get("freshness"))


def root(server: APIServer, folder: Path) -> Http:
    return Http(server, folder, pair=server.issue_client_certificate("root", ["system:masters"]))


async def test_a_group_of_others_is_told_like_our_own(tmp_path: Path) -> None:
    async with served(tmp_path) as server, root(server, tmp_path) as http, aggregated(server) as extension:
        group = (await http.call("GET", f"/apis/{GROUP}")).json
        version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
        told = {"name": GROUP, "versions": [version], "preferredVersion": version}
        assert group == {"kind": "APIGroup", "apiVersion": "v1", **told}
        assert told in (await http.call("GET", "/apis")).json["groups"]
        assert (await http.call("GET", ROOT)).json == extension.resources()
        await until(lambda: freshness(http), "Current")
        entry = await discovered(http)
        assert entry is not None
        (flunders,) = entry["resources"]
        assert (flunders["resource"], flunders["shortNames"], flunders["scope"]) == ("flunders", ["fl"], "Namespaced")
        assert ROOT in (await http.call("GET", "/")).json["paths"]
        await admin(server).delete(SERVICES, NAME)
        await until(lambda: discovered(http), None)


async def test_a_server_that_tells_of_versions_one_by_one_is_asked_so(tmp_path: Path) -> None:
    async with served(tmp_path) as server, root(server, tmp_path) as http:  # noqa: SIM117 - needs the server
        async with aggregated(server, Extension(aggregated=False)):
            await until(lambda: freshness(http), "Current")
            entry = await discovered(http)
            assert entry is not None
            (flunders,) = entry["resources"]
            kind = {"group": "", "version": "", "kind": "Flunder"}
            assert (flunders["resource"], flunders["responseKind"]) == ("flunders", kind)


async def test_a_server_that_cannot_be_asked_is_stale(tmp_path: Path) -> None:
    async with served(tmp_path) as server, root(server, tmp_path) as http:
        await made(admin(server), SERVICES, api_service(insecureSkipTLSVerify=True))
        await until(lambda: discovered(http), {"version": VERSION, "freshness": "Stale"})
        groups = (await http.call("GET", "/apis")).json["groups"]
        assert GROUP in [one["name"] for one in groups]
        assert (await http.call("GET", ROOT)).status == 503


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_clients_could_not_read_is_not_part_of_our_documents(tmp_path: Path, *, at_once: bool) -> None:
    """They read all of it or nothing."""
    extension = Extension(aggregated=at_once, verbs="get")
    async with served(tmp_path) as server, root(server, tmp_path) as http, aggregated(server, extension):
        path = "/apis" if at_once else ROOT

        async def asked() -> bool:
            headers = [one.headers for one in extension.asked if one.path == path]
            return any("json" in one.get("Accept", "") for one in headers)

        await until(asked, True)
        assert await discovered(http) == {"version": VERSION, "freshness": "Stale"}
        extension.verbs = ["get"]
        await until(lambda: freshness(http), "Current")


async def test_of_a_server_that_has_gone_nothing_is_told_but_that(tmp_path: Path) -> None:
    async with served(tmp_path) as server, root(server, tmp_path) as http, aggregated(server):
        await until(lambda: freshness(http), "Current")
        await admin(server, WARDLE).delete("discovery.k8s.io/v1/endpointslices", "api-1")
        await until(lambda: discovered(http), {"version": VERSION, "freshness": "Stale"})


async def test_what_is_for_all_is_asked_for_as_anybody(tmp_path: Path) -> None:
    """Who tells of everything at once is asked by whom nothing is hidden from."""
    extension = Extension(aggregated=False)
    async with served(tmp_path) as server, root(server, tmp_path) as http, aggregated(server, extension):
        await until(lambda: freshness(http), "Current")

        async def told() -> set[tuple[str, str, str]]:
            asked = [one for one in extension.asked if "json" in one.headers.get("Accept", "")]
            return {(one.path, one.headers["X-Remote-User"], one.headers.get("X-Remote-Group", "")) for one in asked}

        ours = "system:kube-aggregator", "system:aggregator"
        await until(
            told,
            {
                ("/apis", ours[0], "system:masters"),
                (ROOT, ours[0], ""),
                ("/openapi/v2", ours[1], ""),
                ("/openapi/v3", ours[1], ""),
            },
        )


async def test_what_a_server_says_is_asked_for_anew_every_minute(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with served(tmp_path, clock) as server, root(server, tmp_path) as http, aggregated(server) as extension:
        await until(lambda: freshness(http), "Current")

        async def asked() -> int:
            return sum(one.path == "/apis" for one in extension.asked)

        before = await asked()
        extension.openapi = specification()
        await clock.advance(59.0)
        assert await asked() == before
        await clock.advance(2.0)
        await until(asked, before + 1)
        assert next(one for one in reversed(extension.asked) if one.path == "/apis").headers["If-None-Match"]
        assert await freshness(http) == "Current"


async def test_a_specification_is_part_of_ours(tmp_path: Path) -> None:
    extension = Extension(openapi=specification())
    async with served(tmp_path) as server, root(server, tmp_path) as http, aggregated(server, extension):

        async def listed() -> bool:
            document = (await http.call("GET", "/openapi/v2")).json
            return f"{ROOT}/flunders" in document["paths"] and "io.wardle.Flunder" in document["definitions"]

        await until(listed, True)
        document = (await http.call("GET", "/openapi/v2")).json
        assert "/api/v1/pods" in document["paths"]
        assert document["info"]["title"] == "Kubernetes"
        await admin(server).delete(SERVICES, NAME)
        await until(listed, False)


async def test_a_specification_of_openapi_v3_is_passed_on(tmp_path: Path) -> None:
    extension = Extension(openapi_v3={"openapi": "3.0.0", "paths": {}})
    path = f"apis/{GROUP}/{VERSION}"
    async with served(tmp_path) as server, root(server, tmp_path) as http, aggregated(server, extension):

        async def told() -> object:
            return (await http.call("GET", "/openapi/v3")).json["paths"].get(path)

        await until(told, {"serverRelativeURL": f"/openapi/v3/{path}?hash=ABC"})
        answer = await http.call("GET", f"/openapi/v3/{path}?hash=ABC")
        assert (answer.status, answer.json) == (200, extension.openapi_v3)
        assert extension.requests(f"/openapi/v3/{path}")[-1].path == f"/openapi/v3/{path}?hash=ABC"
        assert (await http.call("GET", "/openapi/v3/apis/apps/v1")).status == 200


async def test_a_specification_of_openapi_v2_alone_is_told_as_v3_too(tmp_path: Path) -> None:
    extension = Extension(openapi=specification())
    path = f"apis/{GROUP}/{VERSION}"
    async with served(tmp_path) as server, root(server, tmp_path) as http, aggregated(server, extension):

        async def listed() -> bool:
            return path in (await http.call("GET", "/openapi/v3")).json["paths"]

        await until(listed, True)
        url = (await http.call("GET", "/openapi/v3")).json["paths"][path]["serverRelativeURL"]
        answer = await http.call("GET", url)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, immutable")
        assert answer.json["paths"][f"{ROOT}/flunders"]["get"]["operationId"] == "listFlunders"
        assert answer.json["components"]["schemas"]["io.wardle.Flunder"]["description"] == "A flunder."
        assert (await http.call("GET", f"/openapi/v3/{path}?hash=OLD")).json == answer.json, "by a redirection"
        extension.openapi_v3 = {"openapi": "3.0.0", "paths": {}}
        await admin(server).delete(SERVICES, NAME)
        await until(listed, False)
        assert (await http.call("GET", f"/openapi/v3/{path}")).status == 404


async def test_a_restart_knows_what_others_serve(tmp_path: Path) -> None:
    extension = Extension()
    async with serving(extension):
        async with served(tmp_path) as server:
            await lead_to(server, extension.port)
            await made(admin(server), SERVICES, api_service(caBundle=extension.ca_bundle))
            async with root(server, tmp_path) as http:
                await until(lambda: freshness(http), "Current")
        async with served(tmp_path) as server, root(server, tmp_path) as http:
            assert (await http.call("GET", f"{ROOT}/flunders")).status == 200
            assert await discovered(http) is not None
