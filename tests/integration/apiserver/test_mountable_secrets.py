"""Accounts whose pods may use listed secrets only, by whatever part of a pod they come (CVE-2023-2728, CVE-2024-3177:
ephemeral containers and envFrom got past).
"""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import JSON, Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS, ACCOUNTS = "v1/pods", "v1/serviceaccounts"


async def restricted(api: Api) -> None:
    made = {
        "metadata": {"name": "robot", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        "secrets": [{"name": "listed"}],
        "imagePullSecrets": [{"name": "pull"}],
    }
    assert (await api.create(ACCOUNTS, made))[0] == 201


def container(name: str, **more: Any) -> JSON:
    return {"name": name, "image": "none", **more}


def by_env(name: str) -> JSON:
    return {"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]}


def by_env_from(name: str) -> JSON:
    return {"envFrom": [{"secretRef": {"name": name}}]}


def uses(name: str) -> dict[str, JSON]:
    return {
        "volume with secret": {"volumes": [{"name": "v", "secret": {"secretName": name}}]},
        "container main with envVar E": {"containers": [container("main", **by_env(name))]},
        "container main with envFrom": {"containers": [container("main", **by_env_from(name))]},
        "init container i with envVar E": {"initContainers": [container("i", **by_env(name))]},
        "init container i with envFrom": {"initContainers": [container("i", **by_env_from(name))]},
    }


@pytest.mark.parametrize("part", uses(""))
async def test_a_pod_uses_only_secrets_that_its_account_lists(api: Api, part: str) -> None:
    await restricted(api)
    status, answer = await api.create(PODS, pod("a", serviceAccountName="robot", **uses("listed")[part]))
    assert status == 201, answer
    status, answer = await api.create(PODS, pod("b", serviceAccountName="robot", **uses("other")[part]))
    assert status == 403, answer
    assert part in answer["message"]
    assert "is not allowed because service account robot does not reference that secret" in answer["message"]


async def test_pull_secrets_are_those_of_the_account(api: Api) -> None:
    await restricted(api)
    made = pod("a", serviceAccountName="robot", imagePullSecrets=[{"name": "other"}])
    status, answer = await api.create(PODS, made)
    assert status == 403
    assert 'imagePullSecrets[0].name="other" is not allowed because service account robot' in answer["message"]
    assert (await api.create(PODS, pod("b", serviceAccountName="robot")))[0] == 201


@pytest.mark.parametrize("use", [by_env, by_env_from])
async def test_an_ephemeral_container_uses_no_other_secret_either(api: Api, use: Any) -> None:
    await restricted(api)
    assert (await api.create(PODS, pod("a", serviceAccountName="robot")))[0] == 201
    for name, code in (("other", 403), ("listed", 200)):
        added = {"spec": {"ephemeralContainers": [container("debug", **use(name))]}}
        status, answer = await api.patch(PODS, "a", added, "strategic-merge-patch", "ephemeralcontainers")
        assert status == code, answer


async def test_accounts_that_do_not_ask_for_it_restrict_nothing(api: Api) -> None:
    await api.create(ACCOUNTS, {"metadata": {"name": "robot"}, "secrets": [{"name": "listed"}]})
    for number, spec in enumerate(uses("other").values()):
        assert (await api.create(PODS, pod(f"p{number}", serviceAccountName="robot", **spec)))[0] == 201


async def test_a_mirror_pod_uses_no_secret(api: Api) -> None:
    for spec in uses("listed").values():
        made = pod("m", nodeName="n", **spec)
        made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        status, answer = await api.create(PODS, made)
        assert (status, answer["message"].partition(": ")[2]) == (403, "a mirror pod may not reference secrets")
