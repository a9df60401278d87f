"""Whatever text comes as a token, it is one or it is refused in words of our own: nothing else ever leaves."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kubecore.apiserver.authentication.claims import ClaimMapping, Source
from kubecore.apiserver.authentication.issuer_metrics import IssuerMetrics
from kubecore.apiserver.authentication.json_web_tokens import (
    ALGORITHMS,
    BadToken,
    Key,
    Token,
    check_algorithm,
    is_signed_by,
    parse,
)
from kubecore.apiserver.authentication.modules import Accepted, TokenRefused
from kubecore.apiserver.authentication.oidc import OIDCAuthenticator
from kubecore.clock import VirtualClock

JSON = dict[str, Any]
ISSUER = "https://issuer"
KEYS = [
    Key("", rsa.generate_private_key(65537, 1024).public_key()),
    *(
        Key("", ec.generate_private_key(curve).public_key())
        for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
    ),
]


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8)
# As long as orjson takes them: what is text in JSON has no half characters.
values = leaves | st.lists(leaves, max_size=2) | st.dictionaries(st.text(max_size=4), leaves, max_size=2)
# More often than not those that mean something.
algorithms = st.sampled_from([*ALGORITHMS, "none", "HS256", "nOnE"]) | values
headers = st.fixed_dictionaries({}, optional={"alg": algorithms, "kid": values, "crit": values})
claimed = st.fixed_dictionaries(
    {},
    optional={
        "iss": st.just(ISSUER) | values,
        "aud": st.sampled_from(["ours", ["ours"], ["theirs", "ours"]]) | values,
        "exp": st.just(4_102_444_800) | values,
        "nbf": values,
        "sub": st.text(max_size=8) | values,
        "groups": st.lists(st.text(max_size=8), max_size=3) | values,
        "jti": values,
    },
)
documents = (
    st.one_of(headers, claimed, values).map(
        orjson.dumps,
    )
    | st.binary()
)
parts = documents.map(encoded) | st.text()
texts = st.text() | st.lists(parts, min_size=2, max_size=4).map(".".join)


def deep(levels: int) -> bytes:
    return b'{"sub":"jane","a":' * levels + b"1" + b"}" * levels


@given(texts)
@example("")
@example("..")
@example("\ud800.\ud800.\ud800")
@example("e30=.e30.")
@example("e30.e30.é")
@example("e30.e30\n.e30")
@example(f"e30.{encoded(deep(100_000))}.e30")
@example(f"e30.{encoded(b'1e999')}.e30")
@example(f"e30.{encoded(b'[NaN]')}.e30")
@example(f"e30.{encoded(bytes([0xEF, 0xBB, 0xBF]) + b'{}')}.e30")
def test_a_text_is_a_token_of_three_parts_or_none(text: str) -> None:
    try:
        token = parse(text)
    except BadToken as bad:
        assert str(bad)
        return
    head, payload, signature = text.split(".")
    assert token.signed == f"{head}.{payload}".encode()
    assert isinstance(token.header, dict) and isinstance(token.claims, dict)
    assert len(token.signature) == len(signature) * 6 // 8


@given(headers, claimed, st.binary(max_size=80))
def test_what_was_put_into_a_token_is_what_is_read(header: JSON, claims: JSON, signature: bytes) -> None:
    text = ".".join(encoded(one) for one in (orjson.dumps(header), orjson.dumps(claims), signature))
    assert parse(text)[:2] == (orjson.loads(orjson.dumps(header)), orjson.loads(orjson.dumps(claims)))
    assert parse(text).signature == signature


@settings(deadline=None)
@given(
    headers, st.binary(max_size=160) | st.sampled_from([bytes(64), bytes(96), bytes(128), bytes(132), b"\xff" * 128])
)
def test_nothing_is_signed_by_keys_that_nobody_has(header: JSON, signature: bytes) -> None:
    token = Token(header, {}, b"e30.e30", signature)
    with suppress(BadToken):
        assert not is_signed_by(token, check_algorithm(token, ALGORITHMS), KEYS)


class Signed:
    """An issuer that has signed everything."""

    url = ISSUER

    def __init__(self) -> None:
        self.metrics = IssuerMetrics(VirtualClock())

    async def signed(self, token: Token, algorithm: str) -> bool:
        return True


async def judged(claims: bytes) -> Accepted | str | None:
    mapping = ClaimMapping(username=Source(claim="sub"), groups=Source(claim="groups"))
    authenticator = OIDCAuthenticator(
        Signed(),  # type: ignore[arg-type]
        mapping,
        VirtualClock(),
        audiences=["ours"],
        algorithms=ALGORITHMS,
        api_audiences=["api"],
    )
    text = f"{encoded(orjson.dumps({'alg': 'ES256'}))}.{encoded(claims)}.e30"
    try:
        return await authenticator.authenticate(text, ["api"])
    except TokenRefused as refused:
        return str(refused)


@pytest.mark.asyncio
@given(claimed.map(orjson.dumps))
async def test_an_issuer_may_claim_anything_and_makes_a_user_or_none(claims: bytes) -> None:
    found = await judged(claims)
    said = orjson.loads(claims)
    if isinstance(found, Accepted):
        assert found.user.username == said["sub"]
        assert isinstance(said["exp"], int | float)
    elif isinstance(found, str):
        assert found.startswith("oidc: ")
    else:
        assert said.get("iss") != ISSUER


@pytest.mark.parametrize(("levels", "told"), [(100, ""), (300, "oidc: the claims are nothing to judge"), (5000, None)])
async def test_claims_that_are_nested_without_end_are_refused(levels: int, told: str | None) -> None:
    whole = b'{"iss":"%s","aud":"ours","exp":4102444800,"sub":"jane","a":%s}' % (ISSUER.encode(), deep(levels))
    found = await judged(whole)
    if told:
        assert isinstance(found, str)
        assert found.startswith(told)
    else:
        assert isinstance(found, Accepted) if told == "" else found is None
