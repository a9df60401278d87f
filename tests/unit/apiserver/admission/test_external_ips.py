"""DenyServiceExternalIPs: what Services have they keep, and none gets more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.chain import CREATE, DELETE, UPDATE
from kubecore.apiserver.admission.external_ips import DenyServiceExternalIPs

CONTEXT = cast(Any, SimpleNamespace(name="web"))


def service(*ips: str) -> dict[str, Any]:
    return {"spec": {"externalIPs": list(ips)} if ips else {}}


@pytest.mark.parametrize(
    ("new", "old"), [(service("192.0.2.1"), None), (service("192.0.2.1", "192.0.2.2"), service("192.0.2.1"))]
)
def test_new_external_ips_are_refused(new: dict[str, Any], old: dict[str, Any] | None) -> None:
    with pytest.raises(StatusError) as refused:
        DenyServiceExternalIPs().validate(CONTEXT, new, old)
    told = 'services "web" is forbidden: Use of external IPs is denied by admission control'
    assert (refused.value.code, refused.value.message) == (403, told)


@pytest.mark.parametrize(("new", "old"), [(service(), None), (service("192.0.2.1"), service("192.0.2.1", "192.0.2.2"))])
def test_others_are_let_through(new: dict[str, Any], old: dict[str, Any] | None) -> None:
    DenyServiceExternalIPs().validate(CONTEXT, new, old)


def test_it_looks_at_services_themselves_alone() -> None:
    plugin = DenyServiceExternalIPs()
    assert plugin.handles("services", CREATE, "")
    assert plugin.handles("services", UPDATE, "")
    assert not plugin.handles("services", UPDATE, "status")
    assert not plugin.handles("services", DELETE, "")
    assert not plugin.handles("pods", CREATE, "")
