"""The subcommands of kubectl that test_kubectl.py's day does not come by, with an old, a middle and a new kubectl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, of_version, own_namespace
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IDLE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle, labels: {app: idle}}
spec:
  replicas: 0
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: main, image: none, command: [sleep, "3600"], ports: [{containerPort: 80}]}]}
"""


@pytest.fixture(scope="module", params=["1.27", "1.33", "1.37"])
def kubectl(
    cluster: RunningCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    return of_version(request.param, cluster.kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    with own_namespace(kubectl, "verbs") as name:
        yield name


@pytest.fixture(scope="module")
def idle(kubectl: Kubectl, namespace: str) -> str:
    """A namespace with a Deployment of no pods."""
    kubectl("-n", namespace, "apply", "-f", "-", stdin=IDLE)
    return namespace


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        ("configmap one --from-literal=a=b", "configmap/one"),
        ("secret generic one --from-literal=a=b", "secret/one"),
        ("secret docker-registry one --docker-server=r --docker-username=u --docker-password=p", "secret/one"),
        ("serviceaccount one", "serviceaccount/one"),
        ("service clusterip one --tcp=80:8080", "service/one"),
        ("service nodeport one --tcp=80:8080", "service/one"),
        ("service loadbalancer one --tcp=80:8080", "service/one"),
        ("service externalname one --external-name=example.com", "service/one"),
        ("deployment one --image=none --replicas=2 --port=80", "deployment.apps/one"),
        ("job one --image=none -- true", "job.batch/one"),
        ("cronjob one --image=none --schedule=@daily -- true", "cronjob.batch/one"),
        ("ingress one --rule=example.com/path*=svc:80", "ingress.networking.k8s.io/one"),
        ("quota one --hard=pods=10", "resourcequota/one"),
        ("poddisruptionbudget one --selector=a=b --min-available=1", "poddisruptionbudget.policy/one"),
        ("role one --verb=get --resource=pods", "role.rbac.authorization.k8s.io/one"),
        ("rolebinding one --clusterrole=view --user=u", "rolebinding.rbac.authorization.k8s.io/one"),
        ("clusterrole one --verb=get --resource=pods", "clusterrole.rbac.authorization.k8s.io/one"),
        ("clusterrolebinding one --clusterrole=view --group=g", "clusterrolebinding.rbac.authorization.k8s.io/one"),
        ("priorityclass one --value=10", "priorityclass.scheduling.k8s.io/one"),
    ],
)
def test_create_makes_each_kind_it_has_a_subcommand_for(
    kubectl: Kubectl, namespace: str, arguments: str, made: str
) -> None:
    # Judged in full by the server, and not stored: the names are for all.
    before, double, command = arguments.partition(" -- ")
    words = [*before.split(), "--dry-run=server", "-o", "name", *(["--", *command.split()] if double else [])]
    assert kubectl("-n", namespace, "create", *words).strip() == made


def test_create_token_is_a_token_of_the_account(kubectl: Kubectl, namespace: str) -> None:
    token = kubectl("-n", namespace, "create", "token", "default", "--duration=10m").strip()
    answer = kubectl.run("--token", token, "-n", namespace, "auth", "can-i", "create", "pods")
    assert len(token.split(".")) == 3
    assert answer.output.strip() in {"yes", "no"}


def test_server_side_apply_tells_conflicts_and_takes_by_force(kubectl: Kubectl, namespace: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: '1'}\n"
    apply = ("-n", namespace, "apply", "--server-side", "-f", "-")
    assert "configmap/shared serverside-applied" in kubectl(*apply, "--field-manager=first", stdin=text)
    changed = text.replace("'1'", "'2'")
    answer = kubectl.run(*apply, "--field-manager=second", stdin=changed)
    assert answer.status == 1
    assert 'conflict with "first": .data.a' in answer.errors
    kubectl(*apply, "--field-manager=second", "--force-conflicts", stdin=changed)
    assert kubectl("-n", namespace, "get", "cm", "shared", "-o", "jsonpath={.data.a}") == "2"
    assert '"manager": "second"' in kubectl(
        "-n", namespace, "get", "cm", "shared", "-o", "json", "--show-managed-fields"
    )


