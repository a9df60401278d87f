"""The plain port: off unless asked for, on loopback only, beyond authentication and authorization, not admission."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from kubecore.apiserver.server import APIServer

from .conftest import config_map, pod
from .serving import served


def plain(server: APIServer) -> aiohttp.ClientSession:
    """A client of the plain port, at one that is free."""
    return aiohttp.ClientSession(f"http://127.0.0.1:{server.front.listen_plain('127.0.0.1', 0)}")


async def test_who_asks_is_unsecured_whatever_is_shown(tmp_path: Path) -> None:
    async with (
        served(tmp_path, authorization_modes=("AlwaysDeny",)) as server,
        plain(server) as session,
    ):
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            async with session.post(path, json=review, headers=headers) as answer:
                user = (await answer.json())["status"]["userInfo"]
                groups = ["system:masters", "system:authenticated"]
                assert user == {"username": "system:unsecured", "groups": groups}
        for body, status in ((config_map("a"), 201), (config_map("a"), 409)):
            async with session.post("/api/v1/namespaces/default/configmaps", json=body) as answer:
                assert answer.status == status
        async with session.get("/api/v1/namespaces/default/configmaps/a") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "header", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}], ids=str
)
async def test_pages_of_others_in_a_browser_of_this_machine_are_refused(tmp_path: Path, header: dict[str, str]) -> None:
    async with served(tmp_path) as server, plain(server) as session:
        path = "/api/v1/namespaces/default/configmaps"
        async with session.post(path, json=config_map("a"), headers=header) as answer:
            refused = await answer.json()
        assert (refused["code"], refused["reason"]) == (403, "Forbidden")
        assert "localhost" in refused["message"]
        async with session.get(f"{path}/a") as answer:
            assert answer.status == 404


async def test_admission_judges_as_everywhere(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as server,
        plain(server) as session,
    ):
        missing = pod("a", serviceAccountName="nobody")
        async with session.post("/api/v1/namespaces/default/pods", json=missing) as answer:
            assert answer.status == 403
            assert 'serviceaccount "nobody" not found' in (await answer.json())["message"]


async def test_there_is_none_unless_it_is_asked_for_and_on_loopback_only(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert server.insecure_port == 0
        with pytest.raises((OSError, ValueError), match="loopback"):
            server.front.listen_plain("0.0.0.0", 0)
