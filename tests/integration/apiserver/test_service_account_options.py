"""Service accounts' tokens with issuers, keys, audiences and ends of one's own, as kube-apiserver's flags say them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kubecore.apiserver.authentication.json_web_tokens import is_signed_by, keys_of, parse
from kubecore.apiserver.authentication.options import AuthenticationOptions, ServiceAccountOptions
from kubecore.apiserver.authentication.pki import PKIError
from kubecore.apiserver.server import APIServer

from .conftest import Api
from .http import Http
from .serving import served, whoami

JSON = dict[str, Any]
ISSUER = "https://issuer.example.com"
KEYS: dict[str, Any] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


def private(key: Any, file: Path) -> Path:
    traditional, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, traditional, plain))
    return file


def public(key: Any, file: Path) -> Path:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, info))
    return file


def options(**said: Any) -> AuthenticationOptions:
    return AuthenticationOptions(service_accounts=ServiceAccountOptions(**said))


async def requested(server: APIServer, **spec: Any) -> JSON:
    """A TokenRequest for the account default, as it is answered; with what was warned of."""
    api = Api(server.transport(username="admin", groups=["system:masters"]), "default")
    await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
    path = api.path("v1/serviceaccounts", "default", "token")
    answer = await api.transport.answer("POST", path, body=json.dumps({"spec": spec}).encode())
    assert answer.status == 201, answer.body
    warned = [value for name, value in answer.headers if name == "Warning"]
    return {**json.loads(answer.body), "warnings": warned}


async def token_of(server: APIServer, **spec: Any) -> str:
    return str((await requested(server, **spec))["status"]["token"])


def claims(token: str) -> JSON:
    return parse(token).claims


async def who(server: APIServer, folder: Path, token: str) -> str | int:
    async with Http(server, folder, token=token) as http:
        status, user = await whoami(http)
        return user["username"] if status == 201 else status


@pytest.mark.parametrize("algorithm", KEYS)
async def test_tokens_are_signed_with_the_key_that_is_given(tmp_path: Path, algorithm: str) -> None:
    key = KEYS[algorithm]()
    given = options(signing_key_file=private(key, tmp_path / "sa.key"), key_files=(public(key, tmp_path / "sa.pub"),))
    async with served(tmp_path, authentication=given) as server:
        token = await token_of(server)
        assert await who(server, tmp_path, token) == "system:serviceaccount:default:default"
        async with Http(server, tmp_path, pair=server.issue_client_certificate("a", ["system:masters"])) as http:
            keys = (await http.call("GET", "/openid/v1/jwks")).json
    assert parse(token).header == {"alg": algorithm, "kid": keys["keys"][0]["kid"]}
    [described] = keys["keys"]
    assert (described["alg"], described["use"]) == (algorithm, "sig")
    assert is_signed_by(parse(token), algorithm, keys_of(keys))


async def test_a_key_that_is_no_more_in_use_still_checks_tokens(tmp_path: Path) -> None:
    old, new = KEYS["ES256"](), KEYS["RS256"]()
    async with served(tmp_path, authentication=options(signing_key_file=private(old, tmp_path / "old.key"))) as server:
        token = await token_of(server)
        assert await who(server, tmp_path, token) == "system:serviceaccount:default:default"
    both = (public(new, tmp_path / "new.pub"), public(old, tmp_path / "old.pub"))
    signing = private(new, tmp_path / "new.key")
    async with served(tmp_path, authentication=options(signing_key_file=signing, key_files=both)) as server:
        assert await who(server, tmp_path, token) == "system:serviceaccount:default:default"
        assert claims(await token_of(server))["iss"] == claims(token)["iss"]
    async with served(tmp_path, authentication=options(signing_key_file=signing, key_files=both[:1])) as server:
        assert await who(server, tmp_path, token) == 401


async def test_keys_are_read_from_files_with_several_of_them(tmp_path: Path) -> None:
    own, one, two = (make() for make in KEYS.values())
    many = tmp_path / "many.pem"
    noise = "-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n"
    texts = [noise, public(one, tmp_path / "1").read_text(), private(two, tmp_path / "2").read_text()]
    many.write_text("".join(texts))
    given = options(signing_key_file=private(own, tmp_path / "own.key"), key_files=(many,))
    async with served(tmp_path, authentication=given) as server:
        assert [key.algorithm for key in server.tokens.keys] == ["ES256", "ES384"]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (
            rsa.generate_private_key(65537, 1024).public_key(),
            "unsupported RSA key of 1024 bits, must be of 2048 to 8192",
        ),
        # Any odd number does: nobody looks for the primes of a public key.
        (
            rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key(),
            "unsupported RSA key of 8193 bits, must be of 2048 to 8192",
        ),
        (ec.generate_private_key(ec.SECP521R1()).public_key(), "unknown key curve secp521r1, must be 256 or 384"),
    ],
    ids=["small", "large", "curve"],
)
async def test_a_key_that_tokens_are_not_checked_with_is_refused_by_name(tmp_path: Path, key: Any, why: str) -> None:
    file = tmp_path / "sa.pub"
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(key.public_bytes(serialization.Encoding.PEM, info))
    with pytest.raises(PKIError, match=f"^failed to parse {file}: {why}$"):
        async with served(tmp_path, authentication=options(key_files=(file,))):
            pass


async def test_a_small_key_to_sign_with_is_refused_by_name(tmp_path: Path) -> None:
    file = private(rsa.generate_private_key(65537, 1024), tmp_path / "sa.key")
    with pytest.raises(PKIError, match=f"^failed to parse {file}: unsupported RSA key of 1024 bits"):
        async with served(tmp_path, authentication=options(signing_key_file=file)):
            pass


async def test_the_first_issuer_issues_and_all_are_believed(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        before = await token_of(server)
        own = server.tokens.issuer
    async with served(tmp_path, authentication=options(issuers=(ISSUER, own), audiences=(own, ISSUER))) as server:
        token = await token_of(server)
        assert (claims(token)["iss"], claims(token)["aud"]) == (ISSUER, [own, ISSUER])
        for one in (token, before):
            assert await who(server, tmp_path, one) == "system:serviceaccount:default:default"
    async with served(tmp_path, authentication=options(issuers=(ISSUER,), audiences=(own,))) as server:
        assert await who(server, tmp_path, token) == "system:serviceaccount:default:default"
        assert await who(server, tmp_path, before) == 401


async def test_tokens_must_be_meant_for_an_audience_of_the_api(tmp_path: Path) -> None:
    async with served(tmp_path, authentication=options(audiences=("api", "other"))) as server:
        assert claims(await token_of(server))["aud"] == ["api", "other"]
        for audiences, found in ((["other"], "system:serviceaccount:default:default"), ([ISSUER], 401)):
            assert await who(server, tmp_path, await token_of(server, audiences=audiences)) == found


async def test_a_token_lasts_no_longer_than_it_may(tmp_path: Path) -> None:
    async with served(tmp_path, authentication=options(max_seconds=7200)) as server:
        long = await requested(server, expirationSeconds=10_000)
        short = await requested(server, expirationSeconds=7200)
    assert long["warnings"] == ['299 - "requested expiration of 10000 seconds shortened to 7200 seconds"']
    assert long["spec"]["expirationSeconds"] == 7200
    found = claims(long["status"]["token"])
    assert found["exp"] - found["iat"] == 7200
    assert short["warnings"] == []


@pytest.mark.parametrize(("extends", "lasts"), [(True, 365 * 24 * 3600), (False, 3607)])
async def test_a_pods_own_token_lasts_a_year_where_it_may(tmp_path: Path, extends: bool, lasts: int) -> None:
    async with served(tmp_path, authentication=options(extends=extends)) as server:
        await token_of(server)
        api = Api(server.transport(username="admin", groups=["system:masters"]), "default")
        spec = {"containers": [{"name": "a", "image": "b"}]}
        assert (await api.create("v1/pods", {"metadata": {"name": "p"}, "spec": spec}))[0] == 201
        of_pod = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
        found = claims(await token_of(server, expirationSeconds=3607, boundObjectRef=of_pod))
        unbound = claims(await token_of(server, expirationSeconds=3607))
    assert found["exp"] - found["iat"] == lasts
    assert ("warnafter" in found["kubernetes.io"]) is extends
    assert unbound["exp"] - unbound["iat"] == 3607


async def test_an_issuer_of_openid_tells_where_its_keys_are(tmp_path: Path) -> None:
    """Where pods find them, too: the address of a server that does not advertise one is for this machine."""
    uri = "https://keys.example.com/jwks"
    for said, advertised, told in (
        ({"jwks_uri": uri}, "127.0.0.1", uri),
        ({}, "127.0.0.1", "https://127.0.0.1:{port}/openid/v1/jwks"),
        ({}, "", "https://kubernetes.default.svc.example.org/openid/v1/jwks"),
    ):
        given = options(issuers=(ISSUER,), **said)
        where: JSON = {"advertise_address": advertised, "cluster_domain": "example.org"}
        async with served(tmp_path, authentication=given, **where) as server:
            async with Http(server, tmp_path, pair=server.issue_client_certificate("a", ["system:masters"])) as http:
                metadata = (await http.call("GET", "/.well-known/openid-configuration")).json
            assert metadata["issuer"] == ISSUER
            assert metadata["jwks_uri"] == told.format(port=server.secure_port)


@pytest.mark.parametrize("issuer", ["kubernetes", "http://issuer.example.com", f"{ISSUER}?a=b", f"{ISSUER}#a"])
async def test_another_issuer_tells_nothing_of_openid(tmp_path: Path, issuer: str) -> None:
    async with served(tmp_path, authentication=options(issuers=(issuer,))) as server:
        assert claims(await token_of(server))["iss"] == issuer
        async with Http(server, tmp_path, pair=server.issue_client_certificate("a", ["system:masters"])) as http:
            paths = (await http.call("GET", "/")).json["paths"]
            for path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
                assert (await http.call("GET", path)).status == 404
                assert path not in paths


async def test_a_token_of_another_issuer_with_our_signature_is_refused(tmp_path: Path) -> None:
    key = KEYS["ES256"]()
    given = options(issuers=(ISSUER,), signing_key_file=private(key, tmp_path / "sa.key"))
    async with served(tmp_path, authentication=given) as server:
        token = await token_of(server)
        head, _, signature = token.split(".")
        other = json.dumps({**claims(token), "iss": "https://other.example.com"}).encode()
        forged = base64.urlsafe_b64encode(other).rstrip(b"=").decode()
        assert await who(server, tmp_path, f"{head}.{forged}.{signature}") == 401
