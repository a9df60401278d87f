"""Debian's program `nft`, which makes tables of text: what netlink would take many messages for."""

from __future__ import annotations

import shutil
import subprocess

from kubecore.proxy.data_plane import ModeUnavailable

_NFT_SECONDS = 30


def find_nft() -> str:
    """Where it is. Raises ModeUnavailable."""
    found = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if found is None:
        raise ModeUnavailable("the program nft is missing (Debian's package nftables)")
    return found


def run_nft(nft: str, text: str, *options: str) -> None:
    """Have it read `text`. Raises ModeUnavailable with what it says."""
    try:
        done = subprocess.run(
            [nft, *options, "-f", "-"], input=text, text=True, capture_output=True, timeout=_NFT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModeUnavailable(f"nft: {error}") from error
    if done.returncode:
        raise ModeUnavailable(f"nft: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}")
