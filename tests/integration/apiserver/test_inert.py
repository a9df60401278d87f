"""Who creates what nothing acts on is told so."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.api import scheme
from kubecore.apiserver.registry import inert
from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_network_policy_is_stored_with_a_warning_and_a_config_map_without(
    server: APIServer, api: Api, tmp_path: Path
) -> None:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
        answer = await http.call(
            "POST",
            api.path("networking.k8s.io/v1/networkpolicies"),
            {"metadata": {"name": "j"}, "spec": {"podSelector": {}}},
        )
        assert answer.status == 201, answer.body
        assert "has no network policy: the object is stored, and nothing acts on it" in answer.headers["Warning"]
        answer = await http.call("POST", api.path("v1/configmaps"), config_map("a"))
        assert "Warning" not in answer.headers


async def test_only_kinds_that_are_served_are_named() -> None:
    served = {resource.key for resource in scheme.every().resources}
    assert {key for key in served if inert.warning(key)} == {key for key in inert.NOBODY if key in served}
    assert set(inert.NOBODY) <= served
