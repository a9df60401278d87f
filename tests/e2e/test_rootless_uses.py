"""What programs do with their network under `kubecore up --pod-network rootless`, by a user without any rights."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import trustme

from kubecore.kubelet.runtime.oci_programs import finding
from tests.support import webhook_program
from tests.support.rootless import fixtures
from tests.support.small_image import SmallImage, programs
from tests.support.unprivileged import User
from tests.support.unprivileged_cluster import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LISTENS_UDP = """
import socket
packets = socket.socket(type=socket.SOCK_DGRAM)
packets.bind(("0.0.0.0", 5300))
open("/tmp/listens-udp", "w").close()
while True:
    said, client = packets.recvfrom(1 << 16)
    packets.sendto(client[0].encode() + b" " + said, client)
"""


SERVES_GRPC = """
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
server = grpc.server(ThreadPoolExecutor(2))
known = health.HealthServicer()
known.set("", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(known, server)
server.add_insecure_port("0.0.0.0:9000")
server.start()
server.wait_for_termination()
"""
WHERE = ("0.0.0.0", 9000)
WITH_RUNC = pytest.mark.skipif(not finding.find("runc"), reason="there is no runc (Debian's package runc)")


somebody, cluster = fixtures("uses")


@pytest.fixture(scope="module")
def service(cluster: Running) -> str:
    """The address of a Service of a pod that tells by UDP whom it sees."""
    listens = {"exec": {"command": ["test", "-e", "/tmp/listens-udp"]}, "periodSeconds": 1, "timeoutSeconds": 60}
    command = ["python3", "-c", LISTENS_UDP]
    main = {"name": "main", "image": "none", "command": command, "readinessProbe": listens}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [main]}
    labelled = {"name": "packets", "labels": {"app": "packets"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": labelled, "spec": spec}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod", "packets", "--for=condition=Ready", "--timeout=180s")
    cluster.kubectl("expose", "pod", "packets", "--port=53", "--target-port=5300", "--protocol=UDP")
    cluster.led_to("packets")
    return cluster.value("{.spec.clusterIP}", "service", "packets")


def test_a_service_by_udp_leads_to_its_pod_which_sees_who_asks(cluster: Running, service: str) -> None:
    said = cluster.pod(
        "asks-by-udp",
        """
        import os, socket
        for number in range(40):
            with socket.socket(type=socket.SOCK_DGRAM) as packets:
                packets.settimeout(60)
                packets.sendto(b"who", ("packets", 53))
                seen, answering = packets.recvfrom(100)
            assert seen.decode().split() == [os.environ["KUBECORE_POD_IP"], "who"], seen
        print(answering[0])
        """,
    )
    assert said.strip() == service


def test_a_pod_of_an_image_asks_a_service(cluster: Running, service: str, somebody: User) -> None:
    image = SmallImage([programs(("bash", "cat", "head", "echo"))], {}, ["asking:1"])
    archive = image.docker_archive(somebody.home / "asking.tar")
    archive.chmod(0o644)
    done = somebody.run(*somebody.program[-3:], "image", "load", "--data-dir", str(cluster.data_dir), str(archive))
    assert done.returncode == 0, done.stderr
    script = f"exec 3<>/dev/udp/{service}/53; echo who >&3; head -n 1 <&3"
    main = {"name": "main", "image": "asking:1", "imagePullPolicy": "Never", "command": ["bash", "-c", script]}
    spec = {"runtimeClassName": "oci", "restartPolicy": "Never", "containers": [main]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "imaged"}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod/imaged", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    own = cluster.value("{.status.podIP}", "pod", "imaged")
    assert cluster.kubectl("logs", "imaged").strip() == f"{own} who"


@pytest.mark.parametrize("handler", ["host", "oci", pytest.param("runc", marks=WITH_RUNC)])
def test_sys_tells_of_the_interfaces_of_the_pod(cluster: Running, somebody: User, handler: str) -> None:
    """As far as the kernel lets one be mounted by who is root in a user namespace only."""
    mount = ["unshare", "--user", "--map-root-user", "--mount", "--net", "mount", "-t", "sysfs", "sysfs", "/sys"]
    if somebody.run(*mount).returncode != 0:
        pytest.skip("no /sys can be mounted here")
    image = SmallImage([programs(("sh", "ls"))], {}, ["listing:1"])
    archive = image.docker_archive(somebody.home / f"listing-{handler}.tar")
    archive.chmod(0o644)
    done = somebody.run(*somebody.program[-3:], "image", "load", "--data-dir", str(cluster.data_dir), str(archive))
    assert done.returncode == 0, done.stderr
    meta, name = {"name": handler}, f"listing-{handler}"
    named = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": meta, "handler": handler}
    command = ["ls", "/sys/class/net"]
    main = {"name": "main", "image": "listing:1", "imagePullPolicy": "IfNotPresent", "command": command}
    spec = {"runtimeClassName": handler, "restartPolicy": "Never", "containers": [main]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    for one in (named, pod):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(one))
    cluster.kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    assert sorted(cluster.kubectl("logs", name).split()) == ["eth0", "lo"]


def run(cluster: Running, name: str, container: dict[str, object], *volumes: object) -> None:
    """A pod that is ready once its probe says so."""
    main = {"name": "main", "image": "none", **container}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [main], "volumes": list(volumes)}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod", name, "--for=condition=Ready", "--timeout=180s")


def test_probes_by_grpc_reach_a_pod(cluster: Running, somebody: User) -> None:
    python = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path=os.defpath)
    if python is None:
        pytest.skip("containers have no Python of this version")
    probe = {"grpc": {"port": 9000}, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 180}
    environment = [{"name": "PYTHONPATH", "value": somebody.environment["PYTHONPATH"]}]
    probes = {"startupProbe": probe, "readinessProbe": probe}
    run(cluster, "by-grpc", {"command": [python, "-c", SERVES_GRPC], "env": environment, **probes})
    assert cluster.value("{.status.containerStatuses[0].restartCount}", "pod", "by-grpc") == "0"


def test_a_webhook_that_a_pod_serves_judges_what_is_written(cluster: Running) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("hook.default.svc").private_key_and_cert_chain_pem.bytes().decode()
    program = Path(webhook_program.__file__).read_text().replace('("127.0.0.1", 0)', repr(WHERE))
    files = (f"--from-literal=certificate={certificate}", f"--from-literal=program={program}")
    cluster.kubectl("create", "configmap", "hook", *files)
    container = {
        "command": ["python3", "/hook/program", "/hook/certificate"],
        "readinessProbe": {"tcpSocket": {"port": WHERE[1]}, "periodSeconds": 1, "failureThreshold": 180},
        "volumeMounts": [{"name": "hook", "mountPath": "/hook"}],
    }
    run(cluster, "hook", container, {"name": "hook", "configMap": {"name": "hook"}})
    cluster.kubectl("expose", "pod", "hook", "--port=443", f"--target-port={WHERE[1]}")
    cluster.led_to("hook")
    trusted = base64.b64encode(authority.cert_pem.bytes()).decode()
    hook = {
        "name": "judge.example.com",
        "clientConfig": {"service": {"namespace": "default", "name": "hook"}, "caBundle": trusted},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 30,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps({**kind, "metadata": {"name": "judge"}, "webhooks": [hook]}))
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "judged", "labels": {"refuse": "not-today"}}}
    answer = cluster.kubectl.run("create", "-f", "-", stdin=json.dumps(made))
    assert 'admission webhook "judge.example.com" denied the request: not-today' in answer.errors
