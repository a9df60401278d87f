"""Pods, templates and namespaces under Pod Security, in the words of kube-apiserver v1.35."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED = {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]}
SAID = 'privileged (container "c" must not set securityContext.privileged=true)'
CONFIGURATION = {
    "apiVersion": "pod-security.admission.config.k8s.io/v1",
    "kind": "PodSecurityConfiguration",
    "defaults": {"enforce": "baseline", "enforce-version": "v1.30"},
    "exemptions": {"usernames": ["trusted"], "namespaces": ["exempt"], "runtimeClasses": ["boxed"]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def configured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    made = APIServer(
        APIServerConfig(
            data_dir=tmp_path_factory.mktemp("configured"),
            secure_port=0,
            storage=LMDBConfig(sync=False),
            admission=AdmissionOptions(configuration={"PodSecurity": orjson.dumps(CONFIGURATION).decode()}),
        ),
        RealClock(),
    )
    await made.start()
    yield made
    await made.stop()


def labels(**given: str) -> JSON:
    return {f"{PREFIX}{key.replace('_', '-')}": value for key, value in given.items()}


async def told(
    api: Api, method: str, path: str, body: JSON, kind: str = "application/json"
) -> tuple[int, JSON, list[str]]:
    """Status, answer and the texts of its warnings."""
    answer = await api.transport.answer(method, path, body=orjson.dumps(body), content_type=kind)
    headers = [value for name, value in answer.headers if name == "Warning"]
    texts = [re.sub(r'^299 - "(.*)"$', r"\1", one).replace('\\"', '"') for one in headers]
    return answer.status, orjson.loads(answer.body), texts


async def label(api: Api, **given: str | None) -> tuple[int, JSON, list[str]]:
    """Changes labels of the namespace."""
    patch = {"metadata": {"labels": {f"{PREFIX}{key.replace('_', '-')}": value for key, value in given.items()}}}
    path = f"/api/v1/namespaces/{api.namespace}"
    return await told(api, "PATCH", path, patch, "application/merge-patch+json")


async def test_a_pod_that_the_enforced_standard_forbids_is_refused(api: Api) -> None:
    await label(api, enforce="baseline", enforce_version="v1.30")
    status, answer, warnings = await told(
        api, "POST", api.path("v1/pods"), {"metadata": {"name": "p"}, "spec": PRIVILEGED}
    )
    assert (status, warnings) == (403, [])
    assert answer["message"] == f'pods "p" is forbidden: violates PodSecurity "baseline:v1.30": {SAID}'
    assert (await api.create("v1/pods", pod("q")))[0] == 201


async def test_a_pod_is_let_in_with_a_warning_where_that_is_all_that_is_asked_for(api: Api) -> None:
    await label(api, warn="baseline")
    made = {"metadata": {"name": "p"}, "spec": PRIVILEGED}
    status, _, warnings = await told(api, "POST", api.path("v1/pods"), made)
    assert (status, warnings) == (201, [f'would violate PodSecurity "baseline:latest": {SAID}'])


async def test_a_template_is_warned_of_and_never_refused(api: Api) -> None:
    await label(api, enforce="baseline")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": PRIVILEGED}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = {"metadata": {"name": "d"}, "spec": spec}
    status, _, warnings = await told(api, "POST", api.path("apps/v1/deployments"), made)
    assert (status, warnings) == (201, [f'would violate PodSecurity "baseline:latest": {SAID}'])
    scale = f"{api.path('apps/v1/deployments', 'd')}/scale"
    status, _, warnings = await told(api, "PATCH", scale, {"spec": {"replicas": 2}}, "application/merge-patch+json")
    assert (status, warnings) == (200, [])


async def test_an_update_is_judged_where_images_change(api: Api) -> None:
    assert (await api.create("v1/pods", {"metadata": {"name": "p"}, "spec": PRIVILEGED}))[0] == 201
    await label(api, enforce="baseline")
    assert (await api.patch("v1/pods", "p", {"metadata": {"labels": {"x": "y"}}}))[0] == 200
    _, obj = await api.get("v1/pods", "p")
    obj["spec"]["containers"][0]["image"] = "other"
    status, answer = await api.update("v1/pods", obj)
    assert (status, answer["reason"]) == (403, "Forbidden")
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "i"}]}}
    status, _ = await api.patch("v1/pods", "p", debug, kind="strategic-merge-patch", subresource="ephemeralcontainers")
    assert status == 403


async def test_an_ephemeral_container_is_judged_as_any_other(api: Api) -> None:
    await label(api, enforce="restricted", enforce_version="v1.30")
    safe = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
    safe["seccompProfile"] = {"type": "RuntimeDefault"}
    contained = {"name": "main", "image": "none", "securityContext": safe}
    assert (await api.create("v1/pods", {"metadata": {"name": "p"}, "spec": {"containers": [contained]}}))[0] == 201
    way = ("strategic-merge-patch", "ephemeralcontainers")
    for name, unsafe in (
        ("privileged", {**safe, "privileged": True, "allowPrivilegeEscalation": True}),
        ("allowPrivilegeEscalation != false", {**safe, "allowPrivilegeEscalation": True}),
        ("unrestricted capabilities", {**safe, "capabilities": {}}),
        ("runAsNonRoot != true", {**safe, "runAsNonRoot": False}),
        ("seccompProfile", {**safe, "seccompProfile": {"type": "Unconfined"}}),
    ):
        added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "i", "securityContext": unsafe}]}}
        status, answer = await api.patch("v1/pods", "p", added, *way)
        assert status == 403, answer
        assert f'{name} (container "debug" must' in answer["message"]
    added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "i", "securityContext": safe}]}}
    assert (await api.patch("v1/pods", "p", added, *way))[0] == 200


async def test_labels_that_say_nothing_are_refused(api: Api, cluster: Api) -> None:
    status, answer, _ = await label(api, enforce="odd")
    assert status == 422
    assert answer["message"] == (
        f'Namespace "{api.namespace}" is invalid: metadata.labels[{PREFIX}enforce]: Invalid value: "odd": '
        "must be one of privileged, baseline, restricted"
    )
    made = {"metadata": {"name": f"{api.namespace}-x", "labels": labels(warn_version="1.2")}}
    assert (await cluster.create("v1/namespaces", made))[0] == 422


async def test_a_new_standard_warns_of_pods_that_it_would_refuse(api: Api) -> None:
    for name in ("b", "a"):
        await api.create("v1/pods", pod(name, hostNetwork=True))
    await api.create("v1/pods", {"metadata": {"name": "c"}, "spec": PRIVILEGED})
    status, _, warnings = await label(api, enforce="baseline")
    assert status == 200
    assert warnings == [
        f'existing pods in namespace "{api.namespace}" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
        "c: privileged",
    ]
    assert (await label(api, enforce="privileged"))[2] == []


async def test_a_configuration_says_what_holds_without_labels(configured: APIServer) -> None:
    api = Api(configured.transport(username="admin", groups=["system:masters"]))
    await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
    status, answer = await api.create("v1/pods", {"metadata": {"name": "p"}, "spec": PRIVILEGED})
    assert (status, answer["message"].partition(":")[2]) == (403, f' violates PodSecurity "baseline:v1.30": {SAID}')
    boxed = {"metadata": {"name": "boxed"}, "spec": {**PRIVILEGED, "runtimeClassName": "boxed"}}
    await Api(api.transport, "").create(
        "node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "boxed"}, "handler": "h"}
    )
    assert (await api.create("v1/pods", boxed))[0] == 201
    trusted = Api(configured.transport(username="trusted", groups=["system:masters"]))
    assert (await trusted.create("v1/pods", {"metadata": {"name": "p"}, "spec": PRIVILEGED}))[0] == 201


async def test_a_namespace_that_is_exempt_is_warned_that_its_labels_have_no_effect(configured: APIServer) -> None:
    root = Api(configured.transport(username="admin", groups=["system:masters"]), "")
    made = {"metadata": {"name": "exempt", "labels": labels(enforce="restricted", audit="baseline")}}
    status, _, warnings = await told(root, "POST", "/api/v1/namespaces", made)
    assert (status, warnings) == (
        201,
        [
            'namespace "exempt" is exempt from Pod Security, and the policy '
            "(enforce=restricted:v1.30, audit=baseline:latest) will be ignored"
        ],
    )
    api = Api(root.transport, "exempt")
    await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
    assert (await api.create("v1/pods", {"metadata": {"name": "p"}, "spec": PRIVILEGED}))[0] == 201
