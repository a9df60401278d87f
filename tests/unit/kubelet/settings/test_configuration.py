"""What containers are told: variables, expansion, fields, names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.networks.network import Mode
from kubecore.kubelet.pods.environment import ConfigError, Surroundings, container_environment
from kubecore.kubelet.pods.expansion import expand
from kubecore.kubelet.pods.fields import NodeFacts, field_value
from kubecore.kubelet.pods.name_files import LongName, Naming, hosts_file, kernel_hostname, resolv_conf, service_names

Object = dict[str, Any]

POD: Object = {
    "metadata": {"name": "pod", "namespace": "shop", "uid": "u1", "labels": {"tier": "web"}},
    "spec": {"containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}]},
}
SERVICE: Object = {
    "metadata": {"name": "my-db", "namespace": "shop"},
    "spec": {"clusterIP": "10.96.1.2", "ports": [{"name": "sql", "port": 5432}]},
}


def environment(
    env: list[Object], *, env_from: list[Object] | None = None, held: dict[str, Object] | None = None
) -> Any:
    around = Surroundings(
        NodeFacts("node", ("10.244.0.1",), {"cpu": "2"}),
        ("10.244.0.5",),
        lambda resource, namespace, name: (held or {}).get(name),
        (SERVICE,),
    )
    return container_environment(POD, {"name": "main", "env": env, "envFrom": env_from or []}, around)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$A $(", "$A $("), ("$(A)$(A)", "11")],
)
def test_references_are_expanded_and_unknown_ones_stay(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_a_variable_may_refer_to_those_before_it_and_to_services() -> None:
    found = environment([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)/$(MY_DB_SERVICE_HOST)/$(C)"}])
    assert found["B"] == "1/10.96.1.2/$(C)"


def test_services_are_told_in_the_words_of_docker_links() -> None:
    found = environment([])
    assert found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT_5432_TCP"] == "tcp://10.96.1.2:5432"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"fieldRef": {"fieldPath": "metadata.labels['tier']"}}, "web"),
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "10.244.0.5"),
        ({"fieldRef": {"fieldPath": "spec.nodeName"}}, "node"),
        ({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}, "64"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "2"),
    ],
)
def test_fields_of_the_pod_become_variables(source: Object, expected: str) -> None:
    assert environment([{"name": "A", "valueFrom": source}])["A"] == expected


def test_a_missing_key_is_named_unless_it_is_optional() -> None:
    held = {"settings": {"kind": "ConfigMap", "data": {}}}
    reference = {"name": "settings", "key": "a"}
    with pytest.raises(ConfigError, match="couldn't find key a in ConfigMap shop/settings"):
        environment([{"name": "A", "valueFrom": {"configMapKeyRef": reference}}], held=held)
    optional = {"configMapKeyRef": {**reference, "optional": True}}
    assert "A" not in environment([{"name": "A", "valueFrom": optional}], held=held)


def test_own_variables_win_over_whole_config_maps_which_take_a_prefix() -> None:
    held = {"settings": {"kind": "ConfigMap", "data": {"A": "map", "B": "map"}}}
    sources = [{"configMapRef": {"name": "settings"}}, {"prefix": "P_", "configMapRef": {"name": "settings"}}]
    found = environment([{"name": "A", "value": "own"}], env_from=sources, held=held)
    assert (found["A"], found["B"], found["P_A"]) == ("own", "map", "map")


class TestResolvConf:
    CLUSTER = "search shop.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.96.0.10\n"
    HOST = "search example.com\nnameserver 192.0.2.53\n"

    @pytest.fixture
    def naming(self, tmp_path: Path) -> Naming:
        (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example.com\n")
        return Naming("cluster.local", ("10.96.0.10",), tmp_path / "resolv.conf")

    def told(self, naming: Naming, **spec: Any) -> tuple[str, tuple[str, ...]]:
        return resolv_conf({**POD, "spec": {**POD["spec"], **spec}}, naming)

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ({}, CLUSTER + "options ndots:5\n"),
            ({"dnsPolicy": "ClusterFirst"}, CLUSTER + "options ndots:5\n"),
            ({"dnsPolicy": "Default"}, HOST),
            ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, HOST),
            ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER + "options ndots:5\n"),
        ],
    )
    def test_leads_where_the_policy_says(self, naming: Naming, spec: Object, text: str) -> None:
        assert self.told(naming, **spec) == (text, ())

    @pytest.mark.parametrize(
        ("network", "spec", "servers"),
        [
            ("rootless", {"dnsPolicy": "Default"}, ["10.96.0.10", "192.0.2.1"]),
            ("rootless", {"hostNetwork": True}, ["10.96.0.10", "192.0.2.1"]),
            ("netns", {"dnsPolicy": "Default"}, ["10.96.0.10", "192.0.2.1"]),
            ("netns", {"hostNetwork": True}, ["127.0.0.53", "192.0.2.1"]),
            ("loopback", {"dnsPolicy": "Default"}, ["127.0.0.53", "192.0.2.1"]),
        ],
    )
    def test_names_no_server_on_the_hosts_loopback_to_pods_that_do_not_reach_it(
        self, naming: Naming, network: Mode, spec: Object, servers: list[str]
    ) -> None:
        naming.host_resolv_conf.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")
        text, _ = self.told(replace(naming, network=network), **spec)
        assert text == "".join(f"nameserver {one}\n" for one in servers)

    def test_of_policy_none_has_what_the_pod_says_alone(self, naming: Naming) -> None:
        options = [{"name": "ndots", "value": "2"}, {"name": "edns0"}, {"name": "rotate", "value": ""}]
        config = {"nameservers": ["192.0.2.1"], "searches": ["a.test"], "options": options}
        text = "search a.test\nnameserver 192.0.2.1\noptions ndots:2 edns0 rotate\n"
        assert self.told(naming, dnsPolicy="None", dnsConfig=config) == (text, ())

    def test_has_what_the_pod_says_behind_the_clusters_own_and_each_once(self, naming: Naming) -> None:
        config = {
            "nameservers": ["10.96.0.10", "192.0.2.1"],
            "searches": ["a.test", "example.com"],
            "options": [{"name": "ndots", "value": "2"}],
        }
        text = self.CLUSTER.replace("com", "com a.test") + "nameserver 192.0.2.1\noptions ndots:2\n"
        assert self.told(naming, dnsConfig=config) == (text, ())

    def test_has_three_name_servers_at_most(self, naming: Naming) -> None:
        text, left_out = self.told(naming, dnsConfig={"nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"]})
        assert text.count("nameserver ") == 3
        assert left_out == (
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            "the applied nameserver line is: 10.96.0.10 192.0.2.1 192.0.2.2",
        )

    @pytest.mark.parametrize(
        ("searches", "kept"),
        [
            ([f"s{number}.test" for number in range(40)], 32 - 4),
            (["x" * 254, "a.test"], 1),
            ([f"{'x' * 196}{number:02d}" for number in range(20)], 9),
        ],
    )
    def test_has_no_more_search_paths_than_resolvers_take(self, naming: Naming, searches: list[str], kept: int) -> None:
        text, (left_out,) = self.told(naming, dnsConfig={"searches": searches})
        line = text.splitlines()[0].removeprefix("search ")
        assert len(line.split()) == 4 + kept and len(line) <= 2048
        assert left_out == (
            f"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}"
        )


def test_without_cluster_dns_services_are_named_in_the_hosts_file() -> None:
    named = service_names("shop", [SERVICE], [], "cluster.local")
    assert named == {"10.96.1.2": ["my-db", "my-db.shop", "my-db.shop.svc", "my-db.shop.svc.cluster.local"]}
    assert service_names("other", [SERVICE], [], "cluster.local")["10.96.1.2"][0] == "my-db.shop"
    assert "10.96.1.2\tmy-db\tmy-db.shop\t" in hosts_file(POD, ["127.64.0.2"], Naming("cluster.local", ()), named)


def test_a_pod_of_two_addresses_has_a_line_for_each() -> None:
    text = hosts_file(POD, ["10.244.0.2", "fd00::2"], Naming("cluster.local", ("10.96.0.10",)), {})
    name = POD["metadata"]["name"]
    assert text.splitlines()[-2:] == [f"10.244.0.2\t{name}", f"fd00::2\t{name}"]


def test_both_addresses_of_a_service_are_named() -> None:
    both = {**SERVICE, "spec": {**SERVICE["spec"], "clusterIPs": ["10.96.1.2", "fd00:96::2"]}}
    named = service_names("shop", [both], [], "cluster.local")
    assert named["10.96.1.2"] == named["fd00:96::2"]


def test_the_downward_api_tells_all_addresses() -> None:
    node = NodeFacts("node", ("10.244.0.1", "fd00::1"), {})
    told = {
        path: field_value(POD, path, node=node, pod_ips=("10.244.0.2", "fd00::2"))
        for path in ("status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs")
    }
    assert told == {
        "status.podIP": "10.244.0.2",
        "status.podIPs": "10.244.0.2,fd00::2",
        "status.hostIP": "10.244.0.1",
        "status.hostIPs": "10.244.0.1,fd00::1",
    }


# --- the pod's own name


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({}, "pod"),
        ({"hostname": "web"}, "web"),
        ({"hostname": "web", "subdomain": "front"}, "web"),
        ({"subdomain": "front", "setHostnameAsFQDN": True}, "pod.front.shop.svc.cluster.local"),
        ({"subdomain": "front", "setHostnameAsFQDN": True, "hostnameOverride": "own.example"}, "own.example"),
    ],
)
def test_the_kernels_host_name_is_short_unless_the_pod_wants_all_of_it(spec: Object, name: str) -> None:
    assert kernel_hostname({**POD, "spec": spec}, "cluster.local") == name


def test_a_full_name_that_is_too_long_for_a_kernel_is_told() -> None:
    spec = {"hostname": "a" * 40, "subdomain": "b" * 10, "setHostnameAsFQDN": True}
    with pytest.raises(LongName, match=r"is too long \(64 characters is the max, 74 characters requested\)"):
        kernel_hostname({**POD, "spec": spec}, "cluster.local")


def test_a_pod_on_the_hosts_network_has_the_hosts_names_and_its_own_aliases(tmp_path: Path) -> None:
    own = tmp_path / "hosts"
    own.write_text("127.0.0.1 localhost\n192.0.2.7 printer\n")
    spec = {"hostNetwork": True, "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["one"]}]}
    text = hosts_file({**POD, "spec": spec}, ("192.0.2.1",), Naming("cluster.local", (), host_hosts=own), {})
    assert text == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n192.0.2.7 printer\n"
        "\n# Entries added by HostAliases.\n10.0.0.9\tone\n"
    )


def test_aliases_are_added_to_the_hosts_file() -> None:
    spec = {"hostAliases": [{"ip": "10.0.0.9", "hostnames": ["one", "two.example"]}], "subdomain": "front"}
    text = hosts_file({**POD, "spec": spec}, ("10.244.0.5",), Naming("cluster.local", ()), {})
    assert "10.244.0.5\tpod.front.shop.svc.cluster.local\tpod" in text
    assert text.endswith("# Entries added by HostAliases.\n10.0.0.9\tone\ttwo.example\n")
