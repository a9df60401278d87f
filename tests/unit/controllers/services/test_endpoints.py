from typing import Any

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.controllers.services.endpoints import EndpointsController
from kubecore.controllers.services.endpointslice import EndpointSliceController
from kubecore.controllers.services.slice_writes import SLICES
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, names


def service(name: str = "web", **spec: Any) -> Object:
    base = {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"]}
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {"metadata": {"name": name, "labels": {"tier": "front"}}, "spec": {"ports": ports, **base, **spec}}


def pod(name: str, ip: str, *, ready: bool = True, deleting: bool = False, **spec: Any) -> Object:
    metadata: Object = {"name": name, "labels": {"app": "web"}, "uid": f"uid-{name}"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
    containers = [{"name": "c", "ports": [{"name": "web", "containerPort": 9000}]}]
    return {"metadata": metadata, "spec": {"nodeName": "n1", "containers": containers, **spec}, "status": status}


async def start(running: Running) -> None:
    if running.api.get("nodes", "n1") is None:
        running.api.add("nodes", {"metadata": {"name": "n1"}, "spec": {}})
    await running.start(EndpointSliceController(running.context), EndpointsController(running.context))


def only_slice(api: FakeAPI) -> Object:
    (found,) = api.all(SLICES)
    return found


async def test_a_slice_tells_address_state_and_owner(api: FakeAPI, running: Running) -> None:
    owner = api.add("services", service())
    api.add("nodes", {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}, "spec": {}})
    api.add("pods", pod("a", "10.0.0.1"))
    await start(running)
    one = only_slice(api)
    assert one["metadata"]["name"].startswith("web-")
    assert one["metadata"]["labels"] == {
        "tier": "front",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert one["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    assert (one["addressType"], one["ports"]) == ("IPv4", [{"name": "http", "port": 8080, "protocol": "TCP"}])
    assert one["endpoints"] == [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a"},
            "nodeName": "n1",
            "zone": "z1",
        }
    ]


@pytest.mark.parametrize(
    ("distribution", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "z1"}]}),
        ("PreferSameZone", {"forZones": [{"name": "z1"}]}),
        ("PreferSameNode", {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}),
    ],
)
async def test_ready_endpoints_are_meant_for_whom_the_traffic_distribution_says(
    api: FakeAPI, running: Running, distribution: str | None, hints: Object | None
) -> None:
    api.add("nodes", {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}, "spec": {}})
    api.add("services", service(**({"trafficDistribution": distribution} if distribution else {})))
    api.add("pods", pod("a", "10.0.0.1"))
    api.add("pods", pod("b", "10.0.0.2", ready=False))
    await start(running)
    found = {one["addresses"][0]: one.get("hints") for one in only_slice(api)["endpoints"]}
    assert found == {"10.0.0.1": hints, "10.0.0.2": None}


