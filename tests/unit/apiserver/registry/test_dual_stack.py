"""Services of two families: which addresses they get, and how a second one comes and goes."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api.errors import StatusError
from kubecore.apiserver.registry.resources import Strategies
from tests.unit.apiserver.registry.writing import Writer, changed

JSON = dict[str, Any]
BOTH, V4, V6 = "10.0.0.0/24,fd00::/120", "10.0.0.0/24", "fd00::/120"


def writer(ranges: str = BOTH) -> Writer:
    return Writer("services", strategies=Strategies(service_cidr=ranges))


def service(**spec: Any) -> JSON:
    return {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec}}


def families(ips: list[str]) -> list[str]:
    return ["IPv6" if ":" in ip else "IPv4" for ip in ips]


class TestCreation:
    @pytest.mark.parametrize(
        ("ranges", "asked", "expected"),
        [
            (BOTH, {}, ("SingleStack", ["IPv4"])),
            ("fd00::/120,10.0.0.0/24", {}, ("SingleStack", ["IPv6"])),
            (V6, {}, ("SingleStack", ["IPv6"])),
            (BOTH, {"ipFamilies": ["IPv6"]}, ("SingleStack", ["IPv6"])),
            (BOTH, {"ipFamilyPolicy": "PreferDualStack"}, ("PreferDualStack", ["IPv4", "IPv6"])),
            (V4, {"ipFamilyPolicy": "PreferDualStack"}, ("PreferDualStack", ["IPv4"])),
            (BOTH, {"ipFamilyPolicy": "RequireDualStack"}, ("RequireDualStack", ["IPv4", "IPv6"])),
            (
                BOTH,
                {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
                ("RequireDualStack", ["IPv6", "IPv4"]),
            ),
            (BOTH, {"clusterIP": "fd00::5", "clusterIPs": ["fd00::5"]}, ("SingleStack", ["IPv6"])),
            (BOTH, {"clusterIP": "fd00::5"}, ("SingleStack", ["IPv6"])),
        ],
    )
    def test_a_service_gets_an_address_of_each_of_its_families(
        self, ranges: str, asked: JSON, expected: tuple[str, list[str]]
    ) -> None:
        spec = writer(ranges).create(service(**asked))["spec"]
        assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == expected
        assert families(spec["clusterIPs"]) == expected[1]
        assert spec["clusterIP"] == spec["clusterIPs"][0]

    def test_an_address_that_is_asked_for_is_given_beside_one_that_is_picked(self) -> None:
        asked = service(ipFamilyPolicy="RequireDualStack", clusterIP="fd00::5", clusterIPs=["fd00::5"])
        spec = writer().create(asked)["spec"]
        assert spec["ipFamilies"] == ["IPv6", "IPv4"]
        assert spec["clusterIPs"][0] == "fd00::5" and spec["clusterIPs"][1].startswith("10.0.0.")

    @pytest.mark.parametrize("policy", ["PreferDualStack", "RequireDualStack"])
    def test_a_headless_service_names_its_families_and_has_no_address(self, policy: str) -> None:
        spec = writer().create(service(clusterIP="None", ipFamilyPolicy=policy))["spec"]
        assert (spec["clusterIPs"], spec["ipFamilies"]) == (["None"], ["IPv4", "IPv6"])

    def test_a_headless_service_without_selector_starts_with_the_clusters_own_family(self) -> None:
        spec = writer(V6).create(service(clusterIP="None", selector=None))["spec"]
        assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv6", "IPv4"], "RequireDualStack")

    @pytest.mark.parametrize(
        ("ranges", "asked", "problem"),
        [
            (
                V6,
                {"ipFamilyPolicy": "RequireDualStack"},
                'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for '
                "dual-stack services",
            ),
            (V6, {"ipFamilies": ["IPv4"]}, 'spec.ipFamilies[0]: Invalid value: "IPv4": not configured on this cluster'),
            (
                V6,
                {"clusterIP": "10.0.0.5"},
                'spec.clusterIPs[0]: Invalid value: ["10.0.0.5"]: IPv4 is not configured on this cluster',
            ),
            (
                BOTH,
                {"ipFamilies": ["IPv4", "IPv6"]},
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or "
                "'PreferDualStack' when multiple IP families are specified",
            ),
        ],
    )
    def test_what_the_cluster_does_not_have_is_refused(self, ranges: str, asked: JSON, problem: str) -> None:
        assert writer(ranges).problems(service(**asked)) == [problem]

    def test_a_second_address_that_is_taken_costs_no_first_one(self) -> None:
        services = writer("10.0.0.0/30,fd00::/120")
        services.create(service(clusterIP="fd00::5"))
        both = ["10.0.0.1", "fd00::5"]
        with pytest.raises(StatusError, match="failed to allocate IP fd00::5: provided IP is already allocated"):
            services.create(service(ipFamilyPolicy="RequireDualStack", clusterIP=both[0], clusterIPs=both))
        assert services.create(service(clusterIP="10.0.0.1"))["spec"]["clusterIPs"] == ["10.0.0.1"]


class TestChange:
    def test_a_policy_that_wants_both_brings_a_second_address(self) -> None:
        services = writer()
        old = services.create(service())
        spec = services.update(old, changed(old, "spec.ipFamilyPolicy", "RequireDualStack"))["spec"]
        assert spec["clusterIPs"][0] == old["spec"]["clusterIP"] == spec["clusterIP"]
        assert families(spec["clusterIPs"]) == spec["ipFamilies"] == ["IPv4", "IPv6"]

    def test_a_second_address_may_be_named(self) -> None:
        services = writer()
        old = services.create(service())
        new = changed(old, "spec.ipFamilyPolicy", "PreferDualStack")
        new = changed(new, "spec.clusterIPs", [old["spec"]["clusterIP"], "fd00::7"])
        assert services.update(old, new)["spec"]["clusterIPs"] == [old["spec"]["clusterIP"], "fd00::7"]

    def test_single_stack_gives_the_second_address_back(self) -> None:
        services = writer()
        old = services.create(service(ipFamilyPolicy="RequireDualStack"))
        new = services.update(old, changed(old, "spec.ipFamilyPolicy", "SingleStack"))
        assert (new["spec"]["clusterIPs"], new["spec"]["ipFamilies"]) == ([old["spec"]["clusterIP"]], ["IPv4"])
        again = services.create(service(clusterIP=old["spec"]["clusterIPs"][1]))
        assert again["spec"]["clusterIPs"] == old["spec"]["clusterIPs"][1:]

    def test_a_change_that_is_refused_gives_nothing_back(self) -> None:
        services = writer()
        old = services.create(service(ipFamilyPolicy="RequireDualStack"))
        new = changed(changed(old, "spec.ipFamilyPolicy", "SingleStack"), "spec.ports.0.port", 0)
        assert services.update_problems(old, new)
        problems = services.problems(service(clusterIP=old["spec"]["clusterIPs"][1]))
        assert len(problems) == 1 and "provided IP is already allocated" in problems[0]

    def test_a_second_address_does_not_go_without_the_policy(self) -> None:
        services = writer()
        old = services.create(service(ipFamilyPolicy="RequireDualStack"))
        problems = services.update_problems(old, changed(old, "spec.clusterIPs", [old["spec"]["clusterIP"]]))
        assert problems == [
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary "
            "cluster IP"
        ]

    def test_the_first_family_stays(self) -> None:
        services = writer()
        old = services.create(service(ipFamilyPolicy="RequireDualStack"))
        new = changed(old, "spec.ipFamilies", ["IPv6", "IPv4"])
        assert services.update_problems(old, new)

    def test_a_service_that_prefers_both_is_left_alone_when_the_cluster_gets_a_second_family(self) -> None:
        old = writer(V4).create(service(ipFamilyPolicy="PreferDualStack"))
        new = writer().update(old, changed(old, "metadata.labels", {"a": "b"}))
        assert new["spec"]["clusterIPs"] == old["spec"]["clusterIPs"]

    def test_an_external_name_that_gets_a_selector_gets_both_addresses(self) -> None:
        services = writer()
        old = services.create(service(type="ExternalName", externalName="example.com", ports=[]))
        new = service(ipFamilyPolicy="PreferDualStack")
        new["metadata"] = old["metadata"]
        assert families(services.update(old, new)["spec"]["clusterIPs"]) == ["IPv4", "IPv6"]

    def test_an_external_name_gives_both_addresses_back(self) -> None:
        services = writer()
        old = services.create(service(ipFamilyPolicy="RequireDualStack"))
        new = changed(changed(old, "spec.type", "ExternalName"), "spec.externalName", "example.com")
        assert "clusterIPs" not in services.update(old, new)["spec"]
        for address in old["spec"]["clusterIPs"]:
            assert services.create(service(clusterIP=address))["spec"]["clusterIPs"] == [address]


def test_each_address_has_its_ip_address() -> None:
    services = writer()
    made = services.create(service(ipFamilyPolicy="RequireDualStack"))
    companions = services.strategy.companions(made)
    assert [one.obj["metadata"]["name"] for one in companions] == made["spec"]["clusterIPs"]
    labels = [one.obj["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] for one in companions]
    assert labels == ["IPv4", "IPv6"]


def test_a_range_of_any_size_has_all_of_its_addresses() -> None:
    spec = writer("fd00::/64").create(service(clusterIP="fd00::ffff:ffff:ffff:ffff"))["spec"]
    assert spec["clusterIPs"] == ["fd00::ffff:ffff:ffff:ffff"]
    assert writer("fd00::/64").problems(service(clusterIP="fd00::"))
