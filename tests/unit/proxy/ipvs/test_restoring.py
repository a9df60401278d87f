"""What somebody else has cleared away is made again though no Service changes, once it is looked after."""

from __future__ import annotations

import pytest

from kubecore.proxy.ipvs import table as ipvs
from tests.unit.proxy.builders import virtual_server as server
from tests.unit.proxy.ipvs.fake_kernel import FakeKernel
from tests.unit.proxy.ipvs.test_table import ONE, TWO, Told

LOCAL = server(ONE, address="203.0.113.5", inside=(TWO,), purpose="LoadBalancer")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(ipvs, "_set_up", lambda: None)
    told = Told(FakeKernel())
    told.apply(server(ONE), service="default/web")
    told.apply(LOCAL, service="default/local")
    return told


def test_virtual_services_also_those_that_a_mark_leads_to(told: Told) -> None:
    before = told.destinations()
    assert told.table.restore() is None
    told.kernel.clear()
    assert told.table.restore() == {"default/web", "default/local"}
    told.apply(server(ONE), service="default/web")
    told.apply(LOCAL, service="default/local")
    assert told.destinations() == before
    assert told.table.restore() is None


def test_rules_of_nf_tables_beside_them(told: Told) -> None:
    told.rules.lost = ["default/local"]
    assert told.table.restore() == {"default/local"}
    told.rules.lost = []
    assert told.table.restore() == set()
