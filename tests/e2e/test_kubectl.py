"""What a user of kubectl does all day, with the oldest and the newest kubectl and some between."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, of_version, own_namespace
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VERSIONS = ["1.27", "1.30", "1.33", "1.35", "1.37"]

SLEEPER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper, labels: {app: sleeper}}
spec:
  replicas: 2
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: main, image: none, command: [sh, -c, "echo started by $GREETING; exec sleep 3600"],
           env: [{name: GREETING, value: nobody}]}
"""


# The first process of a pod gets no signal that it has not asked for.
ENDS_WHEN_TOLD = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture(scope="module", params=VERSIONS)
def kubectl(
    cluster: RunningCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    return of_version(request.param, cluster.kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    with own_namespace(kubectl, "tour") as name:
        yield name


@pytest.fixture(scope="module")
def deployed(kubectl: Kubectl, namespace: str) -> str:
    kubectl("-n", namespace, "apply", "-f", "-", stdin=SLEEPER)
    kubectl("-n", namespace, "rollout", "status", "deployment/sleeper", "--timeout=180s")
    return namespace


def test_apply_says_created_then_unchanged_then_configured(kubectl: Kubectl, namespace: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: '1'}\n"
    assert "configmap/applied created" in kubectl("-n", namespace, "apply", "-f", "-", stdin=text)
    assert "configmap/applied unchanged" in kubectl("-n", namespace, "apply", "-f", "-", stdin=text)
    changed = text.replace("'1'", "'2'")
    assert "configmap/applied configured" in kubectl("-n", namespace, "apply", "-f", "-", stdin=changed)
    assert kubectl("-n", namespace, "get", "cm", "applied", "-o", "jsonpath={.data.a}") == "2"


def test_diff_shows_what_apply_would_change(kubectl: Kubectl, namespace: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: differs}\ndata: {a: before}\n"
    kubectl("-n", namespace, "apply", "-f", "-", stdin=text)
    answer = kubectl.run("-n", namespace, "diff", "-f", "-", stdin=text.replace("before", "after"))
    assert answer.status == 1
    assert "-  a: before" in answer.output
    assert "+  a: after" in answer.output


def test_get_prints_the_table_of_pods(kubectl: Kubectl, deployed: str) -> None:
    header, *rows = kubectl("-n", deployed, "get", "pods").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert len(rows) == 2
    assert all(row.split()[1:4] == ["1/1", "Running", "0"] for row in rows)


def test_get_wide_adds_ip_and_node(kubectl: Kubectl, deployed: str) -> None:
    header, row, *_ = kubectl("-n", deployed, "get", "pods", "-o", "wide").splitlines()
    assert header.split()[5:] == ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert re.search(r"\d+\.\d+\.\d+\.\d+", row)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("name", "deployment.apps/sleeper"),
        ("jsonpath={.spec.replicas}", "2"),
        ("custom-columns=N:.metadata.name,R:.spec.replicas", "sleeper   2"),
        ("yaml", "kind: Deployment"),
        ("json", '"kind": "Deployment"'),
        ("go-template={{.spec.replicas}}", "2"),
    ],
)
def test_get_in_every_output_form(kubectl: Kubectl, deployed: str, form: str, expected: str) -> None:
    assert expected in kubectl("-n", deployed, "get", "deployment", "sleeper", "-o", form)


def test_get_selects_by_label_and_field(kubectl: Kubectl, deployed: str) -> None:
    names = kubectl("-n", deployed, "get", "pods", "-l", "app in (sleeper)", "-o", "name").split()
    assert len(names) == 2
    assert kubectl("-n", deployed, "get", "pods", "-l", "app!=sleeper", "-o", "name") == ""
    running = kubectl("-n", deployed, "get", "pods", "--field-selector=status.phase=Running", "-o", "name")
    assert sorted(running.split()) == sorted(names)


def test_get_sorts_by_a_field(kubectl: Kubectl, namespace: str) -> None:
    ranks = {"a": "3", "b": "1", "c": "2"}
    for name, rank in ranks.items():
        kubectl("-n", namespace, "create", "configmap", f"ranked-{name}", f"--from-literal=rank={rank}")
        kubectl("-n", namespace, "label", "configmap", f"ranked-{name}", "ranked=yes")
    got = kubectl("-n", namespace, "get", "cm", "-l", "ranked=yes", "--sort-by=.data.rank", "-o", "name")
    assert got.split() == ["configmap/ranked-b", "configmap/ranked-c", "configmap/ranked-a"]


