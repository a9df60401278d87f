"""`kubecore up` by a user without any rights, and what tests ask it for."""

from __future__ import annotations

import json
import subprocess
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecore.proxy.asking import ask as ask_proxy
from tests.support.kubectl import Kubectl, program
from tests.support.process import PATIENCE, ROOT, Command
from tests.support.unprivileged import User

EXAMPLE = ROOT / "examples" / "web.yaml"
LOOPBACK = ("--pod-network", "loopback")


@dataclass
class Running:
    command: Command
    kubectl: Kubectl
    data_dir: Path

    def example(self) -> None:
        """Apply the example and wait for it."""
        self.kubectl("apply", "-f", str(EXAMPLE))
        for name in ("backend", "frontend"):
            self.kubectl("-n", "web", "rollout", "status", f"deployment/{name}", "--timeout=180s")

    def value(self, path: str, *what: str) -> str:
        return self.kubectl("get", *what, "-o", f"jsonpath={path}")

    @property
    def node_address(self) -> str:
        return self.value("{.items[0].status.addresses[?(@.type=='InternalIP')].address}", "nodes")

    def pod(
        self, name: str, script: str, *, interpreter: str = "python3", mounts: Sequence[object] = (), **spec: object
    ) -> str:
        """Run a pod to its end and return its output."""
        command = [interpreter, "-c", textwrap.dedent(script)]
        self.apply(name, command, mounts=mounts, restartPolicy="Never", **spec)
        self.kubectl("wait", "pod", name, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
        return self.kubectl("logs", name)

    def led_to(self, service: str) -> None:
        """Wait until the proxy leads to an endpoint of the Service: it hears of it a moment after the API has it."""
        address, ends = self.value("{.spec.clusterIP}", "service", service), time.monotonic() + PATIENCE
        while not any(one["destinations"] for one in self._told_by_proxy() if one["address"] == address):
            assert time.monotonic() < ends, f"Service {service} leads nowhere"

    def _told_by_proxy(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = ask_proxy(self.data_dir / "proxy.sock")["services"]
        return told

    @contextmanager
    def forwarded(self, what: str, port: int, *options: str) -> Iterator[int]:
        """A port of this host by which `kubectl port-forward` leads to one of a pod's."""
        kubectl = self.kubectl
        command = [str(kubectl.program), "--kubeconfig", str(kubectl.kubeconfig), *options, "port-forward", what]
        with subprocess.Popen([*command, f":{port}"], stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            line = running.stdout.readline()
            try:
                yield int(line.split("127.0.0.1:")[1].split(" ")[0])
            finally:
                running.terminate()

    def apply(self, name: str, command: list[str], *, mounts: Sequence[object] = (), **spec: object) -> None:
        container = {"name": "main", "image": "none", "command": command, "volumeMounts": list(mounts)}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [container], **spec},
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(pod))


@contextmanager
def up(somebody: User, name: str, *arguments: str) -> Iterator[Running]:
    kubectl = program("1.37")
    assert kubectl is not None
    data_dir = somebody.home / name
    options = ("--data-dir", str(data_dir), "--secure-port", "0", "--grpc-port", "0", *arguments)
    command = Command("up", *options, program=somebody.program, environment=somebody.environment, folder=Path("/"))
    try:
        command.wait_ready()
        yield Running(command, Kubectl(kubectl, data_dir / "admin.kubeconfig", somebody.home), data_dir)
    finally:
        if command.process.poll() is None:
            command.stop()
