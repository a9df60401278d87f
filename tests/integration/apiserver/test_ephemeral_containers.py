"""Nothing of a pod gets past webhooks and policies: neither containers that come to it later, by a subresource, nor
environments that come whole (CVE-2023-2727, CVE-2023-2728 and CVE-2024-3177 were of that kind, in plugins).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock
from tests.integration.apiserver.conftest import Api, pod
from tests.integration.apiserver.hooks import bound, hooking, within
from tests.support.admission_webhook import patch

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
PODS, GROUP = "v1/pods", "admissionregistration.k8s.io"
BETA = f"{GROUP}/v1beta1"
LATER: JSON = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["UPDATE"],
    "resources": ["pods/ephemeralcontainers"],
}
NEW: JSON = {**LATER, "operations": ["CREATE"], "resources": ["pods"]}
FROM_SECRET = [{"secretRef": {"name": "s"}}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    """One that serves the beta version that mutating policies are of."""
    directory: Path = tmp_path_factory.mktemp("apiserver")
    config = APIServerConfig(
        data_dir=directory, secure_port=0, storage=LMDBConfig(sync=False), runtime_config=((BETA, "true"),)
    )
    made = APIServer(config, RealClock())
    await made.start()
    yield made
    await made.stop()


async def debug(api: Api, name: str = "debug", *, image: str = "good", **more: Any) -> tuple[int, JSON]:
    """Adds an ephemeral container to pod `p`, which there is then."""
    await api.create(PODS, pod("p"))
    added = {"spec": {"ephemeralContainers": [{"name": name, "image": image, **more}]}}
    return await api.patch(PODS, "p", added, "strategic-merge-patch", "ephemeralcontainers")


async def put(api: Api, *, image: str) -> tuple[int, JSON]:
    """The same by an update of the whole."""
    await api.create(PODS, pod("p"))
    _, whole = await api.get(PODS, "p")
    whole["spec"]["ephemeralContainers"] = [{"name": "put", "image": image}]
    return await api.update(PODS, whole, "ephemeralcontainers")


def with_env_from(name: str) -> JSON:
    made = pod(name)
    made["spec"]["containers"][0]["envFrom"] = FROM_SECRET
    return made


def judging(api: Api, cluster: Api, expression: str, rule: JSON) -> AbstractAsyncContextManager[str]:
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": expression}]}
    binding = {"validationActions": ["Deny"], "matchResources": {"namespaceSelector": within(api)}}
    name = f"judges-{api.namespace}"
    return bound(cluster, f"{GROUP}/v1/validatingadmissionpolicies", name, spec, binding)


def changing(api: Api, cluster: Api, expression: str, rule: JSON) -> AbstractAsyncContextManager[str]:
    apply = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "mutations": [apply], "reinvocationPolicy": "Never"}
    binding = {"matchResources": {"namespaceSelector": within(api)}}
    return bound(cluster, f"{BETA}/mutatingadmissionpolicies", f"changes-{api.namespace}", spec, binding)


# --- webhooks


async def test_a_validating_webhook_judges_what_comes_to_a_pod_later(api: Api, cluster: Api) -> None:
    def decide(request: JSON) -> JSON:
        added = request["object"]["spec"]["ephemeralContainers"]
        return {"allowed": all(one["image"] != "bad" for one in added)}

    async with hooking(api, cluster, "Validating", decide, rule=LATER) as hook:
        assert (await debug(api, image="bad"))[0] == 400
        assert (await put(api, image="bad"))[0] == 400
        assert (await debug(api, image="good"))[0] == 200
    asked = [(one["subResource"], one["operation"], one["name"]) for one in hook.requests]
    assert asked == [("ephemeralcontainers", "UPDATE", "p")] * 3
    assert "ephemeralContainers" not in hook.requests[0]["oldObject"]["spec"]


async def test_a_mutating_webhook_changes_what_comes_to_a_pod_later(api: Api, cluster: Api) -> None:
    change = patch({"op": "replace", "path": "/spec/ephemeralContainers/0/image", "value": "other"})
    async with hooking(api, cluster, "Mutating", change, rule=LATER):
        status, changed = await debug(api, image="bad")
    assert (status, changed["spec"]["ephemeralContainers"][0]["image"]) == (200, "other")


async def test_a_webhook_sees_environments_that_come_whole(api: Api, cluster: Api) -> None:
    def decide(request: JSON) -> JSON:
        return {"allowed": all("envFrom" not in one for one in request["object"]["spec"]["containers"])}

    async with hooking(api, cluster, "Validating", decide, rule=NEW):
        assert (await api.create(PODS, with_env_from("q")))[0] == 400
        assert (await api.create(PODS, pod("r")))[0] == 201


# --- policies


async def test_a_policy_judges_what_comes_to_a_pod_later(api: Api, cluster: Api) -> None:
    expression = (
        "request.subResource == 'ephemeralcontainers' && object.spec.ephemeralContainers.all(c, c.image != 'bad' && "
        "!has(c.envFrom) && !has(c.env))"
    )
    async with judging(api, cluster, expression, LATER):
        assert (await debug(api, image="bad"))[0] == 422
        assert (await put(api, image="bad"))[0] == 422
        assert (await debug(api, envFrom=FROM_SECRET))[0] == 422
        secret = {"secretKeyRef": {"name": "s", "key": "k"}}
        assert (await debug(api, env=[{"name": "E", "valueFrom": secret}]))[0] == 422
        assert (await debug(api))[0] == 200


async def test_a_policy_judges_environments_that_come_whole(api: Api, cluster: Api) -> None:
    async with judging(api, cluster, "object.spec.containers.all(c, !has(c.envFrom))", NEW):
        assert (await api.create(PODS, with_env_from("q")))[0] == 422
        assert (await api.create(PODS, pod("r")))[0] == 201


async def test_a_mutating_policy_changes_what_comes_to_a_pod_later(api: Api, cluster: Api) -> None:
    changed = "Object.spec.ephemeralContainers{name: c.name, image: 'other'}"
    expression = (
        f"Object{{spec: Object.spec{{ephemeralContainers: object.spec.ephemeralContainers.map(c, {changed})}}}}"
    )
    async with changing(api, cluster, expression, LATER):
        status, made = await debug(api, image="bad")
    assert (status, [one["image"] for one in made["spec"]["ephemeralContainers"]]) == (200, ["other"])


async def test_a_mutating_policy_changes_environments_that_come_whole(api: Api, cluster: Api) -> None:
    changed = "Object.spec.containers{name: c.name, image: c.envFrom[0].secretRef.name}"
    expression = f"Object{{spec: Object.spec{{containers: object.spec.containers.map(c, {changed})}}}}"
    async with changing(api, cluster, expression, NEW):
        status, made = await api.create(PODS, with_env_from("q"))
    assert (status, made["spec"]["containers"][0]["image"]) == (201, "s")


async def test_a_rule_for_pods_is_none_for_what_comes_to_them_later(api: Api, cluster: Api) -> None:
    """As upstream: who means both says `pods` and `pods/ephemeralcontainers`, or `pods/*`."""
    for rule, code in (({**LATER, "resources": ["pods"]}, 200), ({**LATER, "resources": ["pods/*"]}, 422)):
        async with judging(api, cluster, "false", rule):
            assert (await debug(api, name=f"debug-{code}"))[0] == code
