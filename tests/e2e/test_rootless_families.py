"""`kubecore up --ip-family` by a user without any rights: both families, and IPv6 alone, in pod network rootless."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubecore.netlink import ipv6_trouble
from tests.e2e.test_dual_stack import Cluster, get, node_addresses
from tests.support.rootless import ROOTLESS, rootless_user
from tests.support.unprivileged import User
from tests.support.unprivileged_cluster import LOOPBACK, up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(ipv6_trouble()), reason=ipv6_trouble()),
]

ASKS_THE_API = """
import os, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
trusted = ssl.create_default_context(cafile=folder + "/ca.crt")
token = {"Authorization": "Bearer " + open(folder + "/token").read()}
url = f"https://kubernetes.default.svc:{os.environ['KUBERNETES_SERVICE_PORT']}/api/v1"
print(urllib.request.urlopen(urllib.request.Request(url, headers=token), context=trusted, timeout=60).status)
"""


@pytest.fixture(scope="module")
def somebody() -> Iterator[User]:
    with rootless_user() as found:
        yield found


@pytest.mark.parametrize(
    ("asked", "families", "at"),
    [("dual", ["IPv4", "IPv6"], ["127.0.0.1", "::1"]), ("ipv6", ["IPv6"], ["::1"])],
)
def test_pods_nodes_and_services_have_addresses_of_each_family_and_are_reached_at_them(
    somebody: User, asked: str, families: list[str], at: list[str]
) -> None:
    six = [one == "IPv6" for one in families]
    with up(somebody, asked, *ROOTLESS, "--ip-family", asked) as running:
        here = Cluster(running.kubectl)
        here.run_app()
        (node,) = here.get("nodes")["items"]
        pods = here.get("pods", "-l", "app=app")["items"]
        service = here.get("service", "app")["spec"]
        ips = {pod["metadata"]["name"]: [one["ip"] for one in pod["status"]["podIPs"]] for pod in pods}
        for addresses in (node_addresses(node), node["spec"]["podCIDRs"], service["clusterIPs"], *ips.values()):
            assert [":" in one for one in addresses] == six
        told = here.ask_from_a_pod(families)
        for number, family in enumerate(families):
            assert told[family]["headless"] == sorted(each[number] for each in ips.values())
            assert told[family]["app"] in ips
        assert told["version"] == "35"
        for address in at:
            answering, _, own = get(address, service["ports"][0]["nodePort"])
            assert own.split(",") == ips[answering]


@pytest.mark.parametrize("options", [ROOTLESS, LOOPBACK], ids=["rootless", "loopback"])
def test_pods_reach_an_api_server_that_is_bound_to_an_address_of_the_other_family(
    somebody: User, options: tuple[str, ...]
) -> None:
    with up(somebody, f"bound-{options[1]}", *options, "--bind-address", "::1") as running:
        assert running.pod("asks", ASKS_THE_API) == "200\n"