async def test_a_pod_on_its_way_out_may_still_serve_but_is_not_ready(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1", deleting=True))
    await start(running)
    assert only_slice(api)["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert api.get("endpoints", "web")["subsets"] == []  # type: ignore[index]


async def test_changes_of_readiness_are_followed_in_the_same_slice(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1", ready=False))
    await start(running)
    before = only_slice(api)
    assert before["endpoints"][0]["conditions"]["ready"] is False
    api.change("pods", "a", status={"conditions": [{"type": "Ready", "status": "True"}]})
    await running.settle()
    after = only_slice(api)
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert after["endpoints"][0]["conditions"]["ready"] is True


async def test_not_ready_addresses_are_published_where_asked(api: FakeAPI, running: Running) -> None:
    api.add("services", service(publishNotReadyAddresses=True))
    api.add("pods", pod("a", "10.0.0.1", ready=False))
    await start(running)
    assert only_slice(api)["endpoints"][0]["conditions"] == {"ready": True, "serving": False, "terminating": False}


async def test_a_named_target_port_may_differ_between_pods(api: FakeAPI, running: Running) -> None:
    api.add("services", service(ports=[{"name": "http", "port": 80, "targetPort": "web"}]))
    other = [{"name": "c", "ports": [{"name": "web", "containerPort": 9001}]}]
    api.add("pods", pod("a", "10.0.0.1"))
    api.add("pods", pod("b", "10.0.0.2", containers=other))
    await start(running)
    found = {one["ports"][0]["port"]: one["endpoints"][0]["addresses"] for one in api.all(SLICES)}
    assert found == {9000: ["10.0.0.1"], 9001: ["10.0.0.2"]}
    subsets = api.get("endpoints", "web")["subsets"]  # type: ignore[index]
    assert [(one["ports"][0]["port"], one["addresses"][0]["ip"]) for one in subsets] == [
        (9000, "10.0.0.1"),
        (9001, "10.0.0.2"),
    ]


async def test_a_headless_service_is_labelled_and_gives_its_pods_their_names(api: FakeAPI, running: Running) -> None:
    api.add("services", service(clusterIP="None", ports=[]))
    api.add("pods", pod("a", "10.0.0.1", hostname="first", subdomain="web"))
    await start(running)
    one = only_slice(api)
    assert one["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert (one["ports"], one["endpoints"][0]["hostname"]) == (None, "first")
    (subset,) = api.get("endpoints", "web")["subsets"]  # type: ignore[index]
    assert subset["addresses"][0]["hostname"] == "first"


async def test_a_service_without_pods_gets_an_empty_slice(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    await start(running)
    assert (only_slice(api)["endpoints"], only_slice(api)["ports"]) == (None, None)
    api.add("pods", pod("a", "10.0.0.1"))
    await running.settle()
    assert len(only_slice(api)["endpoints"]) == 1


async def test_a_service_without_selector_is_left_to_its_user(api: FakeAPI, running: Running) -> None:
    api.add("services", service(selector=None))
    api.add("services", service("out", type="ExternalName", externalName="example.org"))
    await start(running)
    assert api.all(SLICES) == [] and api.all("endpoints") == []


async def test_a_service_that_gets_a_selector_gets_the_pods_that_are_there(api: FakeAPI, running: Running) -> None:
    made = service()
    selector = made["spec"].pop("selector")
    api.add("services", made)
    api.add("pods", pod("a", "10.0.0.1"))
    await start(running)
    assert api.all(SLICES) == []
    api.change("services", "web", spec={"selector": selector})
    await running.settle()
    api.change("pods", "a", status={"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]})
    await running.settle()
    assert [one["addresses"] for one in only_slice(api)["endpoints"]] == [["10.0.0.2"]]


async def test_a_slice_holds_a_hundred_endpoints(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    for index in range(150):
        api.add("pods", pod(f"p{index}", f"10.0.1.{index}"))
    await start(running)
    assert sorted(len(one["endpoints"]) for one in api.all(SLICES)) == [50, 100]
    api.remove("pods", "p7")
    await running.settle()
    assert sum(len(one["endpoints"]) for one in api.all(SLICES)) == 149
    assert len(api.writes(f"update {SLICES}")) == 1, "the other slice has not changed"


async def test_slices_of_an_earlier_service_of_the_name_are_not_carried_on(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1"))
    await start(running)
    first = only_slice(api)
    api.remove("services", "web")
    later = api.add("services", service())
    await running.settle()
    one = only_slice(api)
    assert one["metadata"]["uid"] != first["metadata"]["uid"]
    assert [owner["uid"] for owner in one["metadata"]["ownerReferences"]] == [later["metadata"]["uid"]]


async def test_a_slice_whose_ports_change_stays_the_same_slice(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1"))
    await start(running)
    name = only_slice(api)["metadata"]["name"]
    api.change("services", "web", spec={"ports": [{"name": "http", "port": 80, "targetPort": 9090}]})
    await running.settle()
    one = only_slice(api)
    assert (one["metadata"]["name"], one["ports"][0]["port"]) == (name, 9090)
    api.remove("pods", "a")
    await running.settle()
    one = only_slice(api)
    assert (one["metadata"]["name"], one["endpoints"], one["ports"]) == (name, None, None), "as upstream's"
    api.add("pods", pod("b", "10.0.0.2"))
    await running.settle()
    assert only_slice(api)["metadata"]["name"] == name
    assert len(api.writes(f"create {SLICES}")) == 1 and api.writes(f"delete {SLICES}") == []


async def test_a_pod_of_a_node_that_is_gone_is_no_endpoint(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1"))
    api.add("pods", pod("lost", "10.0.0.2", nodeName="gone"))
    api.add("services", service("published", publishNotReadyAddresses=True))
    await start(running)
    told = {one["metadata"]["labels"]["kubernetes.io/service-name"]: one["endpoints"] for one in api.all(SLICES)}
    assert [one["targetRef"]["name"] for one in told["web"]] == ["a"]
    assert sorted(one["targetRef"]["name"] for one in told["published"]) == ["a", "lost"]
    api.add("nodes", {"metadata": {"name": "gone"}, "spec": {}})
    await running.clock.advance(5)
    told = {one["metadata"]["labels"]["kubernetes.io/service-name"]: one["endpoints"] for one in api.all(SLICES)}
    assert sorted(one["targetRef"]["name"] for one in told["web"]) == ["a", "lost"]


async def test_endpoints_group_ready_and_not_ready_addresses(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1"))
    api.add("pods", pod("b", "10.0.0.2", ready=False))
    await start(running)
    (subset,) = api.get("endpoints", "web")["subsets"]  # type: ignore[index]
    assert [one["ip"] for one in subset["addresses"]] == ["10.0.0.1"]
    assert [one["ip"] for one in subset["notReadyAddresses"]] == ["10.0.0.2"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert subset["addresses"][0]["nodeName"] == "n1"


async def test_endpoints_go_with_their_service(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    await start(running)
    assert names(api.all("endpoints")) == ["web"]
    api.remove("services", "web")
    await running.settle()
    assert api.all("endpoints") == []


def own_endpoints(name: str, **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}


async def test_endpoints_that_people_made_go_with_their_service(api: FakeAPI, running: Running) -> None:
    made = service()
    made["spec"].pop("selector")
    api.add("services", made)
    api.add("endpoints", own_endpoints("web"))
    await start(running)
    assert names(api.all("endpoints")) == ["web"]
    api.remove("services", "web")
    await running.settle()
    assert api.all("endpoints") == []


async def test_endpoints_whose_service_went_while_nobody_looked_are_found_at_the_start(
    api: FakeAPI, running: Running
) -> None:
    api.add("endpoints", own_endpoints("left"))
    api.add("endpoints", own_endpoints("lock", annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}))
    await start(running)
    assert names(api.all("endpoints")) == ["lock"]


async def test_what_others_change_is_put_right(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1"))
    await start(running)
    name = only_slice(api)["metadata"]["name"]
    api.change(SLICES, name, endpoints=[])
    await running.settle()
    assert len(only_slice(api)["endpoints"]) == 1
    api.remove(SLICES, name)
    await running.settle()
    assert len(only_slice(api)["endpoints"]) == 1


def dual_pod(name: str, *ips: str) -> Object:
    made = pod(name, ips[0])
    made["status"]["podIPs"] = [{"ip": ip} for ip in ips]
    return made


async def test_a_service_of_both_families_has_a_slice_of_each_and_endpoints_of_its_first(
    api: FakeAPI, running: Running
) -> None:
    api.add("services", service(ipFamilies=["IPv6", "IPv4"], clusterIP="fd00::9"))
    api.add("pods", dual_pod("a", "10.0.0.1", "fd44::1"))
    api.add("pods", dual_pod("b", "10.0.0.2"))
    await start(running)
    found = {one["addressType"]: sorted(e["addresses"][0] for e in one["endpoints"]) for one in api.all(SLICES)}
    assert found == {"IPv4": ["10.0.0.1", "10.0.0.2"], "IPv6": ["fd44::1"]}
    (subset,) = api.get("endpoints", "web")["subsets"]  # type: ignore[index]
    assert [one["ip"] for one in subset["addresses"]] == ["fd44::1"]


async def test_a_family_that_a_service_gives_up_loses_its_slices(api: FakeAPI, running: Running) -> None:
    api.add("services", service(ipFamilies=["IPv4", "IPv6"]))
    api.add("pods", dual_pod("a", "10.0.0.1", "fd44::1"))
    await start(running)
    api.change("services", "web", spec={"ipFamilies": ["IPv4"]})
    await running.settle()
    assert only_slice(api)["addressType"] == "IPv4"


async def test_endpoints_that_cannot_be_written_are_told_of(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", pod("a", "10.0.0.1"))
    api.react("create endpoints", errors.forbidden("", "endpoints", "web", "no"))
    await running.start(EndpointsController(running.context))
    refused = 'endpoints "web" is forbidden: no'
    assert events(api, "FailedToCreateEndpoint") == [f"Failed to create endpoint for service default/web: {refused}"]
    await running.settle()
    assert api.get("endpoints", "web") is not None
    api.react("update endpoints", errors.forbidden("", "endpoints", "web", "no"))
    api.add("pods", pod("b", "10.0.0.2"))
    await running.settle()
    assert events(api, "FailedToUpdateEndpoint") == [f"Failed to update endpoint default/web: {refused}"]


async def test_endpoints_made_a_moment_ago_are_not_made_again(api: FakeAPI, running: Running) -> None:
    controller = EndpointsController(running.context)
    api.add("services", service())
    await running.start()
    await controller.sync("default/web")
    # the cache has not been told of them yet
    await controller.sync("default/web")
    await running.settle()
    assert len(api.writes("create endpoints")) == 1 and not api.all("events")


def lose_what_is_made_first(api: FakeAPI, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first Endpoints that are made are gone, and the cache has been told so, before the answer comes."""
    client = running.context.client
    create = client.create

    async def late(resource: str, obj: Object) -> Object:
        monkeypatch.undo()
        made = await create(resource, obj)
        api.remove(resource, obj["metadata"]["name"])
        await running.clock.sleep(0.1)
        return made

    monkeypatch.setattr(client, "create", late)


async def test_endpoints_that_were_gone_before_they_were_seen_are_made_again(
    api: FakeAPI, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_what_is_made_first(api, running, monkeypatch)
    api.add("services", service())
    await running.start(EndpointsController(running.context))
    await running.clock.advance(20)
    # the cache may merely be behind
    assert api.get("endpoints", "web") is None
    await running.clock.advance(20)
    assert api.get("endpoints", "web") is not None
    await running.clock.advance(60)
    assert len(api.writes("create endpoints")) == 2 and not api.all("events")


async def test_endpoints_that_are_not_there_to_be_deleted_are_no_longer_thought_of(
    api: FakeAPI, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_what_is_made_first(api, running, monkeypatch)
    api.add("services", service())
    await running.start(EndpointsController(running.context))
    api.remove("services", "web")
    await running.settle()
    assert len(api.writes("delete endpoints")) == 1
    api.add("services", service())
    await running.settle()
    assert api.get("endpoints", "web") is not None


# --- The time that consumers measure their delay by


def ready_since(name: str, ip: str, since: str) -> Object:
    made = pod(name, ip)
    made["status"]["conditions"][0]["lastTransitionTime"] = since
    return made


def times(api: FakeAPI) -> set[str | None]:
    annotation = "endpoints.kubernetes.io/last-change-trigger-time"
    return {one["metadata"].get("annotations", {}).get(annotation) for one in (*api.all(SLICES), *api.all("endpoints"))}


async def test_a_new_service_has_its_own_time(api: FakeAPI, running: Running) -> None:
    made = api.add("services", service())
    await start(running)
    assert times(api) == {made["metadata"]["creationTimestamp"]}


async def test_a_pod_that_got_ready_has_the_time_it_did(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", ready_since("a", "10.0.0.1", "2026-01-01T00:00:05Z"))
    await start(running)
    api.add("pods", ready_since("b", "10.0.0.2", "2026-01-01T00:00:09Z"))
    api.add("pods", ready_since("c", "10.0.0.3", "2026-01-01T00:00:07Z"))
    await running.settle()
    assert times(api) == {"2026-01-01T00:00:07Z"}


async def test_a_pod_that_goes_takes_the_time_with_it(api: FakeAPI, running: Running) -> None:
    api.add("services", service())
    api.add("pods", ready_since("a", "10.0.0.1", "2026-01-01T00:00:05Z"))
    await start(running)
    api.remove("pods", "a")
    await running.settle()
    assert times(api) == {None}