def test_get_watches(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "create", "configmap", "watched")
    command = [kubectl.program, "--kubeconfig", kubectl.kubeconfig, "-n", namespace, "get", "configmaps", "-w"]
    selected = ["--field-selector=metadata.name=watched", "--output-watch-events"]
    with subprocess.Popen([*map(str, command), *selected], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline().split() == ["EVENT", "NAME", "DATA", "AGE"]
            assert watching.stdout.readline().split()[:3] == ["ADDED", "watched", "0"]
            kubectl("-n", namespace, "patch", "configmap", "watched", "-p", '{"data": {"a": "b"}}')
            assert watching.stdout.readline().split()[:3] == ["MODIFIED", "watched", "1"]
            kubectl("-n", namespace, "delete", "configmap", "watched")
            assert watching.stdout.readline().split()[:3] == ["DELETED", "watched", "1"]
        finally:
            watching.kill()


def test_replace_keeps_the_object_and_by_force_makes_it_anew(kubectl: Kubectl, namespace: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: replaced}\ndata: {a: '1'}\n"
    kubectl("-n", namespace, "create", "-f", "-", stdin=text)
    uid = kubectl("-n", namespace, "get", "cm", "replaced", "-o", "jsonpath={.metadata.uid}")
    kubectl("-n", namespace, "replace", "-f", "-", stdin=text.replace("a: '1'", "b: '2'"))
    same, data = kubectl("-n", namespace, "get", "cm", "replaced", "-o", "jsonpath={.metadata.uid} {.data}").split(
        maxsplit=1
    )
    assert (same, data) == (uid, '{"b":"2"}')
    kubectl("-n", namespace, "replace", "--force", "-f", "-", stdin=text)
    assert kubectl("-n", namespace, "get", "cm", "replaced", "-o", "jsonpath={.metadata.uid}") != uid


def test_set_changes_image_resources_account_and_selector(kubectl: Kubectl, idle: str) -> None:
    kubectl("-n", idle, "set", "image", "deployment/idle", "main=other")
    kubectl("-n", idle, "set", "resources", "deployment/idle", "--limits=cpu=200m", "--requests=cpu=100m")
    kubectl("-n", idle, "set", "serviceaccount", "deployment/idle", "default")
    pod = kubectl.json("-n", idle, "get", "deployment", "idle")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "other"
    assert pod["containers"][0]["resources"] == {"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}
    assert pod["serviceAccountName"] == "default"
    kubectl("-n", idle, "create", "service", "clusterip", "chosen", "--tcp=80:80")
    kubectl("-n", idle, "set", "selector", "service", "chosen", "app=idle")
    assert kubectl.json("-n", idle, "get", "service", "chosen")["spec"]["selector"] == {"app": "idle"}


def test_expose_and_autoscale_make_what_fits_the_deployment(kubectl: Kubectl, idle: str) -> None:
    kubectl("-n", idle, "expose", "deployment", "idle", "--port=80")
    spec = kubectl.json("-n", idle, "get", "service", "idle")["spec"]
    assert (spec["selector"], spec["ports"][0]["port"]) == ({"app": "idle"}, 80)
    kubectl("-n", idle, "autoscale", "deployment", "idle", "--min=1", "--max=3")
    scaler = kubectl.json("-n", idle, "get", "hpa", "idle")["spec"]
    assert (scaler["scaleTargetRef"]["name"], scaler["maxReplicas"]) == ("idle", 3)
    kubectl("-n", idle, "delete", "hpa", "idle")


def test_rollout_pauses_and_resumes(kubectl: Kubectl, idle: str) -> None:
    kubectl("-n", idle, "rollout", "pause", "deployment/idle")
    assert kubectl("-n", idle, "get", "deployment", "idle", "-o", "jsonpath={.spec.paused}") == "true"
    kubectl("-n", idle, "rollout", "resume", "deployment/idle")
    assert kubectl("-n", idle, "get", "deployment", "idle", "-o", "jsonpath={.spec.paused}") == ""


def test_delete_by_label_and_with_orphans_and_by_force(kubectl: Kubectl, namespace: str) -> None:
    for name in ("a", "b"):
        kubectl("-n", namespace, "create", "configmap", name)
        kubectl("-n", namespace, "label", "configmap", name, "goes=away")
    assert len(kubectl("-n", namespace, "delete", "configmap", "-l", "goes=away").splitlines()) == 2
    kubectl("-n", namespace, "apply", "-f", "-", stdin=IDLE.replace("idle", "parent"))
    kubectl(
        "-n", namespace, "wait", "--for=jsonpath={.status.observedGeneration}=1", "deployment/parent", "--timeout=180s"
    )
    kubectl("-n", namespace, "delete", "deployment", "parent", "--cascade=orphan")
    [left] = kubectl.json("-n", namespace, "get", "replicasets", "-l", "app=parent")["items"]
    assert "ownerReferences" not in left["metadata"]
    kubectl("-n", namespace, "run", "stubborn", "--image=none", "--command", "--", "sleep", "3600")
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/stubborn", "--timeout=180s")
    kubectl("-n", namespace, "delete", "pod", "stubborn", "--grace-period=0", "--force")
    assert 'pods "stubborn" not found' in kubectl.run("-n", namespace, "get", "pod", "stubborn").errors


def test_nodes_are_tainted_and_what_drain_would_do_is_told(kubectl: Kubectl) -> None:
    [node] = kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
    kubectl("taint", "node", node, "judged=yes:PreferNoSchedule")
    try:
        assert kubectl("get", "node", node, "-o", "jsonpath={.spec.taints[*].key}") == "judged"
    finally:
        kubectl("taint", "node", node, "judged-")
    assert "cordoned (server dry run)" in kubectl("cordon", node, "--dry-run=server")


def test_events_cluster_info_and_version(kubectl: Kubectl, idle: str) -> None:
    assert "LAST SEEN" in kubectl("-n", idle, "events")
    assert "Kubernetes control plane" in kubectl("cluster-info")
    version = kubectl.json("version")["serverVersion"]
    assert (version["major"], version["minor"].rstrip("+")) == ("1", "35")


def test_record_keeps_the_cause_of_a_change(kubectl: Kubectl, idle: str) -> None:
    kubectl("-n", idle, "scale", "deployment", "idle", "--replicas=0", "--record")
    kubectl("-n", idle, "set", "image", "deployment/idle", "main=recorded", "--record")
    annotations = kubectl.json("-n", idle, "get", "deployment", "idle")["metadata"]["annotations"]
    assert "set image" in annotations["kubernetes.io/change-cause"]


def test_top_tells_what_pods_and_their_containers_use(kubectl: Kubectl, running: str) -> None:
    header, row = kubectl("-n", running, "top", "pods", "--containers").splitlines()
    assert header.split() == ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert row.split()[:2] == ["runs", "runs"]


@pytest.fixture(scope="module")
def running(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A namespace with a running pod."""
    kubectl("-n", namespace, "run", "runs", "--image=none", "--command", "--", "sleep", "3600")
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/runs", "--timeout=180s")
    return namespace


def test_kustomize_and_a_folder_are_applied(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [map.yaml]\nnamePrefix: from-\n")
    (tmp_path / "map.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: folder}\n")
    assert "configmap/from-folder created" in kubectl("-n", namespace, "apply", "-k", str(tmp_path))
