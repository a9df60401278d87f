"""Who one is, by each of the ways that kube-apiserver's flags open."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubecore.apiserver.authentication.options import (
    AuthenticationOptions,
    RequestHeaderOptions,
    TokenWebhookOptions,
)
from kubecore.apiserver.authentication.pki import CertificateAuthority, KeyPair
from kubecore.apiserver.server import APIServer
from kubecore.clock import RealClock
from tests.support.review_webhook import reviewing

from .conftest import Api
from .http import Http
from .serving import served, whoami

REVIEWS = "authentication.k8s.io/v1/tokenreviews"
PODS = "/api/v1/namespaces/default/pods"


def admin(server: APIServer) -> Api:
    return Api(server.transport(username="admin", groups=["system:masters"]), "")


async def reviewed(server: APIServer, token: str, *audiences: str) -> dict[str, Any]:
    spec = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
    status, review = await admin(server).create(REVIEWS, {"spec": spec})
    assert status == 201, review
    found: dict[str, Any] = review["status"]
    return found


# --- tokens of a file


async def test_tokens_of_a_file_name_their_users(tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    file.write_text('s3cret,jane,u-1,"dev,ops"\nplain,john,u-2\n,nobody,u-3\n')
    options = AuthenticationOptions(token_file=file)
    async with served(tmp_path, authentication=options) as server:
        async with Http(server, tmp_path, token="s3cret") as http:
            groups = ["dev", "ops", "system:authenticated"]
            assert await whoami(http) == (201, {"username": "jane", "uid": "u-1", "groups": groups})
            assert (await http.call("GET", PODS)).status == 403
        async with Http(server, tmp_path, token="other") as http:
            assert await whoami(http) == (401, {})
        async with Http(server, tmp_path, token="plain") as http:
            refused = await http.call("GET", PODS)
            assert (refused.status, "X-Kubernetes-PF-FlowSchema-UID" in refused.headers) == (403, True)
        async with Http(server, tmp_path, token="s3cret and more") as http:
            assert (await whoami(http))[1]["username"] == "jane"
        async with Http(server, tmp_path, token=" s3cret") as http:
            answer = await http.call("GET", PODS)
            told = "the provided Authorization header contains extra space before the bearer token, and is ignored"
            assert (answer.status, 'User "system:anonymous"' in answer.json["message"]) == (403, True)
            assert answer.headers["Warning"] == f'299 - "{told}"'
        own = server.tokens.audiences[0]
        status = await reviewed(server, "plain")
        assert (status["user"]["username"], status["audiences"]) == ("john", [own])
        assert (await reviewed(server, "plain", "https://elsewhere")).get("authenticated") is None


# --- bootstrap tokens


def bootstrap_secret(**changes: str) -> dict[str, Any]:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:team",
        **changes,
    }
    return {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


async def test_bootstrap_tokens_are_good_while_their_secret_says_so(tmp_path: Path) -> None:
    options = AuthenticationOptions(bootstrap_tokens=True)
    async with served(tmp_path, authentication=options) as server:
        api = Api(server.transport(username="admin", groups=["system:masters"]), "kube-system")
        async with Http(server, tmp_path, token="abcdef.0123456789abcdef") as http:
            assert (await whoami(http))[0] == 401
            assert (await api.create("v1/secrets", bootstrap_secret()))[0] == 201
            groups = ["system:bootstrappers", "system:bootstrappers:team", "system:authenticated"]
            assert await whoami(http) == (201, {"username": "system:bootstrap:abcdef", "groups": groups})
            for changes in (
                {"expiration": "2020-01-01T00:00:00Z"},
                {"usage-bootstrap-authentication": "false"},
                {"auth-extra-groups": "system:masters"},
                {"token-secret": "fedcba9876543210"},
            ):
                await api.patch("v1/secrets", "bootstrap-token-abcdef", {"data": bootstrap_secret(**changes)["data"]})
                assert (await whoami(http))[0] == 401, changes
            gone = {"data": {**bootstrap_secret()["data"], "expiration": None}}
            await api.patch("v1/secrets", "bootstrap-token-abcdef", gone)
            assert (await whoami(http))[0] == 201
            await api.delete("v1/secrets", "bootstrap-token-abcdef")
            assert (await whoami(http))[0] == 401


async def test_bootstrap_tokens_count_for_nothing_unless_they_are_enabled(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api = Api(server.transport(username="admin", groups=["system:masters"]), "kube-system")
        assert (await api.create("v1/secrets", bootstrap_secret()))[0] == 201
        async with Http(server, tmp_path, token="abcdef.0123456789abcdef") as http:
            assert (await whoami(http))[0] == 401


# --- proxies in front


@pytest.fixture
def proxies(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "proxies", RealClock())


def behind(proxies: CertificateAuthority, tmp_path: Path, *names: str) -> AuthenticationOptions:
    file = tmp_path / "front-proxy-ca.crt"
    file.write_bytes(proxies.certificate)
    return AuthenticationOptions(
        request_header=RequestHeaderOptions(
            client_ca_file=file,
            allowed_names=names,
            username_headers=("X-Remote-User",),
            uid_headers=("X-Remote-Uid",),
            group_headers=("X-Remote-Group",),
            extra_headers_prefix=("X-Remote-Extra-",),
        )
    )


SAID = {
    "X_Remote_User": "jane",
    "X_Remote_Uid": "u-1",
    "X_Remote_Group": "dev",
    "X_Remote_Extra_Example.org%2Fscope": "a",
}


async def test_a_proxy_that_is_allowed_to_says_who_asks(proxies: CertificateAuthority, tmp_path: Path) -> None:
    async with served(tmp_path, authentication=behind(proxies, tmp_path, "front")) as server:
        async with Http(server, tmp_path, pair=proxies.issue_client("front")) as http:
            user = {
                "username": "jane",
                "uid": "u-1",
                "groups": ["dev", "system:authenticated"],
                "extra": {"example.org/scope": ["a"]},
            }
            assert await whoami(http, **SAID) == (201, user)
            # Its own certificate is nobody's here.
            assert (await whoami(http))[0] == 401
        async with Http(server, tmp_path, pair=proxies.issue_client("other")) as http:
            assert (await whoami(http, **SAID))[0] == 401


async def test_a_proxy_is_believed_of_a_certificate_only(proxies: CertificateAuthority, tmp_path: Path) -> None:
    async with served(tmp_path, authentication=behind(proxies, tmp_path, "front")) as server:
        async with Http(server, tmp_path) as http:
            assert (
                (await http.call("GET", PODS, headers={"X-Remote-User": "jane"}))
                .json["message"]
                .startswith('pods is forbidden: User "system:anonymous"')
            )
        async with Http(server, tmp_path, pair=server.issue_client_certificate("john")) as http:
            assert (await whoami(http, **SAID))[1]["username"] == "john"


async def test_who_signs_certificates_of_clients_signs_those_of_proxies_with_names_only(tmp_path: Path) -> None:
    """Else every client could be whom it likes to be."""
    async with served(tmp_path) as server:
        own = server.authority
    with pytest.raises(ValueError, match="requestheader-allowed-names must be specified"):
        async with served(tmp_path, authentication=behind(own, tmp_path)):
            pass
    async with served(tmp_path, authentication=behind(own, tmp_path, "front")) as server:
        async with Http(server, tmp_path, pair=server.issue_client_certificate("front")) as http:
            assert (await whoami(http, **SAID))[1]["username"] == "jane"
        async with Http(server, tmp_path, pair=server.issue_client_certificate("john")) as http:
            assert (await whoami(http, **SAID))[1]["username"] == "john"


async def test_a_file_that_makes_every_client_a_proxy_is_not_followed(
    proxies: CertificateAuthority, tmp_path: Path
) -> None:
    async with served(tmp_path, authentication=behind(proxies, tmp_path)) as server:
        before = server.access.trust()
        file = tmp_path / "front-proxy-ca.crt"
        file.write_bytes(proxies.certificate + b"\n" + server.authority.certificate)
        (followed,) = server.access.follow()
        await followed.look()
        assert server.access.trust() == before
        async with Http(server, tmp_path, pair=server.issue_client_certificate("john")) as http:
            assert (await whoami(http, **SAID))[1]["username"] == "john"


async def test_extension_servers_are_told_whom_we_trust(proxies: CertificateAuthority, tmp_path: Path) -> None:
    clients = CertificateAuthority(tmp_path / "clients", RealClock())
    file = tmp_path / "clients.crt"
    file.write_bytes(clients.certificate)
    behind_proxy = behind(proxies, tmp_path, "front").request_header
    options = AuthenticationOptions(client_ca_file=file, request_header=behind_proxy)
    async with served(tmp_path, authentication=options) as server:
        _, told = await Api(admin(server).transport, "kube-system").get(
            "v1/configmaps", "extension-apiserver-authentication"
        )
        data = told["data"]
        assert data["requestheader-client-ca-file"] == proxies.certificate.decode()
        assert data["requestheader-allowed-names"] == '["front"]'
        assert data["requestheader-username-headers"] == '["X-Remote-User"]'
        assert data["requestheader-uid-headers"] == '["X-Remote-Uid"]'
        assert data["requestheader-group-headers"] == '["X-Remote-Group"]'
        assert data["requestheader-extra-headers-prefix"] == '["X-Remote-Extra-"]'
        for authority in (server.authority, clients):
            assert authority.certificate.decode().strip() in data["client-ca-file"]


# --- certificates


async def test_a_file_without_certificates_is_no_ca(tmp_path: Path) -> None:
    """Nobody would have been let in by it, and nobody would have been told."""
    file = tmp_path / "clients.crt"
    file.write_bytes(b"not a certificate\n")
    with pytest.raises(ValueError, match=rf"{file}: data does not contain any valid RSA or ECDSA certificates"):
        async with served(tmp_path, authentication=AuthenticationOptions(client_ca_file=file)):
            pass


async def test_a_given_ca_counts_until_its_file_says_something_else(tmp_path: Path) -> None:
    first, second = (CertificateAuthority(tmp_path / name, RealClock()) for name in ("first", "second"))
    file = tmp_path / "clients.crt"
    file.write_bytes(first.certificate)
    async with (
        served(tmp_path, authentication=AuthenticationOptions(client_ca_file=file)) as server,
        Http(server, tmp_path, pair=first.issue_client("jane", ["dev"])) as jane,
        Http(server, tmp_path, pair=second.issue_client("john")) as john,
        Http(server, tmp_path, pair=server.issue_client_certificate("own")) as own,
    ):
        assert (await whoami(jane))[1]["username"] == "jane"
        assert (await whoami(john))[0] == 401
        file.write_bytes(second.certificate)
        await server.look()
        assert (await whoami(john))[1]["username"] == "john"
        assert (await whoami(jane))[0] == 401
        assert (await whoami(own))[1]["username"] == "own"


async def test_a_certificate_for_servers_or_one_that_has_expired_is_nobodys(tmp_path: Path) -> None:
    class LastYear(RealClock):
        def now(self) -> Any:
            return super().now() - timedelta(days=400)

    async with served(tmp_path) as server:
        directory = server.config.data_dir / "pki"
        for pair in (
            server.authority.serving("wrong-usage", ["root"]),
            CertificateAuthority(directory, LastYear()).issue_client("root", ["system:masters"]),
        ):
            async with Http(server, tmp_path, pair=pair) as http:
                assert (await http.call("GET", "/api/v1/namespaces")).status == 401


def certificate_of(folder: Path, *names: x509.NameAttribute[str]) -> KeyPair:
    """Issued by the authority of a data directory."""
    authority = x509.load_pem_x509_certificate((folder / "pki" / "ca.crt").read_bytes())
    issuer = serialization.load_pem_private_key((folder / "pki" / "ca.key").read_bytes(), None)
    assert isinstance(issuer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(issuer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyPair(signed.public_bytes(pem), private)


async def test_of_several_common_names_the_last_one_is_the_user(tmp_path: Path) -> None:
    """As in Go: who signs by what another part of the system reads must mean the same one."""
    async with served(tmp_path) as server:
        names = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("system:admin", "jane")]
        async with Http(server, tmp_path, pair=certificate_of(server.config.data_dir, *names)) as http:
            assert (await whoami(http))[1]["username"] == "jane"


@pytest.mark.parametrize("kind", [_ASN1Type.BMPString, _ASN1Type.T61String, _ASN1Type.PrintableString])
async def test_names_are_read_in_whatever_letters_go_reads(tmp_path: Path, kind: _ASN1Type) -> None:
    async with served(tmp_path) as server:
        names = [x509.NameAttribute(one, "jane", kind) for one in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)]
        async with Http(server, tmp_path, pair=certificate_of(server.config.data_dir, *names)) as http:
            told = (await whoami(http))[1]
        assert (told["username"], told["groups"]) == ("jane", ["jane", "system:authenticated"])


@pytest.mark.parametrize("which", [NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME], ids=["user", "group"])
async def test_who_is_named_in_letters_that_nobody_reads_is_nobody(
    tmp_path: Path, which: x509.ObjectIdentifier
) -> None:
    """And not the one that another name would make of him."""
    async with served(tmp_path) as server:
        readable = x509.NameAttribute(NameOID.COMMON_NAME, "jane")
        strange = x509.NameAttribute(which, "strange", _ASN1Type.UniversalString)
        async with Http(server, tmp_path, pair=certificate_of(server.config.data_dir, readable, strange)) as http:
            assert (await whoami(http))[0] == 401


UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")


async def certified(folder: Path, server: APIServer, *uids: str) -> tuple[int, dict[str, Any]]:
    """Who somebody is whose certificate says these uids."""
    jane = x509.NameAttribute(NameOID.COMMON_NAME, "jane")
    told = [x509.NameAttribute(UID, uid, _ASN1Type.UTF8String, _validate=False) for uid in uids]
    async with Http(server, folder, pair=certificate_of(server.config.data_dir, *told, jane)) as http:
        return await whoami(http)


async def test_a_certificate_may_say_the_uid_of_its_user(tmp_path: Path) -> None:
    """KEP-4317."""
    async with served(tmp_path) as server:
        status, user = await certified(tmp_path, server, "u-1")
        assert (status, user["username"], user["uid"]) == (201, "jane", "u-1")
        status, user = await certified(tmp_path, server)
        assert (status, "uid" in user) == (201, False)


@pytest.mark.parametrize("uids", [("u-1", "u-2"), ("u-1", "u-1"), ("",)])
async def test_of_several_uids_or_an_empty_one_nobody_comes(tmp_path: Path, uids: tuple[str, ...]) -> None:
    async with served(tmp_path) as server:
        assert await certified(tmp_path, server, *uids) == (401, {})


# --- WebSockets

PROTOCOL = "base64url.bearer.authorization.k8s.io."


def protocol(token: str) -> str:
    return PROTOCOL + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("upgrade", "protocols", "status"),
    [
        ("websocket", [protocol("s3cret"), "v1.json"], 200),
        ("websocket", ["v1.json"], 403),
        ("websocket", [PROTOCOL, "v1.json"], 403),
        # For WebSockets alone.
        ("SPDY/3.1", [protocol("s3cret"), "v1.json"], 403),
        ("websocket", [protocol("s3cret")], 401),
        ("websocket", [protocol("s3cret"), protocol("s3cret"), "v1.json"], 401),
        ("websocket", [f"{PROTOCOL}*", "v1.json"], 401),
        ("websocket", [protocol("other"), "v1.json"], 401),
    ],
)
async def test_a_token_among_the_protocols_of_a_websocket_is_good_or_nobodys(
    tmp_path: Path, upgrade: str, protocols: list[str], status: int
) -> None:
    """What is broken makes no anonymous request."""
    file = tmp_path / "tokens.csv"
    file.write_text("s3cret,jane,u-1,system:masters\n")
    asking = {"Connection": "Upgrade", "Upgrade": upgrade, "Sec-WebSocket-Protocol": ", ".join(protocols)}
    options = AuthenticationOptions(token_file=file)
    async with served(tmp_path, authentication=options) as server:
        async with Http(server, tmp_path) as http:
            assert (await http.call("GET", PODS, headers=asking)).status == status
        async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
            assert (await http.call("GET", PODS, headers=asking)).status == 200, "known by something else"


# --- nobody


async def test_without_anonymous_requests_credentials_are_needed_everywhere(tmp_path: Path) -> None:
    async with (
        served(tmp_path, authentication=AuthenticationOptions(anonymous=False)) as server,
        Http(server, tmp_path) as http,
    ):
        for path in ("/livez", "/version", PODS):
            assert (await http.call("GET", path)).status == 401


async def test_where_everything_is_allowed_nobody_is_anonymous(tmp_path: Path) -> None:
    async with served(tmp_path, authorization_modes=("AlwaysAllow",)) as server:
        async with Http(server, tmp_path) as http:
            assert (await http.call("GET", PODS)).status == 401
        async with Http(server, tmp_path, pair=server.issue_client_certificate("jane")) as http:
            assert (await http.call("GET", PODS)).status == 200


# --- webhook


def knows(spec: dict[str, Any]) -> dict[str, Any]:
    if spec["token"] != "good":
        return {"authenticated": False}
    return {"authenticated": True, "user": {"username": "jane", "uid": "7", "groups": ["dev"], "extra": {"k": ["v"]}}}


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_tokens_nobody_knows_are_shown_to_the_webhook(tmp_path: Path, version: str) -> None:
    async with reviewing(tmp_path, knows) as (webhook, file):
        options = AuthenticationOptions(webhook=TokenWebhookOptions(config_file=file, version=version))
        async with served(tmp_path, authentication=options) as server:
            user = {
                "username": "jane",
                "uid": "7",
                "groups": ["dev", "system:authenticated"],
                "extra": {"k": ["v"]},
            }
            async with Http(server, tmp_path, token="good") as http:
                assert await whoami(http) == (201, user)
                assert await whoami(http) == (201, user)
                assert (await http.call("GET", PODS)).status == 403
            async with Http(server, tmp_path, token="bad") as http:
                assert [(await whoami(http))[0] for _ in range(2)] == [401, 401]
            own = list(server.tokens.audiences)
            assert webhook.specs == [{"token": token, "audiences": own} for token in ("good", "bad")]
            assert set(webhook.versions) == {f"authentication.k8s.io/{version}"}


async def test_what_the_webhook_says_counts_for_a_while(tmp_path: Path) -> None:
    async with reviewing(tmp_path, knows) as (webhook, file):
        options = AuthenticationOptions(webhook=TokenWebhookOptions(config_file=file, cache_ttl=0.0))
        async with served(tmp_path, authentication=options) as server, Http(server, tmp_path, token="good") as http:
            assert [(await whoami(http))[0] for _ in range(2)] == [201, 201]
            assert len(webhook.specs) == 2


async def test_other_audiences_are_the_webhooks_to_judge(tmp_path: Path) -> None:
    def for_others(spec: dict[str, Any]) -> dict[str, Any]:
        return {**knows(spec), "audiences": ["https://elsewhere"]}

    async with reviewing(tmp_path, for_others) as (_, file):
        options = AuthenticationOptions(webhook=TokenWebhookOptions(config_file=file, version="v1"))
        async with served(tmp_path, authentication=options) as server:
            async with Http(server, tmp_path, token="good") as http:
                assert (await whoami(http))[0] == 401
            status = await reviewed(server, "good", "https://elsewhere", "https://nowhere")
            assert (status["authenticated"], status["audiences"]) == (True, ["https://elsewhere"])


async def test_a_webhook_that_does_not_answer_lets_nobody_in_and_is_asked_again(tmp_path: Path) -> None:
    def silent(spec: dict[str, Any]) -> Any:
        return web.Response(status=403, text="not you")

    async with reviewing(tmp_path, silent) as (webhook, file):
        options = AuthenticationOptions(webhook=TokenWebhookOptions(config_file=file, version="v1"))
        async with served(tmp_path, authentication=options) as server, Http(server, tmp_path, token="good") as http:
            assert (await whoami(http))[0] == 401
            assert (await reviewed(server, "good"))["error"] == "[invalid bearer token, not you]"
            # A user that is none is no answer either.
            webhook.decide = lambda spec: {"authenticated": True, "user": {"username": "jane", "groups": "dev"}}
            assert (await whoami(http))[0] == 401
            why = "json: cannot unmarshal string into Go struct field UserInfo.status.user.groups of type []string"
            assert (await reviewed(server, "good"))["error"] == f"[invalid bearer token, {why}]"
            webhook.decide = knows
            assert (await whoami(http))[0] == 201
            webhook.decide = lambda spec: {"authenticated": True}
            nameless = await whoami(http, authorization="Bearer nameless")
            assert nameless == (201, {"groups": ["system:authenticated"]})
