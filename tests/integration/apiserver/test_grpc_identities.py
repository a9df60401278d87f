"""Who one is over gRPC: whoever one is over REST, by the same credentials, and nobody where REST says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubecore.api.errors import StatusError
from kubecore.apiserver.authentication.options import AuthenticationOptions, TokenWebhookOptions
from kubecore.apiserver.authentication.pki import CertificateAuthority, KeyPair
from kubecore.clock import RealClock
from tests.support.openid_issuer import issuing
from tests.support.review_webhook import reviewing

from .conftest import Api
from .grpc_client import calling, calling_as, whoami
from .serving import served
from .test_authentication import behind, bootstrap_secret, knows
from .test_openid import by_flags

pytestmark = pytest.mark.asyncio

PEM = serialization.Encoding.PEM
MAPS = "v1/configmaps"


def signed(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate, signer: Any, *, is_authority: bool
) -> x509.Certificate:
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return made.sign(signer, hashes.SHA256())


def issued_in_between(folder: Path, name: str) -> KeyPair:
    """A certificate that an authority has issued which the one of a data directory has, with both."""
    root = x509.load_pem_x509_certificate((folder / "pki" / "ca.crt").read_bytes())
    root_key = serialization.load_pem_private_key((folder / "pki" / "ca.key").read_bytes(), None)
    between_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    between = signed("between", between_key, root, root_key, is_authority=True)
    leaf = signed(name, key, between, between_key, is_authority=False)
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyPair(leaf.public_bytes(PEM) + between.public_bytes(PEM), private)


async def test_a_certificate_counts_with_those_that_were_issued_in_between(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0) as server:
        pair = issued_in_between(server.config.data_dir, "jane")
        async with calling(server, pair=pair) as client:
            code, user = await whoami(client)
            assert (code, user.get("username")) == (201, "jane")
        leaf = x509.load_pem_x509_certificates(pair.certificate)[0].public_bytes(PEM)
        async with calling(server, pair=KeyPair(leaf, pair.key)) as client:
            assert (await whoami(client))[0] == 401


async def test_a_given_ca_counts_and_certificates_for_servers_and_expired_ones_do_not(tmp_path: Path) -> None:
    class LastYear(RealClock):
        def now(self) -> Any:
            return super().now() - timedelta(days=400)

    given = CertificateAuthority(tmp_path / "given", RealClock())
    file = tmp_path / "clients.crt"
    file.write_bytes(given.certificate)
    options = AuthenticationOptions(client_ca_file=file)
    async with served(tmp_path, grpc_port=0, authentication=options) as server:
        directory = server.config.data_dir / "pki"
        stranger = CertificateAuthority(tmp_path / "other", RealClock())
        for pair, code, name in (
            (given.issue_client("jane", ["dev"]), 201, "jane"),
            (server.issue_client_certificate("own"), 201, "own"),
            (stranger.issue_client("john"), 401, None),
            (server.authority.serving("wrong-usage", ["root"]), 401, None),
            (CertificateAuthority(directory, LastYear()).issue_client("root", ["system:masters"]), 401, None),
        ):
            async with calling(server, pair=pair) as client:
                told, user = await whoami(client)
            assert (told, user.get("username")) == (code, name)


async def test_a_proxy_that_is_allowed_to_says_who_asks_and_nobody_else(tmp_path: Path) -> None:
    proxies = CertificateAuthority(tmp_path / "proxies", RealClock())
    said = {"x-remote-user": "jane", "x-remote-group": "dev"}
    async with served(tmp_path, grpc_port=0, authentication=behind(proxies, tmp_path, "front")) as server:
        async with calling(server, pair=proxies.issue_client("front"), said=said) as client:
            assert (await whoami(client))[1]["username"] == "jane"
        async with calling(server, pair=server.issue_client_certificate("john"), said=said) as client:
            assert (await whoami(client))[1]["username"] == "john"


async def test_tokens_of_files_and_secrets_name_their_users(tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    file.write_text('s3cret,jane,u-1,"dev,ops"\n')
    options = AuthenticationOptions(token_file=file, bootstrap_tokens=True)
    async with served(tmp_path, grpc_port=0, authentication=options) as server:
        async with calling(server, token="s3cret") as client:
            groups = ["dev", "ops", "system:authenticated"]
            assert await whoami(client) == (201, {"username": "jane", "uid": "u-1", "groups": groups})
        api = Api(server.transport(username="admin", groups=["system:masters"]), "kube-system")
        async with calling(server, token="abcdef.0123456789abcdef") as client:
            assert (await whoami(client))[0] == 401
            assert (await api.create("v1/secrets", bootstrap_secret()))[0] == 201
            assert (await whoami(client))[1]["username"] == "system:bootstrap:abcdef"
            await api.delete("v1/secrets", "bootstrap-token-abcdef")
            assert (await whoami(client))[0] == 401


async def test_tokens_that_others_know_name_their_users(tmp_path: Path) -> None:
    async with reviewing(tmp_path, knows) as (_, config), issuing() as issuer:
        webhook = TokenWebhookOptions(config_file=config, version="v1")
        options = replace(by_flags(issuer, tmp_path), webhook=webhook)
        async with served(tmp_path, grpc_port=0, authentication=options) as server:
            for token, found in (
                ("good", (201, "jane")),
                ("bad", (401, None)),
                (issuer.token({"sub": "john"}), (201, f"{issuer.url}#john")),
                (issuer.token({"sub": "john", "aud": "others"}), (401, None)),
            ):
                async with calling(server, token=token) as client:
                    code, user = await whoami(client)
                assert (code, user.get("username")) == found


async def test_without_anonymous_calls_credentials_are_needed(tmp_path: Path) -> None:
    options = AuthenticationOptions(anonymous=False)
    async with served(tmp_path, grpc_port=0, authentication=options) as server, calling(server) as client:
        assert (await whoami(client))[0] == 401


async def test_who_may_acts_as_somebody_else_with_his_rights_and_not_with_the_own(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0) as server:
        said = {
            "impersonate-user": "jane",
            "impersonate-group": "dev",
            "impersonate-uid": "u-1",
            "impersonate-extra-scope": "a",
        }
        root = server.issue_client_certificate("root", ["system:masters"])
        async with calling(server, pair=root, said=said) as client:
            groups = ["dev", "system:authenticated"]
            user = {"username": "jane", "uid": "u-1", "groups": groups, "extra": {"scope": ["a"]}}
            assert await whoami(client) == (201, user)
            with pytest.raises(StatusError) as refused:
                await client.list(MAPS, "default")
            assert refused.value.code == 403
            assert 'User "jane" cannot list resource "configmaps"' in refused.value.message
        async with calling(server, pair=root, said={"impersonate-group": "dev"}) as client:
            assert (await whoami(client))[0] == 400


async def test_who_may_not_act_as_somebody_else_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0) as server:
        async with calling_as(server, "jane", impersonate_user="root") as client:
            with pytest.raises(StatusError) as refused:
                await client.get(MAPS, "a", "default")
        assert refused.value.code == 403
        assert 'User "jane" cannot impersonate resource "users"' in refused.value.message


async def test_what_says_nothing_of_the_caller_is_no_part_of_the_request(tmp_path: Path) -> None:
    said = {"accept": "application/yaml", "upgrade": "websocket", "content-encoding": "gzip", "x-remote-user": "root"}
    async with (
        served(tmp_path, grpc_port=0) as server,
        calling(server, pair=server.issue_client_certificate("jane"), said=said) as client,
    ):
        assert (await whoami(client))[1]["username"] == "jane"
