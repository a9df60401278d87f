"""What is told of a JSONPath that is none."""

from __future__ import annotations

import pytest

from kubecore.apiserver.registry.validation.json_paths import fault


@pytest.mark.parametrize(
    "path",
    ["", "spec.validations[0].expression", ".a..b", "$.a['b.c']", '.a[?(@.b=="c")].d', '.a["x"]', ".a/b", "@.a[1:2,3]"],
)
def test_a_path_is_one(path: str) -> None:
    assert fault(path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("*", "unrecognized character in action: U+002A '*'"),
        ("/a/../b", "unrecognized character in action: U+002F '/'"),
        (".a[0", "unterminated array"),
        (".a[?(@.b", "unterminated filter"),
        (".a 'b", "unterminated quoted string"),
        (".a\n.b", "unclosed action"),
    ],
)
def test_what_is_none_is_told_as_kubernetes_tells_it(path: str, why: str) -> None:
    assert fault(path) == why
