"""Policies of mode ABAC as their file has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.apiserver.authorization.abac import PolicyFileError, read_policies

VERSIONED = '{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": %s}'


def read(tmp_path: Path, *lines: str) -> list[dict[str, object]]:
    file = tmp_path / "policies"
    file.write_text("\n".join(lines))
    return read_policies(file)


def test_comments_and_empty_lines_say_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# a comment", "", "  ", VERSIONED % '{"user": "jane"}') == [
        {"user": "jane", "readonly": False}
    ]


def test_everybody_is_who_is_authenticated(tmp_path: Path) -> None:
    [policy] = read(tmp_path, VERSIONED % '{"user": "*", "resource": "pods", "readonly": true}')
    assert policy == {"user": "", "group": "system:authenticated", "resource": "pods", "readonly": True}


def test_without_a_version_what_is_left_out_is_everything(tmp_path: Path) -> None:
    everything = {"namespace": "*", "resource": "*", "apiGroup": "*"}
    jane, reader = read(tmp_path, '{"user": "jane"}', '{"resource": "pods", "readonly": true}')
    assert jane == {"user": "jane", "nonResourcePath": "*", "readonly": False, **everything}
    group = {"user": "", "group": "system:authenticated"}
    assert reader == {**group, **everything, "resource": "pods", "readonly": True}


def test_a_policy_of_another_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match='no kind "Policy" is registered for version "x" in scheme'):
        read(tmp_path, '{"apiVersion": "x"}')


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"user": 1}', VERSIONED % '{"readonly": "yes"}'])
def test_a_line_that_is_no_policy_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(PolicyFileError, match=r"line 2: "):
        read(tmp_path, "# first", line)
