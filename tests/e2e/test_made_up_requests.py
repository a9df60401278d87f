"""Requests that schemathesis makes up from the OpenAPI that is served, right ones and wrong ones, each asked as four
identities: none breaks the server, and who has no right hears that, and nothing else.

What everybody may is told by an evaluator of its own (`tests/support/rbac_rules.py`).
"""

from __future__ import annotations

import base64
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, GenerationMode

from tests.support.process import ROOT, Command
from tests.support.rbac_rules import Asked, Identity, Rbac
from tests.support.request_attributes import asked_by

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]

# Another one for other requests: what they are depends on it alone.
SEED = int(os.environ.get("MADE_UP_SEED", "35"))
# Three of ten operations are asked once, others with another seed; of each group version some, beside those that
# always are, are asked more often, as many right requests as wrong ones.
SHARE, OPERATIONS, REQUESTS = 0.3, 2, 4
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
ALWAYS = (
    "POST /api/v1/namespaces/{namespace}/pods",
    "PUT /api/v1/namespaces/{namespace}/secrets/{name}",
    "PATCH /api/v1/namespaces/{namespace}/configmaps/{name}",
    "GET /api/v1/namespaces/{namespace}/pods/{name}/log",
    "POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
)
MINE = "mine"
RBAC = "rbac.authorization.k8s.io"
AUTHENTICATED = "system:authenticated"
# In this order: what an administrator does takes rights away.
IDENTITIES = {
    "anonymous": Identity("system:anonymous", frozenset(["system:unauthenticated"])),
    "viewer": Identity("viewer", frozenset([AUTHENTICATED])),
    "editor": Identity("editor", frozenset([AUTHENTICATED])),
    "chief": Identity("chief", frozenset([AUTHENTICATED])),
}
STREAMS = ("exec", "attach", "portforward")


@dataclass(frozen=True)
class Made:
    """A request as it is sent."""

    label: str
    prepared: requests.PreparedRequest

    @property
    def target(self) -> str:
        return self.prepared.path_url


class World:
    """An API server of its own, and who asks it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self.master = self._session("master", "--org", "system:masters")
        self.sessions = {name: self._session(name) for name in IDENTITIES if name != "anonymous"}
        self.sessions["anonymous"] = self._trusting(requests.Session())

    def _trusting(self, session: requests.Session) -> requests.Session:
        session.verify = str(self._folder / "ca.crt")
        session.trust_env = False
        return session

    def _session(self, name: str, *more: str) -> requests.Session:
        command = [sys.executable, "-m", "kubecore", "kubeconfig", "user", "--data-dir", str(self._folder / "data")]
        told = subprocess.run(
            [*command, "--client-name", name, *more], capture_output=True, check=True, cwd=ROOT, timeout=60
        )
        kubeconfig = yaml.safe_load(told.stdout)
        user, cluster = kubeconfig["users"][0]["user"], kubeconfig["clusters"][0]["cluster"]
        (self._folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        pair = self._folder / f"{name}.pem"
        held = (user["client-certificate-data"], user["client-key-data"])
        pair.write_bytes(b"\n".join(base64.b64decode(one) for one in held))
        session = self._trusting(requests.Session())
        session.cert = str(pair)
        return session

    def make(self, path: str, obj: JSON) -> None:
        answer = self.master.post(self.url + path, json=obj, timeout=30)
        assert answer.status_code == 201, answer.text

    def read(self, path: str) -> JSON:
        answer = self.master.get(self.url + path, timeout=60)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def rules(self) -> Rbac:
        def listed(plural: str) -> list[JSON]:
            return list(self.read(f"/apis/{RBAC}/v1/{plural}")["items"])

        return Rbac(
            cluster_roles=listed("clusterroles"),
            cluster_bindings=listed("clusterrolebindings"),
            roles=listed("roles"),
            bindings=listed("rolebindings"),
        )

    def ask(self, who: str, made: Made) -> tuple[int, str]:
        """The answer's status, and what it says where that is told at once."""
        session = self.sessions[who]
        with session.send(made.prepared, cert=session.cert, verify=session.verify, stream=True, timeout=60) as answer:
            # Watches have no end.
            text = answer.text[:500] if answer.status_code >= 400 else ""
            return answer.status_code, text


def bound(name: str, role: str, user: str, namespace: str = "") -> JSON:
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    subjects = [{"kind": "User", "name": user, "apiGroup": RBAC}]
    reference = {"kind": "ClusterRole", "name": role, "apiGroup": RBAC}
    return {"kind": kind, "metadata": {"name": name}, "subjects": subjects, "roleRef": reference}


