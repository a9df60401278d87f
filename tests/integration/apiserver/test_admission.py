"""What the default admission plugins make of pods, nodes and namespaces."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubecore.apiserver.admission.names import ON
from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.server import APIServer

from .conftest import Api, pod
from .serving import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS = "v1/pods"
ACCOUNTS = "v1/serviceaccounts"
CLASSES = "scheduling.k8s.io/v1/priorityclasses"
MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


async def test_the_plugins_that_are_on_are_those_the_command_line_knows(server: APIServer) -> None:
    named = {plugin.name for plugin in server.registry.admission.plugins if plugin.name}
    # That nobody grants or reads more than he may is no plugin of Kubernetes', whose registries see to it.
    stored = {name for name in ON if name.startswith(("Mutating", "Validating", "NodeDeclared"))}
    assert named - {"RBACEscalation", "PolicyParameters"} == set(ON) - stored


async def test_a_pod_gets_the_default_account_and_its_token_volume(api: Api) -> None:
    _, obj = await api.create(PODS, pod("p"))
    spec = obj["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    sources = volume["projected"]["sources"]
    assert [next(iter(source)) for source in sources] == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert sources[0]["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}
    mount = spec["containers"][0]["volumeMounts"][0]
    assert mount == {"name": volume["name"], "readOnly": True, "mountPath": MOUNT}


async def test_a_missing_account_is_forbidden(api: Api) -> None:
    status, error = await api.create(PODS, pod("p", serviceAccountName="nobody"))
    assert status == 403
    assert (
        f'error looking up service account {api.namespace}/nobody: serviceaccount "nobody" not found'
        in (error["message"])
    )


async def test_a_pod_waits_for_the_default_account_that_is_about_to_be_made(api: Api) -> None:
    await api.delete(ACCOUNTS, "default")
    creating = asyncio.create_task(api.create(PODS, pod("p")))
    await asyncio.sleep(0)
    await api.create(ACCOUNTS, {"metadata": {"name": "default"}})
    assert (await creating)[0] == 201


async def test_a_pod_without_a_default_account_is_forbidden_after_a_while(api: Api) -> None:
    await api.delete(ACCOUNTS, "default")
    status, error = await api.create(PODS, pod("p"))
    assert (status, error["reason"]) == (403, "Forbidden")
    assert 'serviceaccount "default" not found' in error["message"]


async def test_automount_can_be_switched_off_by_pod_or_account(api: Api) -> None:
    _, obj = await api.create(PODS, pod("p", automountServiceAccountToken=False))
    assert not obj["spec"].get("volumes")
    await api.create(ACCOUNTS, {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False})
    _, obj = await api.create(PODS, pod("q", serviceAccountName="quiet"))
    assert not obj["spec"].get("volumes")
    _, obj = await api.create(PODS, pod("r", serviceAccountName="quiet", automountServiceAccountToken=True))
    assert obj["spec"]["volumes"]


async def test_an_own_mount_at_the_tokens_place_is_left_alone(api: Api) -> None:
    given = pod("p", volumes=[{"name": "mine", "emptyDir": {}}])
    given["spec"]["containers"][0]["volumeMounts"] = [{"name": "mine", "mountPath": MOUNT}]
    _, obj = await api.create(PODS, given)
    assert [volume["name"] for volume in obj["spec"]["volumes"]] == ["mine"]


async def test_pull_secrets_of_the_account_are_the_pods(api: Api) -> None:
    await api.create(ACCOUNTS, {"metadata": {"name": "puller"}, "imagePullSecrets": [{"name": "s"}]})
    _, obj = await api.create(PODS, pod("p", serviceAccountName="puller"))
    assert obj["spec"]["imagePullSecrets"] == [{"name": "s"}]


async def test_tolerations_for_failing_nodes_are_added_once(api: Api) -> None:
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    _, obj = await api.create(PODS, pod("p", tolerations=[own]))
    assert [(one["key"], one["tolerationSeconds"]) for one in obj["spec"]["tolerations"]] == [
        ("node.kubernetes.io/not-ready", 5),
        ("node.kubernetes.io/unreachable", 300),
    ]


async def test_how_long_pods_stay_on_failing_nodes_is_an_option(tmp_path: Path) -> None:
    options = AdmissionOptions(not_ready_seconds=7, unreachable_seconds=0)
    async with served(tmp_path, admission=options) as server:
        api = Api(server.transport(username="admin", groups=["system:masters"]))
        assert (await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}}))[0] == 201
        _, obj = await api.create(PODS, pod("p"))
    assert [one["tolerationSeconds"] for one in obj["spec"]["tolerations"]] == [7, 0]


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ({"priorityClassName": "nothing"}, "no PriorityClass with name nothing was found"),
        ({"runtimeClassName": "nothing"}, 'pod rejected: RuntimeClass "nothing" not found'),
        ({"serviceAccountName": "nobody"}, "error looking up service account "),
    ],
)
async def test_what_has_no_name_yet_is_refused_by_what_its_name_begins_with(
    api: Api, spec: dict[str, object], detail: str
) -> None:
    """Names are generated after the plugins that change objects."""
    for metadata, name in (({"name": "a"}, "a"), ({"generateName": "gn-"}, "gn-"), ({}, "Unknown")):
        status, error = await api.create(PODS, {**pod("a", **spec), "metadata": metadata})
        assert (status, error["details"]) == (403, {"name": name, "kind": "pods"})
        assert error["message"].startswith(f'pods "{name}" is forbidden: {detail}')


async def test_priority_comes_from_the_class(api: Api, cluster: Api) -> None:
    _, obj = await api.create(PODS, pod("none"))
    assert (obj["spec"]["priority"], obj["spec"]["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    _, obj = await api.create(PODS, pod("critical", priorityClassName="system-node-critical"))
    assert obj["spec"]["priority"] == 2000001000
    status, error = await api.create(PODS, pod("bad", priorityClassName="nothing"))
    assert status == 403
    assert "no PriorityClass with name nothing was found" in error["message"]
    assert (await api.create(PODS, pod("own", priority=7)))[0] == 403


async def test_the_classes_of_the_system_are_not_deleted_by_name(cluster: Api) -> None:
    path = "scheduling.k8s.io/v1/priorityclasses"
    for name in ("system-node-critical", "system-cluster-critical"):
        status, error = await cluster.delete(path, name)
        told = f'priorityclasses.scheduling.k8s.io "{name}" is forbidden: this is a system priority class and cannot be'
        assert (status, error["reason"], error["message"]) == (403, "Forbidden", f"{told} deleted")
        assert (await cluster.get(path, name))[0] == 200


async def test_a_pod_keeps_the_priority_it_was_given(api: Api) -> None:
    """plugin/pkg/admission/priority: "Ensure the existing priority is preserved on update." So that who replaces a pod
    by what they once made it of is not told that the priority may not change."""
    sent = pod("kept", automountServiceAccountToken=False, serviceAccountName="default")
    await api.create(PODS, sent)
    status, obj = await api.update(PODS, {**sent, "metadata": {"name": "kept", "labels": {"a": "b"}}})
    assert (status, obj["metadata"]["labels"]) == (200, {"a": "b"})
    assert (obj["spec"]["priority"], obj["spec"]["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    sent["spec"]["priority"] = 5
    status, error = await api.update(PODS, sent)
    assert (status, error["reason"]) == (422, "Invalid")


async def test_there_is_one_default_class(api: Api, cluster: Api) -> None:
    status, _ = await cluster.create(CLASSES, {"metadata": {"name": "one"}, "value": 5, "globalDefault": True})
    assert status == 201
    _, obj = await api.create(PODS, pod("p"))
    assert (obj["spec"]["priorityClassName"], obj["spec"]["priority"]) == ("one", 5)
    status, error = await cluster.create(CLASSES, {"metadata": {"name": "two"}, "value": 6, "globalDefault": True})
    assert status == 403
    assert "Only one default can exist" in error["message"]
    await cluster.delete(CLASSES, "one")


async def test_a_second_default_class_of_the_same_name_is_refused_as_one(cluster: Api) -> None:
    """And not as one that is there: admission is asked first."""
    made = {"metadata": {"name": "one"}, "value": 5, "globalDefault": True}
    assert (await cluster.create(CLASSES, made))[0] == 201
    status, error = await cluster.create(CLASSES, made)
    assert (status, error["reason"]) == (403, "Forbidden")
    assert "Only one default can exist" in error["message"]
    _, held = await cluster.get(CLASSES, "one")
    assert (await cluster.update(CLASSES, held))[0] == 200
    await cluster.delete(CLASSES, "one")


async def test_a_new_node_is_tainted_until_it_is_ready(cluster: Api) -> None:
    _, obj = await cluster.create("v1/nodes", {"metadata": {"name": "n"}})
    assert obj["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


async def test_a_kubelet_reaches_what_its_pods_need_and_no_more(server: APIServer, api: Api, cluster: Api) -> None:
    kubelet = Api(server.transport(username="system:node:own", groups=["system:nodes"]), api.namespace)
    at_root = Api(kubelet.transport, "")
    for name in ("used", "unused"):
        await api.create("v1/secrets", {"metadata": {"name": name}})
    volume = {"name": "v", "secret": {"secretName": "used"}}
    _, mine = await api.create(PODS, pod("mine", nodeName="own", volumes=[volume]))
    await api.create(PODS, pod("theirs", nodeName="other"))
    assert (await kubelet.get("v1/secrets", "used"))[0] == 200
    assert (await kubelet.get("v1/secrets", "unused"))[0] == 403
    assert (await kubelet.list("v1/secrets"))[0] == 403
    running = {"status": {"phase": "Running"}}
    assert (await kubelet.patch(PODS, "mine", running, subresource="status"))[0] == 200
    assert (await kubelet.patch(PODS, "theirs", running, subresource="status"))[0] == 403
    assert (await kubelet.delete(PODS, "theirs"))[0] == 403
    assert (await at_root.create("v1/nodes", {"metadata": {"name": "own"}}))[0] == 201
    assert (await at_root.create("v1/nodes", {"metadata": {"name": "another"}}))[0] == 403
    token = api.path(ACCOUNTS, "default", "token")
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": mine["metadata"]["uid"]}
    bound = {"spec": {"boundObjectRef": reference}}
    assert (await kubelet.call("POST", token, bound))[0] == 201
    leases = Api(kubelet.transport, "kube-node-lease")
    lease = "coordination.k8s.io/v1/leases"
    assert (await leases.create(lease, {"metadata": {"name": "own"}}))[0] == 201
    assert (await leases.create(lease, {"metadata": {"name": "another"}}))[0] == 403
