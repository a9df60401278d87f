"""What dynamic admission adds to a durable create of a 2 KB ConfigMap: a mutating and a validating webhook on loopback,
and a policy of 20 CEL rules. No peer; the figures have targets of their own.

One request at a time on one kept connection over plain HTTP, in many short turns: with nothing, with webhooks, with the
policy. A figure is the median of what turns differ by from the ones before them, each by its median request; the
webhooks answer at once, from a process on the other core.
"""

from __future__ import annotations

import base64
import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _payloads import encoded
from _report import ROUNDS, Target, median, row
from _servers import LOAD_CPU, Server, kubecore, pinned, scratch

REQUESTS, BYTES, TURNS = 100, 2048, 8 * ROUNDS
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
WEBHOOKS = Target("<= 1 ms", 1.0, "at most")
POLICY = Target("<= 100 us", 100.0, "at most")


@contextmanager
def webhook() -> Iterator[tuple[int, str]]:
    """Its port, and the CA of its certificate in base64."""
    import trustme

    authority = trustme.CA()
    with scratch("kubecore-webhook-") as folder:
        certificate = Path(folder) / "certificate.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        line = [sys.executable, str(Path(__file__).with_name("_webhook.py")), str(certificate)]
        with subprocess.Popen(pinned(LOAD_CPU, *line), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline()), base64.b64encode(authority.cert_pem.bytes()).decode()
            finally:
                process.kill()


def configurations(port: int, bundle: str) -> dict[str, dict[str, Any]]:
    """By the kind's plural."""
    found = {}
    for kind in ("mutating", "validating"):
        url = f"https://127.0.0.1:{port}/{'mutate' if kind == 'mutating' else 'validate'}"
        found[f"{kind}webhookconfigurations"] = {
            "metadata": {"name": "bench"},
            "webhooks": [
                {
                    "name": "bench.example.com",
                    "clientConfig": {"url": url, "caBundle": bundle},
                    "rules": [MAPS],
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }
    return found


def policy() -> dict[str, dict[str, Any]]:
    rules = [f"object.data.all(k, object.data[k].size() > {number}) && object.kind != ''" for number in range(19)]
    rules.append("request.operation == 'CREATE' && object.metadata.name.startsWith('bench-')")
    spec = {
        "matchConstraints": {"resourceRules": [MAPS]},
        "validations": [{"expression": rule, "message": "no"} for rule in rules],
    }
    bound = {"policyName": "bench", "validationActions": ["Deny"]}
    return {
        "validatingadmissionpolicies": {"metadata": {"name": "bench"}, "spec": spec},
        "validatingadmissionpolicybindings": {"metadata": {"name": "bench"}, "spec": bound},
    }


def creates(server: Server) -> float:
    """The median of so many creates, in microseconds."""
    body = encoded({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}}, BYTES)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    taken = []
    for _ in range(REQUESTS):
        started = time.monotonic()
        connection.request("POST", "/api/v1/namespaces/default/configmaps", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        taken.append(time.monotonic() - started)
        assert answer.status == 201, answer.status
    connection.close()
    return median(taken) * 1e6


@contextmanager
def in_force(server: Server, objects: dict[str, dict[str, Any]]) -> Iterator[None]:
    for plural, obj in objects.items():
        server.call("POST", f"{ADMISSION}/{plural}", obj)
    try:
        yield
    finally:
        for plural in objects:
            server.call("DELETE", f"{ADMISSION}/{plural}/bench")


def added(server: Server, objects: dict[str, dict[str, Any]]) -> tuple[float, float, float]:
    """Median of what a create takes more, that of what it takes without, and the server's CPU for it, in us."""
    plain, more, cpu = [], [], []

    def measured(run: Callable[[], float]) -> tuple[float, float]:
        before = server.cpu_seconds()
        return run(), (server.cpu_seconds() - before) / REQUESTS * 1e6

    for number in range(TURNS + 1):
        alone, idle = measured(lambda: creates(server))
        with in_force(server, objects):
            asked, busy = measured(lambda: creates(server))
        if number:
            plain.append(alone)
            more.append(asked - alone)
            cpu.append(busy - idle)
    return median(more), median(plain), median(cpu)


def main() -> None:
    with kubecore() as server, webhook() as (port, bundle):
        more, plain, cpu = added(server, configurations(port, bundle))
        told = f"{more / 1000:.2f} ms more (p50 {plain / 1000:.2f} ms without), {cpu:.0f} us CPU"
        row("webhooks: mutating and validating", told, target=WEBHOOKS.text, verdict=WEBHOOKS.verdict(more / 1000))
        more, plain, cpu = added(server, policy())
        told = f"{more:.0f} us more (p50 {plain / 1000:.2f} ms without), {cpu:.0f} us CPU"
        row("webhooks: a policy of 20 rules", told, target=POLICY.text, verdict=POLICY.verdict(more))


if __name__ == "__main__":
    main()