def test_get_all_and_across_namespaces(kubectl: Kubectl, deployed: str) -> None:
    everything = kubectl("-n", deployed, "get", "all")
    for kind in ("pod/", "deployment.apps/", "replicaset.apps/"):
        assert kind in everything
    assert deployed in kubectl("get", "deployments", "-A")


def test_describe_pod_tells_state_and_events(kubectl: Kubectl, deployed: str) -> None:
    for reason in ("Scheduled", "Started"):  # who tells of it does so a moment later, each in a time of its own
        kubectl.event(deployed, reason)
    text = kubectl("-n", deployed, "describe", "pods", "-l", "app=sleeper", "--show-events")
    assert re.search(r"Status:\s+Running", text)
    assert "Successfully assigned" in text
    assert "Started container main" in text or "Container started" in text
    assert re.search(r"Ready\s+True", text)


def test_describe_node_tells_capacity_conditions_and_leases(kubectl: Kubectl, deployed: str) -> None:
    text = kubectl("describe", "nodes")
    for part in ("Capacity:", "Allocatable:", "Allocated resources:", "Lease:", "KubeletReady", "System Info:"):
        assert part in text


def test_logs_of_a_pod_of_a_deployment(kubectl: Kubectl, deployed: str) -> None:
    # A container runs before its program has said anything.
    with kubectl.running("-n", deployed, "logs", "--follow", "deployment/sleeper", stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"started by nobody\n"


def test_label_and_annotate(kubectl: Kubectl, deployed: str) -> None:
    kubectl("-n", deployed, "label", "deployment", "sleeper", "tier=back")
    kubectl("-n", deployed, "annotate", "deployment", "sleeper", "note=here")
    got = kubectl.json("-n", deployed, "get", "deployment", "sleeper")["metadata"]
    assert got["labels"]["tier"] == "back"
    assert got["annotations"]["note"] == "here"
    kubectl("-n", deployed, "label", "deployment", "sleeper", "tier-")
    assert "tier" not in kubectl.json("-n", deployed, "get", "deployment", "sleeper")["metadata"]["labels"]


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", {"spec": {"template": {"spec": {"containers": [{"name": "main", "tty": False}]}}}}),
        ("merge", {"metadata": {"annotations": {"patched": "merge"}}}),
        ("json", [{"op": "add", "path": "/metadata/annotations/patched", "value": "json"}]),
    ],
)
def test_patch_of_three_kinds(kubectl: Kubectl, deployed: str, kind: str, patch: object) -> None:
    kubectl("-n", deployed, "annotate", "deployment", "sleeper", "seen=yes", "--overwrite")
    kubectl("-n", deployed, "patch", "deployment", "sleeper", f"--type={kind}", "-p", json.dumps(patch))
    got = kubectl.json("-n", deployed, "get", "deployment", "sleeper")
    if kind == "strategic":
        assert [c["name"] for c in got["spec"]["template"]["spec"]["containers"]] == ["main"]
        assert got["spec"]["template"]["spec"]["containers"][0]["command"][0] == "sh"
    else:
        assert got["metadata"]["annotations"]["patched"] == kind


