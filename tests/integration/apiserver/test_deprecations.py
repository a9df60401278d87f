"""What clients are told of kinds that are on their way out, and of deletions that leave things behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer

from .conftest import Api
from .definitions import crd, define, version
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDPOINTS = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
STATUSES = '299 - "v1 ComponentStatus is deprecated in v1.19+"'
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


@pytest_asyncio.fixture(loop_scope="module")
async def http(server: APIServer, tmp_path: Path) -> AsyncIterator[Http]:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as made:
        yield made


def warnings(headers: Mapping[str, str]) -> list[str]:
    found: Any = headers
    return list(found.getall("Warning", ()))


async def test_every_answer_about_endpoints_says_that_they_are_deprecated(http: Http, api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/endpoints"
    for method, target, body, headers in (
        ("POST", path, {"metadata": {"name": "a"}}, {}),
        ("POST", path, {"metadata": {"name": "a"}}, {}),
        ("POST", path, b"{", {}),
        ("GET", path, None, {}),
        ("GET", path, None, TABLE),
        ("GET", f"{path}/a", None, {}),
        ("GET", f"{path}/none", None, {}),
        ("PUT", f"{path}/a", {"metadata": {"name": "b"}}, {}),
        ("PATCH", f"{path}/a", {}, {"Content-Type": "application/merge-patch+json"}),
        ("POST", f"{path}?dryRun=odd", {}, {}),
        ("DELETE", f"{path}/none", None, {}),
        ("DELETE", f"{path}/a", None, {}),
    ):
        answer = await http.call(method, target, body, headers)
        assert warnings(answer.headers) == [ENDPOINTS], (method, target, answer.status)
    # Where upstream has no route it says nothing; nor do slices, to which it leads.
    xml = {"Content-Type": "application/xml"}
    for method, target, headers in (("POST", f"{path}/a", {}), ("GET", f"{path}/a/b", {}), ("PATCH", f"{path}/a", xml)):
        assert warnings((await http.call(method, target, {}, headers)).headers) == []
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{api.namespace}/endpointslices"
    assert warnings((await http.call("GET", slices)).headers) == []


async def test_component_statuses_are_deprecated(http: Http) -> None:
    for name in ("", "/scheduler", "/none"):
        answer = await http.call("GET", f"/api/v1/componentstatuses{name}")
        assert warnings(answer.headers) == [STATUSES]


async def test_component_statuses_are_selected_by_name_alone(http: Http) -> None:
    answer = await http.call("GET", "/api/v1/componentstatuses?fieldSelector=a%3Db")
    known = 'only "metadata.name", "metadata.namespace"'
    assert (answer.status, answer.json["message"]) == (400, f'"a" is not a known field selector: {known}')
    answer = await http.call("GET", "/api/v1/componentstatuses?watch=1")
    message = 'watch is not supported on resources of kind "componentstatuses"'
    assert (answer.status, answer.json["message"]) == (405, message)


async def test_a_refusal_of_a_deprecated_custom_version_says_so_once(http: Http, cluster: Api, api: Api) -> None:
    old = version("v1beta1", storage=False, deprecated=True, deprecationWarning="use v1, please")
    await define(cluster, crd("agings", "Aging", old, version("v1"), group="old.com"))
    path = f"/apis/old.com/v1beta1/namespaces/{api.namespace}/agings"
    for body in (b"{", {"apiVersion": "old.com/v1beta1", "kind": "Aging", "metadata": {"name": "a"}, "spec": {}}):
        answer = await http.call("POST", path, body)
        assert warnings(answer.headers) == ['299 - "use v1, please"']
        assert answer.status in (400, 422)


async def test_who_deletes_jobs_hears_that_their_pods_stay(http: Http, api: Api) -> None:
    """pkg/registry/batch/job/storage/storage.go: deleteOptionWarnings."""
    path = f"/apis/batch/v1/namespaces/{api.namespace}/jobs"
    told = (
        '299 - "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove '
        'them or set propagationPolicy=Orphan to suppress this warning"'
    )
    for target in (path, f"{path}/none"):
        assert warnings((await http.call("DELETE", target)).headers) == [told]
        for query in ("propagationPolicy=Background", "propagationPolicy=Orphan", "orphanDependents=true"):
            assert warnings((await http.call("DELETE", f"{target}?{query}")).headers) == []
    crons = f"/apis/batch/v1/namespaces/{api.namespace}/cronjobs"
    assert warnings((await http.call("DELETE", crons)).headers) == []


async def test_what_was_not_known_of_a_body_is_told_though_it_is_refused(http: Http, api: Api) -> None:
    unknown = ['299 - "unknown field \\"odd\\""']
    pods = f"/api/v1/namespaces/{api.namespace}/pods/none"
    for path, body in (
        (f"{pods}/binding", {"metadata": {"name": "none"}, "target": {"kind": "Node", "name": "n"}, "odd": 1}),
        (f"{pods}/eviction", {"metadata": {"name": "other"}, "odd": 1}),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"odd": 1}),
        ("/apis/authentication.k8s.io/v1/tokenreviews", {"odd": 1}),
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", {"odd": 1}),
    ):
        answer = await http.call("POST", path, body)
        assert warnings(answer.headers) == unknown, (path, answer.status)


async def test_metrics_tell_which_deprecated_versions_were_asked_for(http: Http, cluster: Api, api: Api) -> None:
    old = version("v1beta1", storage=False, deprecated=True)
    await define(cluster, crd("relics", "Relic", old, version("v1"), group="asked.com"))
    relics = f"/apis/asked.com/v1beta1/namespaces/{api.namespace}/relics"
    for path in (relics, f"/api/v1/namespaces/{api.namespace}/endpoints", f"/api/v1/namespaces/{api.namespace}/pods"):
        assert (await http.call("GET", path)).status == 200
    told = (await http.call("GET", "/metrics")).body.decode().splitlines()
    series = [line for line in told if line.startswith("apiserver_requested_deprecated_apis{")]
    rest = 'removed_release="",resource="{}",subresource="",version="{}"}} 1'
    start = "apiserver_requested_deprecated_apis{"
    assert f'{start}group="",{rest.format("endpoints", "v1")}' in series
    assert f'{start}group="asked.com",{rest.format("relics", "v1beta1")}' in series
    assert not [line for line in series if "pods" in line]
