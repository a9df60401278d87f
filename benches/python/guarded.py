"""What access control costs: a GET of a pod and a durable create over TLS with a service account's token, on a server
with 1,000 roles, 5,000 bindings, audit at level Metadata and flow control, beside one with the roles of its own, no
audit and no flow control. Then what one flow feels of another's overload.

Overload: 320 connections of one service account, ten times as many as keep the server busy, ask as fast as they are
answered; another account asks once at a time, as it did while nobody else was there.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from _load import JSON_HEADERS, Load, h2load
from _payloads import encoded, pod
from _report import ROUNDS, Target, compared, interleaved, median, row
from _servers import CORE, LOAD_CPU, Server, kubecore, pinned, program, scratch, token

ROLES, BINDINGS = 1_000, 5_000
REQUESTS, CLIENTS, BYTES = {"get": 40_000, "create": 10_000}, {"get": 32, "create": 64}, 2048
CROWD, ASKED = 320, 300
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
COST = Target("CPU at most x 1.1", 1.1, "at most")
FAIR = Target("p99 at most x 3", 3.0, "at most")
MAP = encoded({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}}, BYTES)


@contextmanager
def guarded() -> Iterator[Server]:
    with scratch("kubecore-audit-") as folder:
        policy = Path(folder) / "policy.json"
        policy.write_text(json.dumps(POLICY))
        with kubecore("apiserver", f"--audit-policy-file={policy}", f"--audit-log-path={folder}/audit.log") as server:
            fill_roles(server)
            yield server


def fill_roles(server: Server) -> None:
    """Of others: none of them lets the account of the bench do anything."""
    for number in range(ROLES):
        rule = {"apiGroups": ["apps"], "resources": [f"things{number}"], "verbs": ["get", "list"]}
        server.call("POST", f"{RBAC}/roles", {"metadata": {"name": f"role-{number}"}, "rules": [rule]})
    for number in range(BINDINGS):
        subject = {"kind": "ServiceAccount", "name": f"account-{number % 500}", "namespace": "default"}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"role-{number % ROLES}"}
        binding = {"metadata": {"name": f"binding-{number}"}, "subjects": [subject], "roleRef": ref}
        server.call("POST", f"{RBAC}/rolebindings", binding)


def loader(server: Server, bearer: str, verb: str) -> Callable[[], Load]:
    path, body, size = f"{CORE}/configmaps", MAP, BYTES
    if verb == "get":
        path, body, size = f"{CORE}/pods/bench", None, len(server.call("GET", f"{CORE}/pods/bench"))

    def run() -> Load:
        return h2load(
            server,
            f"{server.url}{path}",
            requests=REQUESTS[verb],
            clients=CLIENTS[verb],
            body=body,
            headers=(f"authorization: Bearer {bearer}", *JSON_HEADERS),
            http1=True,
            answer_bytes=size,
        )

    return run


def costs(server: Server, plain: Server) -> None:
    bearers = []
    for one in (server, plain):
        bearers.append(token(one, pods=["get"], configmaps=["create"]))
        one.call("POST", f"{CORE}/pods", pod(name="bench"))
    for verb in CLIENTS:
        a, b = interleaved(loader(server, bearers[0], verb), loader(plain, bearers[1], verb))
        compared(f"guarded: {verb}", a, b, "unguarded", target=COST)


@contextmanager
def crowd(server: Server, bearer: str, verb: str) -> Iterator[None]:
    """So many connections that ask without a pause. Their answers may be 429."""
    call = [program("h2load"), "--h1", "-c", str(CROWD), "-t", "1", "-m", "1", "-D", "120"]
    call += ["-H", f"authorization: Bearer {bearer}"]
    path = f"{CORE}/pods/bench"
    with scratch("kubecore-crowd-") as folder:
        if verb == "create":
            body = Path(folder) / "body"
            body.write_bytes(MAP)
            call, path = [*call, "-d", str(body), "-H", JSON_HEADERS[0]], f"{CORE}/configmaps"
        process = subprocess.Popen(
            pinned(LOAD_CPU, *call, f"{server.url}{path}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(1.5)
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def first_in_line() -> Iterator[None]:
    """Of all that would run on its processor: what is measured is the server's doing, not how the kernel shares the
    load's core between who asks and the crowd's client. Root only."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def waits(server: Server, bearer: str, verb: str) -> list[float]:
    """How long each of so many requests took, one after the other on one connection, in milliseconds."""
    unverified = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", server.ports["secure"], context=unverified)
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    method, path, body = ("POST", "configmaps", MAP) if verb == "create" else ("GET", "pods/bench", None)
    taken = []
    with first_in_line():
        for _ in range(ASKED):
            started = time.monotonic()
            connection.request(method, f"{CORE}/{path}", body, headers)
            answer = connection.getresponse()
            answer.read()
            taken.append((time.monotonic() - started) * 1e3)
            assert answer.status < 300, answer.status
    connection.close()
    return sorted(taken)


def other_account(server: Server) -> str:
    """The token of an account that may do what the bench's may."""
    server.call("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": "other"}})
    subject = {"kind": "ServiceAccount", "name": "other", "namespace": "default"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bench"}
    server.call("POST", f"{RBAC}/rolebindings", {"metadata": {"name": "other"}, "subjects": [subject], "roleRef": ref})
    answer = server.call("POST", f"{CORE}/serviceaccounts/other/token", {"spec": {"expirationSeconds": 7200}})
    return str(json.loads(answer)["status"]["token"])


def fairness() -> None:
    with kubecore() as server:
        bearer = token(server, pods=["get"], configmaps=["create"])
        server.call("POST", f"{CORE}/pods", pod(name="bench"))
        other = other_account(server)
        for verb in CLIENTS:
            quiet, busy = [], []
            for _ in range(ROUNDS):
                quiet.append(waits(server, other, verb))
                with crowd(server, bearer, verb):
                    busy.append(waits(server, other, verb))
            told = [
                tuple(median([one[len(one) * part // 100] for one in found]) for part in (50, 99))
                for found in (quiet, busy)
            ]
            texts = [f"p50 {p50:.2f}, p99 {p99:.2f} ms" for p50, p99 in told]
            ratio = told[1][1] / told[0][1]
            row(
                f"guarded: {verb} beside {CROWD} connections of another",
                texts[1],
                f"alone: {texts[0]}",
                f"p99 x {ratio:.3g}",
                FAIR.text,
                FAIR.verdict(ratio),
            )


def main() -> None:
    with ExitStack() as stack:
        costs(
            stack.enter_context(guarded()),
            stack.enter_context(kubecore("apiserver", "--no-enable-priority-and-fairness")),
        )
    fairness()


if __name__ == "__main__":
    main()