def test_edit_writes_back_what_the_editor_left(
    kubectl: Kubectl, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl("-n", namespace, "create", "configmap", "edited", "--from-literal=word=old")
    monkeypatch.setenv("KUBE_EDITOR", "sed -i s/old/new/")
    assert "edited" in kubectl("-n", namespace, "edit", "configmap", "edited")
    assert kubectl("-n", namespace, "get", "configmap", "edited", "-o", "jsonpath={.data.word}") == "new"


def test_scale_rollout_restart_history_and_undo(kubectl: Kubectl, deployed: str) -> None:
    kubectl("-n", deployed, "scale", "deployment", "sleeper", "--replicas=3")
    kubectl("-n", deployed, "rollout", "status", "deployment/sleeper", "--timeout=180s")
    assert kubectl("-n", deployed, "get", "deployment", "sleeper", "-o", "jsonpath={.status.readyReplicas}") == "3"
    kubectl("-n", deployed, "set", "env", "deployment/sleeper", "GREETING=somebody")
    kubectl("-n", deployed, "rollout", "status", "deployment/sleeper", "--timeout=180s")
    assert len(kubectl("-n", deployed, "rollout", "history", "deployment/sleeper").strip().splitlines()) >= 4
    kubectl("-n", deployed, "rollout", "undo", "deployment/sleeper")
    kubectl("-n", deployed, "rollout", "status", "deployment/sleeper", "--timeout=180s")
    containers = kubectl.json("-n", deployed, "get", "deployment", "sleeper")["spec"]["template"]["spec"]["containers"]
    assert containers[0]["env"] == [{"name": "GREETING", "value": "nobody"}]
    kubectl("-n", deployed, "scale", "deployment", "sleeper", "--replicas=2")
    while len(kubectl("-n", deployed, "get", "pods", "-o", "name").split()) != 2:
        pass  # other tests look at what is left


def test_wait_for_a_condition_and_for_deletion(kubectl: Kubectl, deployed: str) -> None:
    kubectl("-n", deployed, "wait", "--for=condition=Available", "deployment/sleeper", "--timeout=180s")
    kubectl("-n", deployed, "create", "configmap", "gone")
    kubectl("-n", deployed, "delete", "configmap", "gone", "--wait=false")
    kubectl("-n", deployed, "wait", "--for=delete", "configmap/gone", "--timeout=180s")


def test_delete_waits_until_the_object_is_gone(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "create", "deployment", "short", "--image=none", "--", "sh", "-c", ENDS_WHEN_TOLD)
    # Told before it has set its trap, a container goes on for its grace period.
    kubectl("-n", namespace, "delete", "deployment", "short", "--cascade=foreground")
    answer = kubectl.run("-n", namespace, "get", "deployment", "short")
    assert answer.status == 1
    assert 'deployments.apps "short" not found' in answer.errors


def test_explain_reads_the_schema(kubectl: Kubectl) -> None:
    text = kubectl("explain", "deployment.spec.strategy")
    assert "rollingUpdate" in text
    assert "KIND:" in text
    assert "containers" in kubectl("explain", "pod.spec", "--recursive")


def test_api_resources_and_versions(kubectl: Kubectl) -> None:
    text = kubectl("api-resources")
    assert re.search(r"^pods\s+po\s+v1\s+true\s+Pod$", text, re.MULTILINE)
    assert re.search(r"^deployments\s+deploy\s+apps/v1\s+true\s+Deployment$", text, re.MULTILINE)
    assert "apps/v1" in kubectl("api-versions").splitlines()


def test_auth_can_i(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    answer = kubectl.run("auth", "can-i", "create", "pods", "--as=system:serviceaccount:default:default")
    assert answer.output.strip() == "no"
    assert "*.*" in kubectl("auth", "can-i", "--list")


def test_auth_whoami(kubectl: Kubectl) -> None:
    if kubectl.program.name.endswith("1.27"):
        # It knows the alpha and beta versions only, which v1.35 has dropped.
        assert "selfsubjectreviews API is not enabled" in kubectl.run("auth", "whoami").errors
    else:
        assert "kubernetes-admin" in kubectl("auth", "whoami")


def test_component_health(kubectl: Kubectl) -> None:
    assert "readyz check passed" in kubectl("get", "--raw", "/readyz?verbose")
    kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=180s")
    header, *rows = kubectl("get", "componentstatuses").splitlines()
    assert header.split() == ["NAME", "STATUS", "MESSAGE", "ERROR"]
    assert [row.split()[0] for row in rows] == ["scheduler", "controller-manager"]
    (served,) = [
        one for one in json.loads(kubectl("get", "--raw", "/api/v1"))["resources"] if one["name"] == "componentstatuses"
    ]
    assert served["verbs"] == ["get", "list"]
    assert all(row.split()[1] == "Healthy" for row in rows)
    assert re.search(r"\bReady\b", kubectl("get", "nodes", "-o", "wide"))


def test_mistakes_get_kubernetes_words(kubectl: Kubectl, namespace: str) -> None:
    assert 'pods "nobody" not found' in kubectl.run("-n", namespace, "get", "pod", "nobody").errors
    assert "the server doesn't have a resource type" in kubectl.run("get", "unicorns").errors
    bad = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: -1}\n"
    errors = kubectl.run("-n", namespace, "apply", "--validate=false", "-f", "-", stdin=bad).errors
    assert 'The Deployment "bad" is invalid' in errors
    assert "must be greater than or equal to 0" in errors
    typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: typo}\ndatta: {a: b}\n"
    assert 'unknown field "datta"' in kubectl.run("-n", namespace, "apply", "-f", "-", stdin=typo).errors
