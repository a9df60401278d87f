"""Tokens and paths that mean to confuse: nobody becomes another one, or reaches what is not theirs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.authentication.tokens import BoundObject
from kubecore.apiserver.server import APIServer
from tests.support.openid_issuer import encoded, signature

from .conftest import Api, pod
from .definitions import DEFINITIONS, crd, define
from .http import Http
from .serving import whoami

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count()
ACCOUNTS, SECRETS = "v1/serviceaccounts", "v1/secrets"


async def who(server: APIServer, folder: Path, token: str) -> str | int:
    async with Http(server, folder, token=token) as http:
        status, user = await whoami(http)
        return str(user["username"]) if status == 201 else status


async def issued(server: APIServer, api: Api, **more: Any) -> str:
    _, account = await api.get(ACCOUNTS, "default")
    token, *_ = server.tokens.issue(
        namespace=api.namespace,
        account="default",
        account_uid=account["metadata"]["uid"],
        **{"audiences": list(server.tokens.audiences), "seconds": 600, **more},
    )
    return token


def forged(token: str, header: dict[str, Any], key: ec.EllipticCurvePrivateKey, **claims: Any) -> str:
    """The token with other claims, signed by another key as the header says."""
    head, payload, _ = token.split(".")
    whole = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    given = {**orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))), **header}
    signed = f"{encoded(orjson.dumps(given))}.{encoded(orjson.dumps({**whole, **claims}))}"
    return f"{signed}.{encoded(signature(key, str(given['alg']), signed.encode()))}"


# --- tokens of service accounts


async def test_a_token_that_confuses_is_nobodys(server: APIServer, api: Api, tmp_path: Path) -> None:
    good = await issued(server, api)
    head, payload, signed = good.split(".")
    stranger = ec.generate_private_key(ec.SECP256R1())
    hs256 = f"{encoded(orjson.dumps({'alg': 'HS256'}))}.{payload}"
    mac = hmac.new(server.tokens.public_keys[0], hs256.encode(), hashlib.sha256).digest()
    admin = {"sub": "system:serviceaccount:kube-system:admin"}
    confusing = {
        "of no algorithm": forged(good, {"alg": "none"}, stranger),
        "signed with the public key": f"{hs256}.{encoded(mac)}",
        "signed by somebody else": forged(good, {}, stranger),
        "with other claims": f"{head}.{forged(good, {}, stranger, **admin).split('.')[1]}.{signed}",
        "without a signature": f"{head}.{payload}.",
        "cut short": f"{head}.{payload}",
        "for another audience": await issued(server, api, audiences=["https://elsewhere"]),
        "that has expired": await issued(server, api, seconds=-600),
    }
    assert await who(server, tmp_path, good) == f"system:serviceaccount:{api.namespace}:default"
    for what, token in confusing.items():
        assert await who(server, tmp_path, token) == 401, what


async def test_a_token_is_good_as_long_as_what_it_is_bound_to_is_there(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    node = f"node-{next(_numbers)}"
    made = {
        "pod": (await api.create("v1/pods", pod("bound")))[1],
        "secret": (await api.create(SECRETS, {"metadata": {"name": "bound"}}))[1],
        "node": (await cluster.create("v1/nodes", {"metadata": {"name": node}}))[1],
    }
    tokens = {}
    for kind, obj in made.items():
        metadata = obj["metadata"]
        bound = BoundObject(kind, metadata["name"], metadata["uid"])
        tokens[kind] = await issued(server, api, bound=bound)
        assert await who(server, tmp_path, tokens[kind]) == f"system:serviceaccount:{api.namespace}:default"
        wrong = BoundObject(kind, metadata["name"], "00000000-0000-0000-0000-000000000000")
        assert await who(server, tmp_path, await issued(server, api, bound=wrong)) == 401
    await api.delete("v1/pods", "bound", gracePeriodSeconds="0")
    await api.delete(SECRETS, "bound")
    await cluster.delete("v1/nodes", node)
    for kind, token in tokens.items():
        assert await who(server, tmp_path, token) == 401, kind


# --- paths


async def raw(server: APIServer, pair: KeyPair, folder: Path, path: str) -> tuple[int, bytes]:
    """A GET of exactly this path: nothing that a client library would tidy up."""
    context = ssl.create_default_context(cadata=server.authority.certificate.decode())
    file = folder / "raw.pem"
    file.write_bytes(pair.certificate + pair.key)
    context.load_cert_chain(file)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.secure_port, ssl=context)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


async def only_in(api: Api, user: str) -> None:
    """The user may do everything within the namespace, whatever it is."""
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    assert (await api.create(f"{group}/v1/roles", {"metadata": {"name": "all"}, "rules": rules}))[0] == 201
    binding = {
        "metadata": {"name": "all"},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
        "roleRef": {"kind": "Role", "apiGroup": group, "name": "all"},
    }
    assert (await api.create(f"{group}/v1/rolebindings", binding))[0] == 201


async def test_no_path_leads_out_of_the_namespace_that_is_allowed(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    user, other = f"user-{next(_numbers)}", f"other-{next(_numbers)}"
    await only_in(api, user)
    assert (await cluster.create("v1/namespaces", {"metadata": {"name": other}}))[0] == 201
    theirs = Api(cluster.transport, other)
    secret = {"metadata": {"name": "theirs"}, "data": {"password": base64.b64encode(b"not-yours").decode()}}
    assert (await theirs.create(SECRETS, secret))[0] == 201
    found = base64.b64encode(b"not-yours")
    pair = server.issue_client_certificate(user)
    mine = f"/api/v1/namespaces/{api.namespace}"
    assert (await raw(server, pair, tmp_path, f"{mine}/secrets"))[0] == 200
    for path in (
        f"/api/v1/namespaces/{other}/secrets/theirs",
        f"//api/v1/namespaces/{other}/secrets/theirs",
        f"/api//v1/namespaces/{other}/secrets/theirs",
        f"/api/v1//namespaces/{other}/secrets/theirs",
        f"/api/v1/namespaces//{other}/secrets/theirs",
        f"{mine}/../{other}/secrets/theirs",
        f"{mine}/%2e%2e/{other}/secrets/theirs",
        f"{mine}%2f..%2f{other}/secrets/theirs",
        f"{mine}/secrets/..%2f..%2f{other}%2fsecrets%2ftheirs",
        f"{mine}/secrets/../../{other}/secrets/theirs",
        f"{mine}/secrets?fieldSelector=metadata.namespace%3D{other}",
        f"{mine}/secrets/theirs?namespace={other}",
        f"/api/v1/watch/namespaces/{other}/secrets/theirs?timeoutSeconds=1",
        f"/api/v1/proxy/namespaces/{other}/secrets/theirs",
        "/api/v1/secrets",
        "/api/v1/secrets/theirs",
        f"/API/v1/namespaces/{other}/secrets/theirs",
        f"/api/v1/namespaces/{other}/SECRETS/theirs",
        f"/./api/v1/namespaces/{other}/secrets/theirs",
        f"/api/v1/namespaces/{other}/secrets/theirs/",
        f"https://127.0.0.1/api/v1/namespaces/{other}/secrets/theirs",
    ):
        _, body = await raw(server, pair, tmp_path, path)
        assert found not in body, path


@pytest.mark.parametrize("kind", ["nodes", "clusterroles", "namespaces", "widgets"])
async def test_what_is_in_no_namespace_is_not_reached_through_one(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path, kind: str
) -> None:
    user, name = f"user-{next(_numbers)}", f"thing-{next(_numbers)}"
    await only_in(api, user)
    groups = {"clusterroles": "rbac.authorization.k8s.io/v1", "widgets": "wide.example.com/v1"}
    resource = f"{groups.get(kind, 'v1')}/{kind}"
    made: dict[str, Any] = {"metadata": {"name": name, "labels": {"marked": "yes"}}}
    if kind == "widgets":
        definition = crd("widgets", "Widget", group="wide.example.com", scope="Cluster")
        await define(cluster, definition)
        made.update(apiVersion="wide.example.com/v1", kind="Widget", spec={"size": 1})
    assert (await cluster.create(resource, made))[0] == 201
    http = Http(server, tmp_path, pair=server.issue_client_certificate(user))
    admin = Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"]))
    root = f"/apis/{groups[kind]}" if kind in groups else "/api/v1"
    async with http, admin:
        for who in (http, admin):
            for path in (f"{kind}/{name}", kind, f"{kind}?watch=1&timeoutSeconds=1"):
                answer = await who.call("GET", f"{root}/namespaces/{api.namespace}/{path}")
                assert answer.status in (403, 404), path
                assert b"marked" not in answer.body, path
            gone = await who.call("DELETE", f"{root}/namespaces/{api.namespace}/{kind}/{name}")
            assert gone.status in (403, 404, 405)
        assert (await admin.call("GET", f"{root}/{kind}/{name}")).status == 200
    if kind == "widgets":
        assert (await cluster.delete(DEFINITIONS, "widgets.wide.example.com"))[0] == 200
