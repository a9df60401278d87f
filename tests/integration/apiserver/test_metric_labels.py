"""Whatever clients make up, it is no label of any metric: how many series there are is not theirs to say."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer
from tests.support.admission_webhook import MAPS, hooked

from .conftest import Api, config_map
from .hooks import registered, within
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
# In every name that a client makes up.
MARK = "invented"
MERGE = "application/merge-patch+json"
ROUNDS = 6
# Of which there is something to tell by then, and that may be told of what does not exist.
FAMILIES = {
    "apiserver_admission_controller_admission_duration_seconds_count",
    "apiserver_admission_step_admission_duration_seconds_count",
    "apiserver_current_inqueue_requests",
    "apiserver_flowcontrol_dispatched_requests_total",
    "apiserver_flowcontrol_request_execution_seconds_count",
    "apiserver_longrunning_requests",
    "apiserver_request_body_size_bytes_count",
    "apiserver_request_duration_seconds_count",
    "apiserver_request_total",
    "apiserver_watch_events_total",
    "authenticated_user_requests",
    "authorization_attempts_total",
}


class Asked(NamedTuple):
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = {}


def requests(number: int) -> Iterator[Asked]:
    """Each with names that nobody had before."""
    it = f"{MARK}{number}"
    here = "/api/v1/namespaces/default"
    # Methods, with and without something behind the path.
    for path in (f"/{it}", "/api", "/healthz", f"{here}/configmaps", f"{here}/configmaps/{it}"):
        yield Asked(it.upper(), path)
        yield Asked("PROPFIND", path)
    # Groups, versions, resources and subresources, by each verb.
    for path in (
        f"/apis/{it}/v1/configmaps",
        f"/apis/{it}.example.com/{it}/{it}",
        f"/apis/apps/{it}/deployments",
        f"/apis/apps/v1/namespaces/{it}/{it}",
        f"/api/{it}/pods",
        f"/api/v1/{it}",
        f"{here}/{it}",
        f"{here}/pods/{it}/{it}",
        f"{here}/{it}/{it}/status",
        f"/api/v1/watch/{it}",
        f"/openapi/v3/apis/{it}/v1",
        f"/{it}/{it}",
        f"/metrics/{it}",
        f"/debug/{it}",
    ):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
            body = {"metadata": {"name": it}} if method in ("POST", "PUT", "PATCH") else None
            yield Asked(method, path, body, {"Content-Type": MERGE} if method == "PATCH" else {})
        yield Asked("GET", f"{path}?watch=true&timeoutSeconds=1")
        yield Asked("GET", f"{path}?limit=1&continue={it}")
    # Names and namespaces, which admission and watches hear of.
    for path in (f"/api/v1/namespaces/{it}/configmaps", f"{here}/configmaps/{it}", f"/api/v1/nodes/{it}/proxy/{it}"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            yield Asked(method, path, config_map(it) if method in ("POST", "PUT") else None)
    yield Asked("POST", f"{here}/pods/{it}/exec?command={it}&container={it}")
    yield Asked("POST", f"{here}/pods/{it}/eviction", {"metadata": {"name": it}})
    # What stands in queries, headers and bodies.
    yield Asked("POST", f"{here}/configmaps?dryRun={it}", config_map(it))
    yield Asked("POST", f"{here}/configmaps?dryRun=All&fieldManager={it}", config_map(it))
    yield Asked("POST", f"{here}/configmaps?fieldValidation={it}", config_map(it))
    yield Asked("PATCH", f"{here}/configmaps/{it}", {}, {"Content-Type": f"application/{it}"})
    yield Asked("DELETE", f"{here}/configmaps?labelSelector={it}%3D{it}")
    yield Asked("GET", f"{here}/configmaps?fieldSelector={it}%3D{it}")
    yield Asked("GET", f"{here}/configmaps?resourceVersion={it}&resourceVersionMatch={it}")
    accepted = f"application/json;as={it};g={it};v={it}"
    yield Asked("GET", f"{here}/configmaps", None, {"Accept": accepted, "User-Agent": it, "X-Request-Id": it})
    kind = {"apiVersion": f"{it}/v1", "kind": it, "metadata": {"name": it}}
    yield Asked("POST", f"{here}/configmaps", kind)
    # Users, whom flow control tells apart.
    for user in ({"Impersonate-User": it}, {"Impersonate-User": it, "Impersonate-Group": f"system:{it}"}):
        yield Asked("GET", f"{here}/configmaps", None, user)
        yield Asked("GET", f"{here}/configmaps?watch=true&timeoutSeconds=1&resourceVersion=0", None, user)
    yield Asked("GET", f"{here}/configmaps", None, {"Authorization": f"Bearer {it}"})
    review = {"spec": {"user": it, "resourceAttributes": {"verb": it, "resource": it, "group": it}}}
    yield Asked("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    yield Asked("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": it, "audiences": [it]}})


@pytest_asyncio.fixture(loop_scope="module")
async def http(server: APIServer, tmp_path: Path) -> AsyncIterator[Http]:
    pair = server.issue_client_certificate("admin", ["system:masters"])
    async with Http(server, tmp_path, pair=pair) as made:
        yield made


async def series(http: Http) -> set[str]:
    """All of them, without their values."""
    text = (await http.call("GET", "/metrics")).body.decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


async def test_no_name_that_a_client_makes_up_is_a_label(http: Http, api: Api) -> None:
    async def once(number: int) -> None:
        for asked in requests(number):
            await http.call(asked.method, asked.path, asked.body, asked.headers)

    await once(0)
    # Of objects that are there, in a namespace with such a name.
    await http.call("POST", "/api/v1/namespaces", {"metadata": {"name": MARK}})
    await http.call("POST", f"/api/v1/namespaces/{MARK}/configmaps", config_map(MARK))
    await http.call("GET", f"/api/v1/namespaces/{MARK}/configmaps?watch=true&timeoutSeconds=1&resourceVersion=0")
    first = await series(http)
    assert {one.partition("{")[0] for one in first} >= FAMILIES
    assert not [one for one in first if MARK in one.lower()]
    for number in range(1, ROUNDS):
        await once(number)
    last = await series(http)
    assert not [one for one in last if MARK in one.lower()]
    # A histogram tells a bucket once something falls there, and what the process itself does goes on meanwhile.
    more = {one.partition("{")[0] for one in last - first}
    assert len(last - first) < 2 * ROUNDS, more


async def test_codes_that_a_webhook_makes_up_are_one(http: Http, api: Api, cluster: Api) -> None:
    codes = iter(range(600, 600 + ROUNDS))

    def decide(request: JSON) -> JSON:
        return {"allowed": False, "status": {"code": next(codes), "reason": f"{MARK}{request['uid']}"}}

    async with hooked(decide) as hook:
        webhook = hook.configured("one.example.com", [MAPS], namespaceSelector=within(api))
        async with registered(cluster, "Validating", webhook):
            for _ in range(ROUNDS):
                await api.create("v1/configmaps", config_map("a"))
    told = [one for one in await series(http) if one.startswith("apiserver_admission_webhook_rejection_count")]
    assert [re.findall(r'rejection_code="(\d+)"', one) for one in told] == [["600"]]
