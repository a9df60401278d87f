"""Options of pods/log that are none: refused in Kubernetes' words, before any kubelet is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api, pod
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREATER = "must be greater than 0"
UNREAD = 'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"'
NUMBER = "strconv.ParseInt: parsing"


async def asked(server: APIServer, api: Api, folder: Path, query: str) -> tuple[int, str]:
    async with Http(server, folder, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
        path = f"/api/v1/namespaces/{api.namespace}/pods"
        await http.call("POST", path, pod("a"))
        answer = await http.call("GET", f"{path}/a/log?{query}")
        return answer.status, answer.json["message"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", f"limitBytes: Invalid value: 0: {GREATER}"),
        ("sinceSeconds=0", f"sinceSeconds: Invalid value: 0: {GREATER}"),
        (
            "sinceSeconds=0&sinceTime=2026-01-01T00:00:00Z",
            "[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        # Its gate, PodLogsQuerySplitStreams, is off in v1.35.
        ("stream=Stdout", "stream: Forbidden: may not be specified"),
        ("stream=", "stream: Forbidden: may not be specified"),
    ],
)
async def test_an_option_out_of_range_is_invalid(
    server: APIServer, api: Api, tmp_path: Path, query: str, told: str
) -> None:
    assert await asked(server, api, tmp_path, query) == (422, f'PodLogOptions "a" is invalid: {told}')


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("tailLines=ten", f'{NUMBER} "ten": invalid syntax'),
        ("limitBytes=99999999999999999999", f'{NUMBER} "99999999999999999999": value out of range'),
        ("sinceSeconds=1.5", f'{NUMBER} "1.5": invalid syntax'),
        ("sinceTime=yesterday", UNREAD),
    ],
)
async def test_an_option_that_cannot_be_read_is_a_bad_request(
    server: APIServer, api: Api, tmp_path: Path, query: str, told: str
) -> None:
    assert await asked(server, api, tmp_path, query) == (400, told)


async def test_a_kubelet_that_is_gone_is_told_of_in_go_s_words(server: APIServer, api: Api, tmp_path: Path) -> None:
    shown, endpoint = "127.0.0.1:1", {"kubeletEndpoint": {"Port": 1}}
    status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": endpoint}
    node = {"metadata": {"name": api.namespace}, "status": status}
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
        assert (await http.call("POST", "/api/v1/nodes", node)).status == 201
        path = f"/api/v1/namespaces/{api.namespace}/pods"
        made = await http.call("POST", path, pod("a", nodeName=api.namespace))
        assert made.status == 201, made.json
        container = made.json["spec"]["containers"][0]["name"]
        answer = await http.call("GET", f"{path}/a/log?follow=true")
        url = f"https://{shown}/containerLogs/{api.namespace}/a/{container}?follow=true"
        # kubectl prints `Error from server: ...` for a Status without a reason.
        assert answer.json == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f'Get "{url}": dial tcp {shown}: connect: connection refused',
            "code": 500,
        }
        await http.call("DELETE", f"/api/v1/nodes/{api.namespace}")
