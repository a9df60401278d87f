"""Services: defaults, addresses and node ports that belong to one Service at a time."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api.errors import StatusError
from kubecore.apiserver.registry.resources import Strategies
from tests.unit.apiserver.registry.writing import Writer, changed


def writer(**settings: Any) -> Writer:
    return Writer("services", strategies=Strategies(**{"service_cidr": "10.0.0.0/24", **settings}))


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec}}


def test_a_minimal_service_is_read_back_with_its_defaults() -> None:
    created = writer().create(service())
    ip = created["spec"]["clusterIP"]
    assert ip.startswith("10.0.0.")
    assert created["spec"] == {
        "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "clusterIP": ip,
        "clusterIPs": [ip],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert created["status"] == {"loadBalancer": {}}


def test_client_affinity_lasts_three_hours_by_default() -> None:
    spec = writer().create(service(sessionAffinity="ClientIP"))["spec"]
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_a_headless_service_gets_no_address() -> None:
    spec = writer().create(service(clusterIP="None"))["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilyPolicy"]) == ("None", ["None"], "SingleStack")


def test_a_headless_service_without_selector_may_have_endpoints_of_both_families() -> None:
    spec = writer().create(service(clusterIP="None", selector=None))["spec"]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4", "IPv6"], "RequireDualStack")


def test_an_external_name_gets_nothing() -> None:
    spec = writer().create(service(type="ExternalName", externalName="example.com", ports=[]))["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"} & spec.keys()


def test_a_node_port_is_picked_from_the_range() -> None:
    created = writer().create(service(type="NodePort"))
    assert 30000 <= created["spec"]["ports"][0]["nodePort"] <= 32767
    assert created["spec"]["externalTrafficPolicy"] == "Cluster"


def test_tcp_and_udp_of_one_port_share_their_node_port() -> None:
    ports = [{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}]
    first, second = writer().create(service(type="NodePort", ports=ports))["spec"]["ports"]
    assert first["nodePort"] == second["nodePort"]


def test_a_certain_address_is_had_once() -> None:
    services = writer()
    assert services.create(service(clusterIP="10.0.0.7"))["spec"]["clusterIPs"] == ["10.0.0.7"]
    assert services.problems(service("other", clusterIP="10.0.0.7")) == [
        'spec.clusterIPs: Invalid value: ["10.0.0.7"]: failed to allocate IP 10.0.0.7: provided IP is already allocated'
    ]


def test_an_address_outside_the_range_is_refused() -> None:
    (problem,) = writer().problems(service(clusterIP="192.168.0.1"))
    assert problem.endswith("failed to allocate IP 192.168.0.1: the provided network does not match the current range")


def test_a_full_range_is_an_internal_error() -> None:
    services = writer(service_cidr="10.0.0.0/30")
    services.create(service("a"))
    services.create(service("b"))
    with pytest.raises(StatusError, match="failed to allocate a serviceIP: range is full"):
        services.create(service("c"))


@pytest.mark.parametrize(
    ("port", "why"),
    [
        (30080, "provided port is already allocated"),
        (80, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
    ],
)
def test_a_node_port_must_be_free_and_in_range(port: int, why: str) -> None:
    services = writer()
    services.create(service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    found = services.problems(service("b", type="NodePort", ports=[{"port": 80, "nodePort": port}]))
    assert found == [f"spec.ports[0].nodePort: Invalid value: {port}: {why}"]


def test_a_port_of_one_protocol_may_be_had_again_for_another_protocol_of_the_service() -> None:
    services = writer()
    both = [
        {"name": "t", "port": 53, "nodePort": 30053},
        {"name": "u", "port": 53, "nodePort": 30053, "protocol": "UDP"},
    ]
    created = services.create(service("a", type="NodePort", ports=both))
    assert [port["nodePort"] for port in created["spec"]["ports"]] == [30053, 30053]
    # Of two ports that are not one it is told as taken.
    other = [{**both[0], "nodePort": 30054}, {**both[1], "port": 54, "nodePort": 30054}]
    assert services.problems(service("b", type="NodePort", ports=other)) == [
        "spec.ports[1].nodePort: Invalid value: 30054: provided port is already allocated"
    ]


def test_one_port_cannot_be_two_ports_of_one_protocol() -> None:
    services = writer()
    ports = [{"name": "a", "port": 80, "nodePort": 30080}]
    stored = services.create(service("a", type="NodePort", ports=ports))
    twice = [*stored["spec"]["ports"], {"name": "b", "port": 81, "nodePort": 30080}]
    with pytest.raises(StatusError, match=r"duplicate nodePort: \{TCP 30080\}") as refused:
        services.update(stored, changed(stored, "spec.ports", twice))
    assert refused.value.code == 500


LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}


def test_a_balanced_service_of_local_traffic_has_a_port_for_the_health_of_nodes() -> None:
    services = writer()
    stored = services.create(service("a", **LOCAL))
    health = stored["spec"]["healthCheckNodePort"]
    assert health in range(30000, 32768)
    with pytest.raises(StatusError, match=f"failed to allocate requested HealthCheck NodePort {health}") as refused:
        services.create(service("b", healthCheckNodePort=health, **LOCAL))
    assert refused.value.reason == "InternalError"
    # It is free for others when the traffic is no more kept local.
    without = changed(changed(stored, "spec.externalTrafficPolicy", "Cluster"), "spec.healthCheckNodePort", None)
    assert "healthCheckNodePort" not in services.update(stored, without)["spec"]
    services.create(service("b", healthCheckNodePort=health, **LOCAL))


def test_the_port_for_the_health_of_nodes_stays() -> None:
    services = writer()
    stored = services.create(service("a", healthCheckNodePort=30100, **LOCAL))
    kept = services.update(stored, changed(stored, "spec.healthCheckNodePort", None))
    assert kept["spec"]["healthCheckNodePort"] == 30100
    assert services.update_problems(stored, changed(stored, "spec.healthCheckNodePort", 30101)) == [
        "spec.healthCheckNodePort: Forbidden: field is immutable"
    ]


def test_what_cannot_be_had_is_told_before_what_is_wrong() -> None:
    services = writer()
    services.create(service("a", clusterIP="10.0.0.7"))
    (problem,) = services.problems(service("b", clusterIP="10.0.0.7", sessionAffinity="Odd"))
    assert "provided IP is already allocated" in problem


def test_every_address_of_a_range_has_its_ip_address() -> None:
    services = writer()
    stored = services.create(service("a", clusterIP="10.0.0.7"))
    (companion,) = services.strategy.companions(stored)
    assert companion.key == ("ipaddresses.networking.k8s.io", "", "10.0.0.7")
    assert companion.obj["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "a"}
    assert not services.strategy.companions(services.create(service("b", clusterIP="None")))


def test_what_a_failed_create_took_is_given_back() -> None:
    services = writer()
    services.create(service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    assert services.problems(
        service("b", type="NodePort", clusterIP="10.0.0.9", ports=[{"port": 80, "nodePort": 30080}])
    )
    services.create(service("c", clusterIP="10.0.0.9"))


def test_a_deleted_service_gives_back_what_it_held() -> None:
    services = writer()
    obj = service(type="NodePort", clusterIP="10.0.0.9", ports=[{"port": 80, "nodePort": 30080}])
    created = services.create(obj)
    services.strategy.after_delete(services.context("delete", "web"), created)
    services.create(obj)


def test_stored_services_hold_their_addresses_after_a_restart() -> None:
    created = writer().create(service(type="NodePort", clusterIP="10.0.0.9", ports=[{"port": 80, "nodePort": 30080}]))
    after = writer()
    after.strategy.restore([created])
    assert after.problems(service("b", clusterIP="10.0.0.9"))
    assert after.problems(service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))


def test_an_update_that_leaves_out_what_was_allocated_keeps_it() -> None:
    services = writer()
    created = services.create(service(type="NodePort"))
    updated = services.update(
        created, {"metadata": created["metadata"], **service(type="NodePort") | {}} | {"metadata": created["metadata"]}
    )
    assert updated["spec"] == created["spec"]


def test_the_cluster_ip_never_changes() -> None:
    services = writer()
    created = services.create(service(clusterIP="10.0.0.9"))
    assert services.update_problems(created, changed(created, "spec.clusterIP", "10.0.0.10")) == [
        'spec.clusterIPs[0]: Invalid value: ["10.0.0.10"]: may not change once set'
    ]


def test_an_external_name_releases_the_address_and_gets_a_new_one_on_return() -> None:
    services = writer()
    created = services.create(service(clusterIP="10.0.0.9"))
    external = changed(changed(created, "spec.type", "ExternalName"), "spec.externalName", "example.com")
    updated = services.update(created, external)
    assert "clusterIP" not in updated["spec"]
    services.create(service("other", clusterIP="10.0.0.9"))
    back = services.update(updated, changed(changed(updated, "spec.type", "ClusterIP"), "spec.externalName", None))
    assert back["spec"]["clusterIP"].startswith("10.0.0.")


def test_node_ports_come_and_go_with_the_type() -> None:
    services = writer()
    created = services.create(service())
    opened = services.update(created, changed(created, "spec.type", "NodePort"))
    port = opened["spec"]["ports"][0]["nodePort"]
    closed = services.update(opened, changed(opened, "spec.type", "ClusterIP"))
    assert "nodePort" not in closed["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in closed["spec"]
    services.create(service("other", type="NodePort", ports=[{"port": 80, "nodePort": port}]))


@pytest.mark.parametrize(
    ("obj", "problem"),
    [
        (service(name="1web"), 'metadata.name: Invalid value: "1web": a DNS-1035 label must consist of'),
        (service(ports=[]), "spec.ports: Required value"),
        (service(type="Wonderful"), 'spec.type: Unsupported value: "Wonderful": supported values: "ClusterIP"'),
        (service(ports=[{"port": 80}, {"port": 81}]), "spec.ports[0].name: Required value"),
        (service(ports=[{"port": 0}]), "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        (
            service(ports=[{"name": "a", "port": 80}, {"name": "a", "port": 81}]),
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        (service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]), "spec.ports[1]: Duplicate value: "),
        (
            service(ports=[{"port": 80, "nodePort": 30000}]),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            service(type="NodePort", clusterIP="None"),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (service(type="ExternalName", ports=[]), "spec.externalName: Required value"),
        (
            service(externalTrafficPolicy="Local"),
            'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
        ),
        (
            service(ipFamilyPolicy="RequireDualStack"),
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
            "this cluster is not configured for dual-stack services",
        ),
        (
            service(ipFamilies=["IPv6"]),
            'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (service(externalIPs=["nowhere"]), 'spec.externalIPs[0]: Invalid value: "nowhere": must be a valid IP address'),
    ],
)
def test_an_invalid_service_is_refused_in_kubernetes_words(obj: dict[str, Any], problem: str) -> None:
    found = writer().problems(obj)
    assert any(one.startswith(problem) for one in found), found
