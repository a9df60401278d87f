"""What an Ingress asks for, and who has his way where two ask for the same."""

from __future__ import annotations

import pytest

from kubecore.ingress import classes, routing
from kubecore.ingress.rules import BackendRef, Compiled, Path, compile_ingress
from tests.unit.ingress.builders import backend, ingress, ingress_class, path, rule

WEB = BackendRef("default/web", 80)


def test_rules_become_paths_by_host() -> None:
    made = compile_ingress(
        ingress(
            "web",
            rule("Foo.com", path("/"), path("/a", "api", kind="Exact", port="http")),
            rule("", path("/any", kind="ImplementationSpecific")),
            rule("foo.com", path("/b")),
        )
    )
    assert made.hosts == {
        "foo.com": [Path(False, "/", WEB), Path(True, "/a", BackendRef("default/api", "http")), Path(False, "/b", WEB)],
        "": [Path(False, "/any", WEB)],
    }
    assert not made.problems


def test_an_implementation_specific_path_may_be_missing_and_is_then_all_of_them() -> None:
    any_path = {"pathType": "ImplementationSpecific", "backend": backend()}
    assert compile_ingress(ingress("web", rule("foo.com", any_path))).hosts == {"foo.com": [Path(False, "/", WEB)]}


def test_a_host_without_paths_is_named_all_the_same() -> None:
    made = compile_ingress(ingress("web", {"host": "foo.com"}, defaultBackend=backend()))
    assert made.hosts == {"foo.com": []}
    assert routing.host_spec("foo.com", [made]) == ([], ("default/web:80", "default/web"))


def test_resource_backends_are_told_not_to_be_supported() -> None:
    bucket = {"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "files"}}
    made = compile_ingress(
        ingress("web", rule("foo.com", {"path": "/", "pathType": "Prefix", "backend": bucket}), defaultBackend=bucket)
    )
    assert made.hosts == {"foo.com": []}
    assert [problem.reason for problem in made.problems] == ["UnsupportedBackend"] * 2
    assert "spec.rules[0].http.paths[0].backend: Bucket 'files'" in made.problems[1].message


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"hosts": ["foo.com", "*.Bar.com"], "secretName": "one"}, [("foo.com", "one"), ("*.bar.com", "one")]),
        ({"secretName": "one"}, [("rule.com", "one")]),
        ({"hosts": ["foo.com"]}, []),
    ],
)
def test_certificates_are_for_the_hosts_named_or_those_of_the_rules(
    tls: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    made = compile_ingress(ingress("web", rule("rule.com"), tls=[tls]))
    assert made.tls == [(host, f"default/{secret}") for host, secret in expected]


def compiled(name: str, *rules: dict[str, object], created: str, **spec: object) -> Compiled:
    return compile_ingress(ingress(name, *rules, created=created, **spec))


def test_the_older_of_two_ingresses_has_its_way() -> None:
    old = compiled("z-old", rule("foo.com", path("/a/", "old")), created="2026-01-01T00:00:00Z")
    new = compiled("a-new", rule("foo.com", path("/a", "new"), path("/b", "new")), created="2026-01-02T00:00:00Z")
    assert routing.host_spec("foo.com", [new, old]) == (
        [(False, "/a/", "default/old:80", "default/z-old"), (False, "/b", "default/new:80", "default/a-new")],
        None,
    )
    ((key, problem),) = routing.conflicts("foo.com", [new, old])
    assert (key, problem.reason) == ("default/a-new", "Conflict")
    assert "belongs to Ingress default/z-old" in problem.message


def test_a_host_nobody_names_has_no_routes() -> None:
    assert routing.host_spec("foo.com", []) is None


def test_the_oldest_default_backend_is_the_last_resort_before_the_class_s() -> None:
    old = compiled("old", created="2026-01-01T00:00:00Z", defaultBackend=backend("old"))
    new = compiled("new", created="2026-01-02T00:00:00Z", defaultBackend=backend("new"))
    of_class = (BackendRef("ops/errors", 80), "kubecore")
    assert routing.fallback([new, old], of_class) == ("default/old:80", "default/old")
    assert routing.fallback([], of_class) == ("ops/errors:80", "kubecore")
    assert routing.fallback([]) is None


# ---------------------------------------------------------------- classes
@pytest.mark.parametrize(
    ("class_name", "annotation", "ours"),
    [
        ("kubecore", None, True),
        ("mine", None, True),
        ("nginx", None, False),
        ("unknown", None, False),
        (None, "kubecore", True),
        (None, "mine", True),
        (None, "nginx", False),
        (None, None, True),
    ],
)
def test_an_ingress_is_ours_by_its_class_or_its_annotation(
    class_name: str | None, annotation: str | None, ours: bool
) -> None:
    known = [
        ingress_class(),
        ingress_class("mine", default=False),
        ingress_class("nginx", default=False, controller="k8s.io/ingress-nginx"),
    ]
    annotations = {classes.CLASS_ANNOTATION: annotation} if annotation else None
    assert classes.is_ours(ingress(class_name=class_name, annotations=annotations), known) is ours


def test_an_ingress_without_class_is_not_ours_while_another_class_is_the_default() -> None:
    known = [ingress_class(default=False), ingress_class("nginx", controller="k8s.io/ingress-nginx")]
    assert not classes.is_ours(ingress(class_name=None), known)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("ops/errors:80", BackendRef("ops/errors", 80)),
        ("ops/errors:http", BackendRef("ops/errors", "http")),
        ("errors:80", None),
        ("ops/errors", None),
        ("", None),
    ],
)
def test_a_class_may_have_a_default_backend(annotation: str, expected: BackendRef | None) -> None:
    known = ingress_class()
    known["metadata"]["annotations"][classes.DEFAULT_BACKEND_ANNOTATION] = annotation
    found = classes.default_backend([known])
    assert (found and found[0]) == expected
