"""API servers with a range of addresses for each family, or of IPv6 only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.client.client import Client
from kubecore.clock import RealClock
from kubecore.kubelet.node.node import Machine, NodeIdentity, NodeKeeper

from .conftest import Api

SERVICES = "v1/services"
ADDRESSES, CIDRS = "networking.k8s.io/v1/ipaddresses", "networking.k8s.io/v1/servicecidrs"
SLICES = "discovery.k8s.io/v1/endpointslices"
V4, V6 = "10.96.0.0/16", "fd00:96::/112"


@asynccontextmanager
async def serving(directory: Path, ranges: str, bind: str = "127.0.0.1") -> AsyncIterator[Api]:
    """An administrator of namespace default."""
    storage = LMDBConfig(sync=False)
    config = APIServerConfig(data_dir=directory, secure_port=0, storage=storage, service_cidr=ranges, bind_address=bind)
    server = APIServer(config, RealClock())
    await server.start()
    try:
        yield Api(server.transport(username="admin", groups=["system:masters"]))
    finally:
        await server.stop()


async def cidrs(api: Api) -> list[str]:
    status, found = await Api(api.transport, "").get(CIDRS, "kubernetes")
    assert status == 200
    given: list[str] = found["spec"]["cidrs"]
    return given


async def test_ip_addresses_come_and_go_with_a_services_second_address(tmp_path: Path) -> None:
    async with serving(tmp_path, f"{V4},{V6}") as api:
        spec = {"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}
        _, made = await api.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec})
        first, second = made["spec"]["clusterIPs"]
        every = Api(api.transport, "")
        _, address = await every.get(ADDRESSES, second)
        assert address["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] == "IPv6"
        made["spec"]["ipFamilyPolicy"] = "SingleStack"
        _, single = await api.update(SERVICES, made)
        assert single["spec"]["clusterIPs"] == [first]
        assert [(await every.get(ADDRESSES, one))[0] for one in (first, second)] == [200, 404]


async def test_a_cluster_of_one_family_is_started_with_a_second_one_later(tmp_path: Path) -> None:
    async with serving(tmp_path, V4) as api:
        assert await cidrs(api) == [V4]
    async with serving(tmp_path, f"{V4},{V6}") as api:
        assert await cidrs(api) == [V4, V6]
        spec = {"ports": [{"port": 80}], "ipFamilies": ["IPv6"]}
        _, made = await api.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec})
        assert made["spec"]["clusterIP"].startswith("fd00:96::")
        _, own = await api.get(SERVICES, "kubernetes")
        assert own["spec"]["clusterIPs"] == ["10.96.0.1"]


async def test_ranges_that_were_made_with_the_cluster_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path, V4):
        pass
    async with serving(tmp_path, f"10.97.0.0/16,{V6}") as api:
        assert await cidrs(api) == [V4]
    assert "the default ServiceCIDR ['10.96.0.0/16'] does not match the ranges of the command line" in caplog.text


async def test_the_clusters_own_service_is_of_its_first_family(tmp_path: Path) -> None:
    async with serving(tmp_path, f"{V6},{V4}", bind="::1") as api:
        _, own = await api.get(SERVICES, "kubernetes")
        assert own["spec"]["clusterIPs"] == ["fd00:96::1"]
        assert (own["spec"]["ipFamilies"], own["spec"]["ipFamilyPolicy"]) == (["IPv6"], "SingleStack")
        _, piece = await api.get(SLICES, "kubernetes")
        assert (piece["addressType"], piece["endpoints"][0]["addresses"]) == ("IPv6", ["::1"])


async def test_a_node_that_reports_again_keeps_an_address_of_each_family(tmp_path: Path) -> None:
    async with serving(tmp_path, f"{V4},{V6}") as api:
        addresses = ("10.244.0.1", "fd00:244::1")
        ranges = ("10.244.0.0/24", "fd00:244::/64")
        identity = NodeIdentity(
            "node", addresses, port=1, pod_cidrs=ranges, network_mode="netns", runtime="host", handlers=("host",)
        )
        keeper = NodeKeeper(
            Client(api.transport, field_manager="kubelet"), RealClock(), identity, Machine.read(tmp_path)
        )
        for _ in range(2):
            await keeper.register()
        await keeper.report()
        assert [one["address"] for one in keeper.node["status"]["addresses"]] == [*addresses, "node"]
        assert keeper.node["spec"]["podCIDRs"] == list(ranges)
