"""AuthenticationConfigurations, and why a file is none: in kube-apiserver's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.authentication.configuration import load, of_flags
from kubecore.apiserver.authentication.options import OIDCOptions

ISSUER = {"url": "https://issuer.example.com", "audiences": ["us"]}
MAPPINGS = {"username": {"claim": "sub", "prefix": ""}}


def text(*jwt: dict[str, Any], **more: Any) -> str:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"}
    return json.dumps({**head, "jwt": [{"issuer": ISSUER, "claimMappings": MAPPINGS, **one} for one in jwt], **more})


def why(content: str) -> str:
    with pytest.raises(InvalidConfiguration) as refused:
        load(content, disallowed=["https://own.example.com"])
    return str(refused.value)


def issuer(**more: Any) -> dict[str, Any]:
    return {"issuer": {**ISSUER, **more}}


def mapped(**more: Any) -> dict[str, Any]:
    return {"claimMappings": {**MAPPINGS, **more}}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (issuer(url=""), "jwt[0].issuer.url: Required value"),
        (issuer(url="http://x"), 'jwt[0].issuer.url: Invalid value: "http://x": URL scheme must be https'),
        (
            issuer(url="https://a b"),
            'jwt[0].issuer.url: Invalid value: "https://a b": parse "https://a b": invalid character " " in',
        ),
        (issuer(url="https://a@x"), "URL must not contain a username or password"),
        (issuer(url="https://own.example.com"), "URL must not overlap with disallowed issuers"),
        (issuer(discoveryURL=f"{ISSUER['url']}/"), "discoveryURL must be different from URL"),
        (issuer(audiences=[]), "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is"),
        (issuer(audiences=["a", "b"]), "audienceMatchPolicy must be MatchAny for multiple audiences"),
        (issuer(certificateAuthority="x"), 'certificateAuthority: Invalid value: "<omitted>"'),
        ({"claimMappings": {}}, "jwt[0].claimMappings.username: Required value: claim or expression is required"),
        (mapped(username={"claim": "sub"}), "prefix is required when claim is set"),
        (mapped(groups={"claim": "a", "expression": "claims.a"}), "claim and expression can't both be set"),
        (mapped(username={"expression": "claims.email"}), "claims.email_verified must be used in"),
        (mapped(uid={"expression": "claim.sub"}), "undeclared reference to 'claim'"),
        (mapped(extra=[{"key": "a", "valueExpression": "claims.a"}]), "must be a domain-prefixed path"),
        (mapped(extra=[{"key": "x.k8s.io/a", "valueExpression": "claims.a"}]), "are reserved for Kubernetes use"),
        ({"claimValidationRules": [{}]}, "jwt[0].claimValidationRules[0]: Required value: claim or expression is"),
        ({"claimValidationRules": [{"expression": "claims.a"}]}, "must evaluate to bool"),
        ({"userValidationRules": [{"message": "x"}]}, "jwt[0].userValidationRules[0].expression: Required value"),
        ({"color": "red"}, 'strict decoding error: unknown field "jwt[0].color"'),
    ],
)
def test_what_is_not_right_is_told_with_its_place(entry: dict[str, Any], told: str) -> None:
    assert told in why(text(entry))


def test_an_issuer_is_there_once() -> None:
    assert why(text({}, {})) == 'jwt[1].issuer.url: Duplicate value: "https://issuer.example.com"'


def test_conditions_are_for_who_may_be_anonymous() -> None:
    told = why(text(anonymous={"enabled": False, "conditions": [{"path": "/livez"}]}))
    assert told.endswith("enabled should be set to true when conditions are defined")
    assert load(text(anonymous={"enabled": True, "conditions": [{"path": "/livez"}]})).anonymous == (True, ("/livez",))
    assert load(text()).anonymous is None


def test_flags_are_an_issuer_whose_names_begin_with_it() -> None:
    asked = OIDCOptions(issuer_url="https://issuer.example.com", client_id="us")
    [found] = of_flags(asked).issuers
    assert (found.audiences, found.algorithms) == (("us",), ("RS256",))
    assert found.mapping.username.prefix == "https://issuer.example.com#"
    with pytest.raises(InvalidConfiguration, match="unsupported signing alg"):
        of_flags(OIDCOptions(issuer_url="https://issuer.example.com", client_id="us", signing_algs=("HS256",)))


@pytest.mark.parametrize("name", ["username", "groups"])
def test_of_a_claim_and_an_expression_nothing_more_is_told(name: str) -> None:
    both = mapped(**{name: {"claim": "a", "expression": "claims.a", "prefix": ""}})
    path = f"jwt[0].claimMappings.{name}"
    assert why(text(both)) == f'{path}: Invalid value: "": claim and expression can\'t both be set'
