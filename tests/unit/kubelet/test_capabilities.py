"""Which capabilities a process has, by what the kernel tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.kubelet.runtime.capabilities import has_of_host

_ALL, _BUT_SYS_RESOURCE = "000001ffffffffff", "000001fffeffffff"
_OF_HOST = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("effective", "users", "has"),
    [
        (_ALL, _OF_HOST, True),
        (_BUT_SYS_RESOURCE, _OF_HOST, False),
        (_ALL, "         0       1000          1\n", False),
        (_ALL, "", False),
    ],
    ids=["root", "root in a container", "root in a user namespace", "nobody knows"],
)
def test_what_is_had_in_a_user_namespace_is_not_had_of_the_host(
    tmp_path: Path, effective: str, users: str, has: bool
) -> None:
    (tmp_path / "status").write_text(f"Name:\tsh\nCapPrm:\t{_ALL}\nCapEff:\t{effective}\n")
    (tmp_path / "uid_map").write_text(users)
    assert has_of_host("SYS_RESOURCE", tmp_path) is has
