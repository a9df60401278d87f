"""How the kernel's IPVS is set."""

from __future__ import annotations

import pytest

from kubecore.proxy.ipvs import table as ipvs


@pytest.mark.parametrize(
    ("release", "reuse"),
    [("4.19.0-27-amd64", "0"), ("5.4.0", "0"), ("5.9.0-rc1", None), ("5.10.0", None), ("6.1", None), ("10.0-x", None)],
)
def test_who_uses_a_port_again_is_led_to_where_he_was_by_old_kernels_alone(release: str, reuse: str | None) -> None:
    found = ipvs.settings(release)
    assert found.get("conn_reuse_mode") == reuse
    assert (found["expire_nodest_conn"], found["expire_quiescent_template"], found["conntrack"]) == ("1", "1", "1")
