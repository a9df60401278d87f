"""Names of images."""

from __future__ import annotations

import pytest

from kubecore.images.references import InvalidReference, Reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("me/app", "docker.io/me/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1"),
        ("registry.example/a/b/c", "registry.example/a/b/c:latest"),
        (f"registry.example/app@{DIGEST}", f"registry.example/app@{DIGEST}"),
        (f"app:v1@{DIGEST}", f"docker.io/library/app:v1@{DIGEST}"),
    ],
)
def test_a_short_name_stands_for_a_full_one(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full


@pytest.mark.parametrize("text", ["", "App", "app:", "app:a b", "app@sha256:12", "a//b", "app:" + "x" * 129, ".app"])
def test_what_is_no_name_is_told(text: str) -> None:
    with pytest.raises(InvalidReference, match="invalid reference format"):
        Reference.parse(text)


def test_a_registry_is_asked_for_the_digest_before_the_tag() -> None:
    assert Reference.parse(f"app:v1@{DIGEST}").wanted == DIGEST
    assert Reference.parse("app:v1").wanted == "v1"
