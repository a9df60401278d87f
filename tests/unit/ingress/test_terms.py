"""How an Ingress wants its backends to be spoken to."""

from __future__ import annotations

import pytest

from kubecore.ingress.rules import compile_ingress
from kubecore.ingress.terms import DEFAULT, Terms, read
from tests.unit.ingress.builders import ingress

NGINX, OWN = "nginx.ingress.kubernetes.io/", "kubecore.dev/"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, DEFAULT),
        ({f"{NGINX}backend-protocol": "HTTPS"}, Terms(protocol="https")),
        ({f"{NGINX}backend-protocol": "grpcs"}, Terms(protocol="h2")),
        ({f"{NGINX}backend-protocol": "HTTPS", f"{OWN}backend-protocol": "GRPC"}, Terms(protocol="h2c")),
        (
            {f"{NGINX}proxy-read-timeout": "120", f"{NGINX}proxy-connect-timeout": "2"},
            Terms(read_seconds=120.0, connect_seconds=2.0),
        ),
        (
            {f"{NGINX}proxy-ssl-verify": "on", f"{NGINX}proxy-ssl-secret": "default/ca", f"{OWN}proxy-ssl-name": "a.b"},
            Terms(tls_verify=True, tls_secret="default/ca", tls_name="a.b"),
        ),
    ],
)
def test_annotations_are_read_by_the_names_of_ingress_nginx_and_by_our_own_first(
    annotations: dict[str, str], expected: Terms
) -> None:
    assert read(ingress(annotations=annotations)) == (expected, [])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("backend-protocol", "FCGI", "HTTP, HTTPS, GRPC, GRPCS"),
        ("proxy-read-timeout", "1h", "a positive number of seconds"),
        ("proxy-read-timeout", "0", "a positive number of seconds"),
        ("proxy-ssl-verify", "maybe", "on, off"),
        ("proxy-ssl-secret", "other/ca", "default/NAME: a Secret beside the Ingress"),
    ],
)
def test_annotations_that_make_no_sense_are_told_and_left_out_of_account(name: str, value: str, expected: str) -> None:
    made = compile_ingress(ingress(annotations={f"{NGINX}{name}": value}))
    (problem,) = made.problems
    assert problem.reason == "BadAnnotation"
    assert name in problem.message
    assert expected in problem.message
    assert {one.terms for one in made.backends()} == {DEFAULT}


def test_annotations_of_ingress_nginx_that_are_not_known_here_are_told_in_one_event() -> None:
    given = {
        f"{NGINX}rewrite-target": "/$1",
        f"{NGINX}force-ssl-redirect": "true",
        f"{NGINX}ssl-redirect": "false",
        f"{NGINX}proxy-read-timeout": "5",
        "example.com/owner": "me",
    }
    (problem,) = compile_ingress(ingress(annotations=given)).problems
    assert problem.reason == "UnsupportedAnnotation"
    expected = f"annotations that have no effect here: {NGINX}force-ssl-redirect, {NGINX}rewrite-target"
    assert problem.message == expected


def test_ingresses_with_terms_of_their_own_have_backends_of_their_own() -> None:
    made = [
        compile_ingress(ingress(annotations=annotations)).backends().pop().name
        for annotations in ({}, {f"{NGINX}backend-protocol": "HTTPS"}, {f"{NGINX}proxy-read-timeout": "5"})
    ]
    assert made[0] == "default/web:80"
    assert len(set(made)) == 3
    assert all(name.startswith("default/web:80~") for name in made[1:])


def test_the_secret_to_trust_is_followed_but_not_shown() -> None:
    made = compile_ingress(ingress(annotations={f"{NGINX}proxy-ssl-secret": "default/ca"}))
    assert (made.secrets(), made.shown_secrets()) == ({"default/ca"}, set())