def prepare(world: World) -> None:
    world.make("/api/v1/namespaces", {"metadata": {"name": MINE}})
    for one in (bound("chief", "cluster-admin", "chief"), bound("viewer", "view", "viewer")):
        world.make(f"/apis/{RBAC}/v1/clusterrolebindings", one)
    world.make(f"/apis/{RBAC}/v1/namespaces/{MINE}/rolebindings", bound("editor", "edit", "editor", MINE))
    for plural in ("configmaps", "secrets", "serviceaccounts"):
        world.make(f"/api/v1/namespaces/{MINE}/{plural}", {"metadata": {"name": "one"}})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("made-up")
    server = Command("apiserver", "--data-dir", str(folder / "data"), "--secure-port", "0")
    try:
        made = World(server.wait_ready(), folder)
        prepare(made)
        yield made
        assert server.process.poll() is None, server.errors
    finally:
        server.stop()


def operations(world: World) -> Iterator[tuple[APIOperation, dict[GenerationMode, int]]]:
    """Some of everything that is described, and how many requests are made up for it: for most one, right or wrong."""
    dice = random.Random(SEED)
    for path in sorted(world.read("/openapi/v3")["paths"]):
        described = schemathesis.openapi.from_dict(world.read(f"/openapi/v3/{path}"))
        every = [found.ok() for found in described.get_all_operations()]
        rest = [one.label for one in every if one.label not in ALWAYS]
        often = {*ALWAYS, *dice.sample(rest, min(OPERATIONS, len(rest)))}
        for one in every:
            if one.label in often:
                yield one, dict.fromkeys(MODES, REQUESTS)
            elif dice.random() < SHARE:
                yield one, {dice.choice(MODES): 1}


def requests_of(world: World, operation: APIOperation, counts: dict[GenerationMode, int]) -> list[Made]:
    """Some are for what is there, most are not."""
    made: list[Made] = []
    for mode, count in counts.items():
        # What has no parameters cannot be asked in a wrong way.
        with suppress(Unsatisfiable):
            made += made_up(world, operation, mode, count)
    return made or made_up(world, operation, GenerationMode.POSITIVE, 1)


def made_up(world: World, operation: APIOperation, mode: GenerationMode, count: int) -> list[Made]:
    """Raises Unsatisfiable."""
    made: list[Made] = []

    @seed(SEED)
    @settings(
        # The first is always the simplest that there is.
        max_examples=count + 1,
        derandomize=False,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def collect(case: schemathesis.Case, known: bool) -> None:
        if known:
            held = {"namespace": MINE, "name": "one"}
            case.path_parameters = {name: held.get(name, value) for name, value in case.path_parameters.items()}
        arguments = case.as_transport_kwargs(base_url=world.url)
        arguments.pop("verify", None)
        made.append(Made(operation.label, requests.Request(**arguments).prepare()))

    collect()
    return made[-count:]


def is_upstreams(asked: Asked, status: int, text: str) -> bool:
    """What kube-apiserver v1.35 answers as well: nobody is behind a Service that is passed on to, and a watch from what
    is no revision."""
    if asked.subresource == "proxy":
        return status == 503
    return (asked.verb, status) == ("watch", 500) and "resourceVersion: Invalid value:" in text


def complaint(made: Made, who: str, rules: Rbac, status: int, text: str) -> str | None:
    asked = asked_by(str(made.prepared.method), made.target)
    allowed = rules.allows(IDENTITIES[who], asked)
    line = f"{made.prepared.method} {made.target[:300]} as {who}: {status} {text[:200]}"
    if status >= 500 and not is_upstreams(asked, status, text):
        return line
    if not allowed and status != 403:
        return f"{line} (without a right)"
    return None


def test_made_up_requests_break_nothing_and_are_answered_to_those_who_may(world: World) -> None:
    print(f"MADE_UP_SEED={SEED}")
    every = list(operations(world))
    made = [request for operation, counts in every for request in requests_of(world, operation, counts)]
    rules = world.rules()
    assert {one.label for one in made} >= {operation.label for operation, _ in every}
    assert len(made) > 600
    wrong = []
    for who in IDENTITIES:
        for request in made:
            status, text = world.ask(who, request)
            if found := complaint(request, who, rules, status, text):
                wrong.append(found)
    assert not wrong, "\n".join([f"{len(wrong)} of {len(made) * len(IDENTITIES)}:", *wrong[:40]])
