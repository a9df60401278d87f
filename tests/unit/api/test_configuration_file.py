"""Files that components are configured by: what is wrong with one is told as Kubernetes' strict decoders tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.api.configuration_file import InvalidConfiguration, read, unread

HEAD = "apiVersion: example.com/v1\nkind: Settings\n"


def test_a_key_that_is_given_twice_is_told_with_its_line() -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        read(HEAD + "color: red\ncolor: blue\n", "Settings", {"example.com/v1": {"color": str}})
    assert str(refused.value) == (
        'strict decoding error: yaml: unmarshal errors:\n  line 4: key "color" already set in map'
    )


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    for file, told in (
        (tmp_path / "none", f"open {tmp_path}/none: no such file or directory"),
        (tmp_path, f"read {tmp_path}: is a directory"),
    ):
        with pytest.raises(OSError) as failed:
            file.read_text()
        assert unread(failed.value) == told
