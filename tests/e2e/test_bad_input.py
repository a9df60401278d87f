"""Bad input gets a Status in Kubernetes' words and harms nobody else."""

from __future__ import annotations

import datetime
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow]

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def admin_context(cluster: RunningCluster, folder: Path) -> ssl.SSLContext:
    import base64

    config = yaml.safe_load(cluster.kubeconfig.read_text())
    user, server = config["users"][0]["user"], config["clusters"][0]["cluster"]
    for name, key in (("crt", "client-certificate-data"), ("key", "client-key-data")):
        (folder / f"admin.{name}").write_bytes(base64.b64decode(user[key]))
    context = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    return context


class Caller:
    """Sends what it is told over TLS as the administrator and returns status and Status."""

    def __init__(self, cluster: RunningCluster, context: ssl.SSLContext) -> None:
        self._address = cluster.url.removeprefix("https://")
        self._context = context

    def __call__(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection(self._address, context=self._context, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": content_type, **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def call(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    caller = Caller(cluster, admin_context(cluster, tmp_path_factory.mktemp("admin")))
    yield caller
    assert caller("GET", CONFIG_MAPS)[0] == 200, "the server is unharmed"


NESTED = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"deep","annotations":' + b'{"a":' * 10_000 + b"1"


@pytest.mark.parametrize(
    ("body", "content_type", "code", "reason"),
    [
        (b"{", "application/json", 400, "BadRequest"),
        (b"", "application/json", 400, "BadRequest"),
        (b"[]", "application/json", 400, "BadRequest"),
        (b"null", "application/json", 422, "Invalid"),
        # as Go reads it, which puts another letter in the place of what is none
        (b'{"metadata": {"name": "\xff\xfe"}}', "application/json", 422, "Invalid"),
        (NESTED, "application/json", 400, "BadRequest"),
        (b"a: [b\n c: }", "application/yaml", 400, "BadRequest"),
        (b"\x00\x01\x02", "application/vnd.kubernetes.protobuf", 400, "BadRequest"),
        (b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}', "application/json", 400, "BadRequest"),
        (b'{"metadata":{"name":"x"},"data":{"a":1}}', "application/json", 400, "BadRequest"),
        (b'{"metadata":{"name":"Not A Name"}}', "application/json", 422, "Invalid"),
        (b'{"metadata":{}}', "application/json", 422, "Invalid"),
        (b'{"metadata":{"name":"x"}}', "text/plain", 415, "UnsupportedMediaType"),
        (b'{"metadata":{"name":"big"},"data":{"a":"' + b"x" * 3_200_000 + b'"}}', "application/json", 413, None),
    ],
)
def test_a_bad_body_gets_a_status(call: Caller, body: bytes, content_type: str, code: int, reason: str | None) -> None:
    status, answer = call("POST", CONFIG_MAPS, body, content_type)
    assert status == code, answer
    assert answer["kind"] == "Status"
    assert answer["code"] == code
    assert reason is None or answer["reason"] == reason
    assert answer["message"]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        (f"{CONFIG_MAPS}?labelSelector=a%20b%20c", 400, "unable to parse requirement"),
        (f"{CONFIG_MAPS}?fieldSelector=nothing", 400, "invalid"),
        ("/api/v1/pods?fieldSelector=spec.colour%3Dred", 400, "field label not supported: spec.colour"),
        (f"{CONFIG_MAPS}?limit=many", 400, ""),
        (f"{CONFIG_MAPS}?continue=forged", 400, "continue key is not valid"),
        (f"{CONFIG_MAPS}?resourceVersion=abc", 400, "abc"),
        (f"{CONFIG_MAPS}?resourceVersionMatch=Exact", 422, "resourceVersionMatch"),
        ("/api/v1/unicorns", 404, "the server could not find the requested resource"),
        ("/apis/apps/v1/things", 404, "the server could not find the requested resource"),
        (f"{CONFIG_MAPS}/a/b/c/d", 404, "the server could not find the requested resource"),
        (f"{CONFIG_MAPS}/absent", 404, 'configmaps "absent" not found'),
    ],
)
def test_a_bad_path_or_option_gets_a_status(call: Caller, path: str, code: int, words: str) -> None:
    status, answer = call("GET", path)
    assert (status, answer["kind"], answer["status"]) == (code, "Status", "Failure"), answer
    assert words in answer["message"]


def test_a_method_that_a_resource_lacks_is_405(call: Caller) -> None:
    status, answer = call("PATCH", CONFIG_MAPS, b"{}", "application/merge-patch+json")
    assert (status, answer["reason"]) == (405, "MethodNotAllowed")
    assert "the server does not allow this method on the requested resource" in answer["message"]


def test_an_accept_that_cannot_be_met_is_406(call: Caller) -> None:
    status, answer = call("GET", CONFIG_MAPS, Accept="image/png")
    assert (status, answer["reason"]) == (406, "NotAcceptable")


@pytest.mark.parametrize(
    ("patch", "kind", "code"),
    [
        (b"{", "application/merge-patch+json", 400),
        (b'[{"op": "remove", "path": "/nothing/here"}]', "application/json-patch+json", 422),
        (b'[{"op": "test", "path": "/metadata/name", "value": "other"}]', "application/json-patch+json", 422),
        (b'[{"op": "fly", "path": "/metadata/name"}]', "application/json-patch+json", 422),
        (b"{}", "application/unknown-patch+json", 415),
        (b'{"metadata": {"name": "renamed"}}', "application/merge-patch+json", 400),
    ],
)
def test_a_bad_patch_gets_a_status_and_changes_nothing(call: Caller, patch: bytes, kind: str, code: int) -> None:
    call("POST", CONFIG_MAPS, b'{"metadata":{"name":"patched"}}')
    before = call("GET", f"{CONFIG_MAPS}/patched")[1]
    status, answer = call("PATCH", f"{CONFIG_MAPS}/patched", patch, kind)
    assert (status, answer["kind"]) == (code, "Status"), answer
    assert call("GET", f"{CONFIG_MAPS}/patched")[1] == before


def certificate(folder: Path, *, days: int) -> ssl.SSLContext:
    """A client certificate for system:masters by a CA of nobody's; it ended `-days` ago when days is negative."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
            x509.NameAttribute(NameOID.COMMON_NAME, "evil"),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "both.pem").write_bytes(made.public_bytes(pem) + private)
    context = ssl._create_unverified_context()
    context.load_cert_chain(folder / "both.pem")
    return context


@pytest.mark.parametrize("days", [1, -1], ids=["foreign", "foreign-and-expired"])
def test_a_foreign_certificate_is_401(cluster: RunningCluster, tmp_path: Path, days: int) -> None:
    status, answer = Caller(cluster, certificate(tmp_path, days=days))("GET", CONFIG_MAPS)
    assert (status, answer["reason"], answer["message"]) == (401, "Unauthorized", "Unauthorized")


def test_a_bad_token_is_401(cluster: RunningCluster) -> None:
    anonymous = Caller(cluster, ssl._create_unverified_context())
    for token in ("nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30."):
        status, answer = anonymous("GET", CONFIG_MAPS, Authorization=f"Bearer {token}")
        assert (status, answer["reason"]) == (401, "Unauthorized")


def test_anonymous_reaches_health_and_version_and_nothing_else(cluster: RunningCluster) -> None:
    anonymous = Caller(cluster, ssl._create_unverified_context())
    assert anonymous("GET", "/version")[1]["minor"].startswith("35")
    status, answer = anonymous("GET", "/api/v1/nodes")
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert answer["message"] == (
        'nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope'
    )
