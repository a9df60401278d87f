"""The administrator's kubeconfig when a cluster is started again: what kubectl has written into it stays."""

from __future__ import annotations

import orjson
import pytest
import yaml

from kubecore.apiserver.authentication.kubeconfig import kubeconfig, renewed
from kubecore.apiserver.authentication.pki import KeyPair

CONTEXT = "admin@kubecore"


def made(server: str = "https://127.0.0.1:6443") -> bytes:
    return kubeconfig(server, b"ca", KeyPair(certificate=b"certificate", key=b"key"), user="admin")


@pytest.mark.parametrize("write", [orjson.dumps, lambda document: yaml.safe_dump(document).encode()])
def test_the_context_keeps_its_namespace_and_gets_the_new_server(write: object) -> None:
    assert callable(write)
    held = orjson.loads(made())
    held["contexts"][0]["context"]["namespace"] = "web"
    new = orjson.loads(renewed(write(held), made("https://127.0.0.1:7443")))
    assert new["contexts"] == [
        {"name": CONTEXT, "context": {"cluster": "kubecore", "user": "admin", "namespace": "web"}}
    ]
    assert [one["cluster"]["server"] for one in new["clusters"]] == ["https://127.0.0.1:7443"]


def test_other_clusters_users_and_the_chosen_context_stay() -> None:
    held = orjson.loads(made())
    for kind, entry in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
        held[kind].append({"name": "other", entry: {}})
    held["current-context"] = "other"
    new = orjson.loads(renewed(orjson.dumps(held), made()))
    assert new == held


def test_a_context_that_is_gone_is_not_chosen() -> None:
    held = orjson.loads(made()) | {"current-context": "gone"}
    assert orjson.loads(renewed(orjson.dumps(held), made()))["current-context"] == CONTEXT


@pytest.mark.parametrize(
    "held", [b"", b"nonsense", b"{", b"kind: Config\ncontexts: 5", b"kind: Config\nusers: [{}]", b"a: [b"]
)
def test_what_is_no_kubeconfig_is_replaced(held: bytes) -> None:
    assert renewed(held, made()) == made()
