"""Which modes of the proxy can be had, and what is said of those that cannot."""

from __future__ import annotations

import shutil

import pytest

from kubecore.proxy import modes
from kubecore.proxy.data_plane import ModeUnavailable
from kubecore.proxy.modes import ProxyConfig


class TestNftables:
    def test_without_the_program_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
        assert modes.unavailable("nftables") == "the program nft is missing (Debian's package nftables)"
        with pytest.raises(ModeUnavailable, match="nft is missing"):
            modes.make_data_plane(ProxyConfig(mode="nftables"), None)

    def test_what_the_program_says_is_the_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name, path=None: "/bin/false")
        assert modes.unavailable("nftables") == "nft: exit status 1"


def test_userspace_can_always_be_had() -> None:
    assert modes.unavailable("userspace") == ""
