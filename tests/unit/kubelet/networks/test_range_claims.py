"""Clusters side by side hold their address ranges apart."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kubecore.kubelet.networks.range_claims import Claim, RangeError, claim_first


def test_a_range_is_held_until_it_is_released() -> None:
    name = f"test/{os.getpid()}"
    claim = Claim(name)
    told = rf"another cluster on this machine \(process {os.getpid()}\) has the addresses {name} now"
    with pytest.raises(RangeError, match=told):
        Claim(name)
    claim.release()
    Claim(name).release()


def test_a_range_is_free_again_when_its_process_was_killed() -> None:
    name = f"test/killed/{os.getpid()}"
    program = (
        "import sys; from kubecore.kubelet.networks.range_claims import Claim\n"
        f"claim = Claim({name!r}); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RangeError):
            Claim(name)
        holder.kill()
        holder.wait()
    Claim(name).release()


def test_the_first_free_range_is_taken() -> None:
    names = [f"test/{number}/{os.getpid()}" for number in range(2)]
    claims = [claim_first(names), claim_first(names)]
    assert [one.network for one in claims] == names
    with pytest.raises(RangeError, match="no addresses are left for one more cluster on this machine: all 2 ranges"):
        claim_first(names)
    for claim in claims:
        claim.release()
