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


_HEAD = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "nonsense",
            f"couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type {_HEAD}",
        ),
        (
            "[]",
            f"couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type {_HEAD}",
        ),
        ('{"user": "a"', "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        ('{"user": 1}', "json: cannot unmarshal number into Go struct field Policy.user of type string"),
        (
            VERSIONED % '{"user": []}',
            "json: cannot unmarshal array into Go struct field PolicySpec.spec.user of type string",
        ),
        (
            VERSIONED % '{"readonly": "yes"}',
            "json: cannot unmarshal string into Go struct field PolicySpec.spec.readonly of type bool",
        ),
    ],
)
def test_why_a_line_is_no_policy_is_told_in_upstreams_words(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(PolicyFileError) as refused:
        read(tmp_path, line)
    assert str(refused.value) == f"error reading policy file {tmp_path}/policies, line 1: {line}: {why}"


def test_a_policy_may_be_yaml_that_fits_into_a_line(tmp_path: Path) -> None:
    assert read(tmp_path, "user: jane")[0]["user"] == "jane"
