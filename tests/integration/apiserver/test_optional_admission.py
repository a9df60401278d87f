"""Admission plugins that are off until they are enabled, in the words of kube-apiserver v1.35."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from kubecore.apiserver.admission.names import OFF
from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
PODS = "v1/pods"
SELECTORS = {"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "zone=a", "narrow": "zone=a,disk=ssd"}}
TOLERATIONS = {
    "apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1",
    "kind": "Configuration",
    "default": [{"key": "wet", "operator": "Exists", "effect": "NoSchedule"}],
    "whitelist": [{"operator": "Exists", "effect": "NoSchedule"}, {"operator": "Exists", "effect": "NoExecute"}],
}
EVENTS = {
    "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
    "kind": "Configuration",
    "limits": [{"type": "Server", "qps": 1000, "burst": 1000}],
}
CONFIGURATION = {
    "EventRateLimit": orjson.dumps(EVENTS).decode(),
    "PodNodeSelector": orjson.dumps(SELECTORS).decode(),
    "PodTolerationRestriction": orjson.dumps(TOLERATIONS).decode(),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    enabled = tuple(name for name in OFF if name not in ("AlwaysDeny", "ImagePolicyWebhook"))
    config = APIServerConfig(
        data_dir=tmp_path_factory.mktemp("optional"),
        secure_port=0,
        storage=LMDBConfig(sync=False),
        admission=AdmissionOptions(enable=enabled, configuration=CONFIGURATION),
    )
    made = APIServer(config, RealClock())
    await made.start()
    yield made
    await made.stop()


async def annotate(api: Api, **given: str) -> None:
    annotations = {f"scheduler.alpha.kubernetes.io/{name.replace('_', '-')}": value for name, value in given.items()}
    root = Api(api.transport, "")
    assert (await root.patch("v1/namespaces", api.namespace, {"metadata": {"annotations": annotations}}))[0] == 200


async def test_every_image_is_pulled(api: Api) -> None:
    given = pod("p", volumes=[{"name": "v", "image": {"reference": "r", "pullPolicy": "Never"}}])
    given["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    _, made = await api.create(PODS, given)
    assert made["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert made["spec"]["volumes"][0]["image"]["pullPolicy"] == "Always"


async def test_an_ephemeral_container_is_pulled_as_it_says(api: Api) -> None:
    """As upstream, whose plugin looks at no subresource."""
    await api.create(PODS, pod("p"))
    added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "new", "imagePullPolicy": "IfNotPresent"}]}}
    status, made = await api.patch(PODS, "p", added, "strategic-merge-patch", "ephemeralcontainers")
    assert (status, made["spec"]["ephemeralContainers"][0]["imagePullPolicy"]) == (200, "IfNotPresent")


async def test_a_pod_keeps_others_away_from_its_node_at_most(api: Api) -> None:
    def keeping_away(key: str) -> JSON:
        term = {"topologyKey": key, "labelSelector": {"matchLabels": {"a": "b"}}}
        return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}

    status, answer = await api.create(PODS, pod("p", affinity=keeping_away("zone")))
    assert (status, answer["message"]) == (
        403,
        'pods "p" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key '
        "kubernetes.io/hostname is allowed",
    )
    assert (await api.create(PODS, pod("p", affinity=keeping_away("kubernetes.io/hostname"))))[0] == 201


async def test_who_asks_for_a_vendors_resource_tolerates_its_nodes(api: Api) -> None:
    given = pod("p", tolerations=[{"key": "b.com/x", "operator": "Exists", "effect": "NoSchedule"}])
    given["spec"]["containers"][0]["resources"] = {"limits": {"a.com/gpu": "1", "b.com/x": "1"}}
    _, made = await api.create(PODS, given)
    keys = [one["key"] for one in made["spec"]["tolerations"]]
    assert (keys.count("a.com/gpu"), keys.count("b.com/x")) == (1, 1)


async def test_pods_go_where_their_namespace_says(api: Api) -> None:
    _, made = await api.create(PODS, pod("p"))
    assert made["spec"]["nodeSelector"] == {"zone": "a"}
    await annotate(api, node_selector="zone=c, disk=d")
    _, made = await api.create(PODS, pod("q"))
    assert made["spec"]["nodeSelector"] == {"zone": "c", "disk": "d"}
    status, answer = await api.create(PODS, pod("r", nodeSelector={"zone": "a"}))
    told = "pod node label selector conflicts with its namespace node label selector"
    assert (status, answer["message"]) == (403, f'pods "r" is forbidden: {told}')


async def test_the_configuration_says_what_pods_of_a_namespace_may_select(api: Api) -> None:
    narrow = Api(api.transport, "narrow")
    await narrow.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
    assert (await narrow.create(PODS, pod("p", nodeSelector={"disk": "ssd"})))[0] == 201
    status, answer = await narrow.create(PODS, pod("q", nodeSelector={"disk": "hdd"}))
    told = "pod node label selector labels conflict with its namespace whitelist"
    assert (status, answer["message"]) == (403, f'pods "q" is forbidden: {told}')


async def test_pods_get_default_tolerations_and_none_beyond_those_that_are_allowed(api: Api) -> None:
    _, made = await api.create(PODS, pod("p"))
    assert "wet" in [one.get("key") for one in made["spec"]["tolerations"]]
    status, answer = await api.create(PODS, pod("q", tolerations=[{"operator": "Exists"}]))
    told = "pod tolerations (possibly merged with namespace default tolerations) conflict with its cluster whitelist"
    assert (status, answer["message"]) == (500, told)
    await annotate(api, defaultTolerations='[{"key":"dry","operator":"Exists"}]', tolerationsWhitelist="")
    _, made = await api.create(PODS, pod("r"))
    assert "dry" in [one.get("key") for one in made["spec"]["tolerations"]]


async def test_a_namespace_that_is_not_there_is_made_for_what_is_created_in_it(api: Api) -> None:
    missing = Api(api.transport, f"{api.namespace}-new")
    made = {"metadata": {"name": "c"}}
    assert (await missing.create("v1/configmaps", made, dryRun="All"))[0] == 404
    assert (await missing.create("v1/configmaps", made))[0] == 201
    assert (await Api(api.transport, "").get("v1/namespaces", missing.namespace))[0] == 200


async def test_nothing_is_admitted_where_all_is_denied(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = APIServerConfig(
        data_dir=tmp_path_factory.mktemp("denied"),
        secure_port=0,
        storage=LMDBConfig(sync=False),
        admission=AdmissionOptions(enable=("AlwaysDeny",)),
    )
    made = APIServer(config, RealClock())
    await made.start()
    try:
        api = Api(made.transport(username="admin", groups=["system:masters"]))
        status, answer = await api.create("v1/configmaps", {"metadata": {"name": "c"}})
        told = "admission control is denying all modifications"
        assert (status, answer["message"]) == (403, f'configmaps "c" is forbidden: {told}')
    finally:
        await made.stop()
