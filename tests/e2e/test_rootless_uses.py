"""What programs do with their network under `kubecore up --pod-network rootless`, by a user without any rights."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.rootless import ROOTLESS, rootless_user
from tests.support.small_image import SmallImage, programs
from tests.support.unprivileged import User
from tests.support.unprivileged_cluster import Running, up

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


@pytest.fixture(scope="module")
def somebody() -> Iterator[User]:
    with rootless_user() as found:
        yield found


@pytest.fixture(scope="module")
def cluster(somebody: User) -> Iterator[Running]:
    with up(somebody, "uses", *ROOTLESS) as running:
        yield running


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
