"""Tokens of OpenID Connect issuers, by flags and by an AuthenticationConfiguration; tokens that mean to confuse."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.authentication.options import AuthenticationOptions, OIDCOptions
from kubecore.apiserver.authorization.options import AuthorizationOptions
from kubecore.apiserver.server import APIServer
from tests.support.openid_issuer import OpenIDIssuer, issuing

from .conftest import Api
from .http import Http
from .serving import served, whoami


@pytest.fixture
async def issuer() -> AsyncIterator[OpenIDIssuer]:
    async with issuing() as made:
        yield made


def by_flags(issuer: OpenIDIssuer, folder: Path, **more: Any) -> AuthenticationOptions:
    file = folder / "issuer-ca.crt"
    file.write_text(issuer.ca)
    asked = {"signing_algs": ("ES256", "RS256", "PS384", "ES512"), **more}
    return AuthenticationOptions(oidc=OIDCOptions(issuer_url=issuer.url, client_id="kubecore", ca_file=file, **asked))


def by_file(issuer: OpenIDIssuer, file: Path, anonymous: Any = None, **more: Any) -> AuthenticationOptions:
    entry = {
        "issuer": {"url": issuer.url, "audiences": ["kubecore"], "certificateAuthority": issuer.ca},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
        **more,
    }
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [entry]}
    if anonymous is not None:
        document["anonymous"] = anonymous
    file.write_text(json.dumps(document))
    return AuthenticationOptions(config_file=file)


async def who(server: APIServer, folder: Path, token: str) -> Any:
    """The user of a token, or the status of the refusal."""
    async with Http(server, folder, token=token) as http:
        status, user = await whoami(http)
        return user if status == 201 else status


async def test_an_id_token_names_its_user_and_groups(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    options = by_flags(issuer, tmp_path, groups_claim="groups", groups_prefix="oidc:", required_claims=(("hd", "x"),))
    async with served(tmp_path, authentication=options) as server:
        claims = {"sub": "jane", "groups": ["dev"], "hd": "x", "jti": "7"}
        assert await who(server, tmp_path, issuer.token(claims)) == {
            "username": f"{issuer.url}#jane",
            "groups": ["oidc:dev", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=7"]},
        }
        one = await who(server, tmp_path, issuer.token({**claims, "groups": "dev"}))
        assert one["groups"] == ["oidc:dev", "system:authenticated"]
        assert await who(server, tmp_path, issuer.token({**claims, "hd": "y"})) == 401
        assert await who(server, tmp_path, issuer.token({"groups": [], "hd": "x"})) == 401
        assert issuer.fetched == 1


async def test_an_email_is_a_name_once_it_is_verified(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    async with served(tmp_path, authentication=by_flags(issuer, tmp_path, username_claim="email")) as server:
        for verified, found in ((True, "j@x"), (False, None), ("yes", None)):
            user = await who(server, tmp_path, issuer.token({"email": "j@x", "email_verified": verified}))
            assert (user if user == 401 else user["username"]) == (found or 401)


async def test_keys_are_rotated_without_a_restart(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    async with served(tmp_path, authentication=by_flags(issuer, tmp_path, username_prefix="-")) as server:
        assert (await who(server, tmp_path, issuer.token({"sub": "jane"})))["username"] == "jane"
        issuer.keys["two"] = rsa.generate_private_key(65537, 2048)
        for algorithm in ("RS256", "PS384"):
            token = issuer.token({"sub": algorithm}, kid="two", algorithm=algorithm)
            assert (await who(server, tmp_path, token))["username"] == algorithm
        issuer.keys["three"] = ec.generate_private_key(ec.SECP521R1())
        token = issuer.token({"sub": "jane"}, kid="three", algorithm="ES512")
        assert (await who(server, tmp_path, token))["username"] == "jane"
        assert issuer.fetched == 3


async def test_a_token_that_confuses_is_nobodys(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    issuer.keys["rsa"] = rsa.generate_private_key(65537, 2048)
    stranger = ec.generate_private_key(ec.SECP256R1())
    jane = {"sub": "jane"}
    good = issuer.token(jane)
    head, payload, signed = good.split(".")
    confusing = {
        "of no algorithm": issuer.token(jane, algorithm="none"),
        "of no algorithm, oddly written": issuer.token(jane, algorithm="none", alg="nOnE"),
        "signed with the public key": issuer.token(jane, kid="rsa", algorithm="HS256"),
        "of an algorithm that is not allowed": issuer.token(jane, kid="rsa", algorithm="RS512"),
        "of another key's algorithm": issuer.token(jane, kid="one", key=issuer.keys["rsa"], algorithm="RS256"),
        "signed by somebody else": issuer.token(jane, key=stranger),
        "with a key of its own": issuer.token(jane, key=stranger, jwk={"kty": "EC"}),
        "of an unknown key": issuer.token(jane, kid="nobody", key=stranger),
        "without a signature": f"{head}.{payload}.",
        "cut short": f"{head}.{payload}",
        "with something behind it": f"{good}.x",
        "with other claims": f"{head}.{issuer.token({'sub': 'root'}).split('.')[1]}.{signed}",
        "for somebody else": issuer.token({**jane, "aud": "other"}),
        "for nobody": issuer.token({**jane, "aud": []}),
        "of another issuer": issuer.token({**jane, "iss": f"{issuer.url}/"}),
        "that has expired": issuer.token({**jane, "exp": 1}),
        "that never expires": issuer.token({**jane, "exp": None}),
        "that expires some day": issuer.token({**jane, "exp": "tomorrow"}),
        "of the future": issuer.token({**jane, "nbf": 4_102_444_800}),
        "critical in unknown ways": issuer.token(jane, crit=["b64"], b64=False),
    }
    async with served(tmp_path, authentication=by_flags(issuer, tmp_path)) as server:
        assert (await who(server, tmp_path, good))["username"] == f"{issuer.url}#jane"
        for what, token in confusing.items():
            assert await who(server, tmp_path, token) == 401, what


async def test_an_issuer_that_says_it_is_another_one_is_not_believed(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    issuer.says = "https://elsewhere.example.com"
    async with served(tmp_path, authentication=by_flags(issuer, tmp_path)) as server:
        assert await who(server, tmp_path, issuer.token({"sub": "jane"})) == 401
        issuer.says = ""
        assert (await who(server, tmp_path, issuer.token({"sub": "jane"})))["username"] == f"{issuer.url}#jane"


# --- the configuration file


async def test_expressions_map_claims_and_judge_them_and_the_user(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    options = by_file(
        issuer,
        tmp_path / "authentication.json",
        claimMappings={
            "username": {"expression": "claims.sub + '@' + claims.tenant"},
            "groups": {"expression": "claims.roles.filter(r, r != 'none').map(r, 'role:' + r)"},
            "uid": {"expression": "string(claims.number)"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
        },
        claimValidationRules=[{"expression": "claims.exp - claims.iat <= 3600", "message": "no longer than an hour"}],
        userValidationRules=[{"expression": "!user.username.startsWith('system:')", "message": "not system:"}],
    )
    claims = {"sub": "jane", "tenant": "t", "roles": ["a", "none"], "number": 7, "iat": 4_102_441_200}
    async with served(tmp_path, authentication=options) as server:
        assert await who(server, tmp_path, issuer.token(claims)) == {
            "username": "jane@t",
            "uid": "7",
            "groups": ["role:a", "system:authenticated"],
            "extra": {"example.com/tenant": ["t"]},
        }
        for changes in ({"iat": 1}, {"sub": "system:admin"}, {"tenant": 1}, {"roles": [1]}, {"iat": None}):
            assert await who(server, tmp_path, issuer.token({**claims, **changes})) == 401, changes


async def test_a_configuration_that_does_not_do_is_named(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    file = tmp_path / "authentication.json"
    options = by_file(issuer, file, claimMappings={"username": {}})
    told = rf'^authentication configuration file "{file}": jwt\[0\]\.claimMappings'
    with pytest.raises(InvalidConfiguration, match=told):
        async with served(tmp_path, authentication=options):
            pass
    flags = AuthenticationOptions(oidc=OIDCOptions(issuer_url="http://x", client_id="us"))
    with pytest.raises(InvalidConfiguration, match=r"^--oidc-\* flags: jwt\[0\]\.issuer\.url"):
        async with served(tmp_path, authentication=flags):
            pass
    modes = tmp_path / "authorization.json"
    modes.write_text("{}")
    with pytest.raises(InvalidConfiguration, match=f'^authorization configuration file "{modes}": '):
        async with served(tmp_path, authorization=AuthorizationOptions(config_file=modes)):
            pass


async def test_another_configuration_counts_once_its_issuers_answer(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    file = tmp_path / "authentication.json"
    async with served(tmp_path, authentication=by_file(issuer, file)) as server:
        jane = issuer.token({"sub": "jane"})
        assert (await who(server, tmp_path, jane))["username"] == "oidc:jane"
        other = {"username": {"claim": "sub", "prefix": "other:"}}
        issuer.says = "https://elsewhere.example.com"
        by_file(issuer, file, claimMappings=other)
        await server.look()
        assert (await who(server, tmp_path, jane))["username"] == "oidc:jane"
        issuer.says = ""
        await server.look()
        assert (await who(server, tmp_path, jane))["username"] == "other:jane"


async def test_anonymous_requests_can_be_bound_to_paths(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    allowed = {"enabled": True, "conditions": [{"path": "/livez"}]}
    options = by_file(issuer, tmp_path / "authentication.json", anonymous=allowed)
    async with served(tmp_path, authentication=options) as server, Http(server, tmp_path) as http:
        statuses = [(await http.call("GET", path)).status for path in ("/livez", "/readyz", "/livez/", "/api/v1/pods")]
        assert statuses == [200, 401, 401, 401]


async def test_how_tokens_are_judged_and_keys_fetched_is_counted(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    file = tmp_path / "authentication.json"

    def hashed(content: bytes) -> str:
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    async with served(tmp_path, authentication=by_file(issuer, file)) as server:
        for claims in ({"sub": "jane"}, {"sub": "john"}, {"sub": "jane", "exp": 1}, {"sub": "jane", "exp": -1e300}):
            await who(server, tmp_path, issuer.token(claims))
        metrics = server.metrics.render().decode()
        whose, in_force = f'jwt_issuer_hash="{hashed(issuer.url.encode())}"', hashed(file.read_bytes())
    start = "apiserver_authentication_jwt_authenticator_"
    for result in ("success", "failure"):
        assert f'{start}latency_seconds_count{{{whose},result="{result}"}} 2\n' in metrics
    fetches = re.findall(rf"{start}jwks_fetch_last_timestamp_seconds{{.*,{whose},result=\"(.*)\"}} \d+", metrics)
    assert fetches == ["success"]
    assert len(re.findall(rf"{start}jwks_fetch_last_key_set_info{{.*,hash=\"sha256:.*\",{whose}}} 1\n", metrics)) == 1
    info = "apiserver_authentication_config_controller_last_config_info"
    assert re.findall(rf'{info}{{.*,hash="(.*)"}} 1', metrics) == [in_force]


async def test_a_review_of_an_issuers_token_says_what_is_wrong_with_it(issuer: OpenIDIssuer, tmp_path: Path) -> None:
    async with served(tmp_path, authentication=by_flags(issuer, tmp_path)) as server:
        api = Api(server.transport(username="admin", groups=["system:masters"]), "")
        for claims, told in (
            ({"exp": 1}, "oidc: verify token: oidc: token is expired (Token Expiry: 1970-01-01 00:00:01 +0000 UTC)"),
            ({"aud": ["b", "a"]}, 'oidc: verify token: oidc: expected audience in ["kubecore"] got ["b" "a"]'),
        ):
            body = {"spec": {"token": issuer.token({"sub": "jane", **claims})}}
            _, review = await api.create("authentication.k8s.io/v1/tokenreviews", body)
            assert review["status"]["error"] == f"[invalid bearer token, {told}]"
