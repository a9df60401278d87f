"""What is told of EndpointSlices, under upstream's names."""

from __future__ import annotations

from kubecore.api import errors
from kubecore.controllers.base import Controller
from kubecore.controllers.services.endpointslice import EndpointSliceController
from kubecore.controllers.services.endpointslice_mirroring import EndpointSliceMirroringController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running
from tests.unit.controllers.services import test_endpointslice_mirroring as mirrored
from tests.unit.controllers.services.test_endpoints import pod, service

OF_SERVICES, OF_MIRRORS = "endpoint_slice_controller_", "endpoint_slice_mirroring_controller_"


def told(controller: Controller, prefix: str) -> dict[str, str]:
    """Values by name and labels, without the buckets of histograms."""
    lines = [line for metric in controller.metrics for line in metric.lines() if line.startswith(prefix)]
    found = dict(line.removeprefix(prefix).rsplit(" ", 1) for line in lines)  # type: ignore[misc]
    return {name: value for name, value in found.items() if "_bucket{" not in name}


async def test_endpoints_and_slices_are_told_as_there_are_and_as_they_change(api: FakeAPI, running: Running) -> None:
    controller = EndpointSliceController(running.context)
    api.add("nodes", {"metadata": {"name": "n1"}, "spec": {}})
    api.add("services", service(trafficDistribution="PreferClose"))
    api.add("services", service("empty", selector={"app": "none"}))
    for number in range(101):
        api.add("pods", pod(f"p{number}", f"10.0.1.{number}"))
    await running.start(controller)
    found = told(controller, OF_SERVICES)
    assert found["endpoints_desired"] == "101"
    # two for the one, and one that is empty
    assert (found["num_endpoint_slices"], found["desired_endpoint_slices"]) == ("3", "3")
    assert found['changes{operation="create"}'] == "3"
    assert (found["endpoints_added_per_sync_sum"], found["endpoints_removed_per_sync_sum"]) == ("101", "0")
    assert found['services_count_by_traffic_distribution{traffic_distribution="PreferClose"}'] == "1"
    changed = 'endpointslices_changed_per_sync_sum{topology="Disabled",traffic_distribution="PreferClose"}'
    assert found[changed] == "2"
    api.remove("pods", "p7")
    await running.settle()
    found = told(controller, OF_SERVICES)
    assert (found["endpoints_desired"], found["endpoints_removed_per_sync_sum"]) == ("100", "1")
    assert (found["num_endpoint_slices"], found["desired_endpoint_slices"]) == ("3", "2")
    assert found['changes{operation="update"}'] == "1"
    api.remove("services", "web")
    await running.settle()
    found = told(controller, OF_SERVICES)
    assert (found["endpoints_desired"], found["num_endpoint_slices"]) == ("0", "1")
    assert "services_count_by_traffic_distribution" not in "".join(found)


async def test_syncs_of_slices_are_told_by_how_they_ended(api: FakeAPI, running: Running) -> None:
    controller = EndpointSliceController(running.context)
    api.react("create endpointslices.discovery.k8s.io", errors.internal_error("no"))
    api.add("services", service())
    await running.start(controller)
    found = told(controller, OF_SERVICES)
    assert found['syncs{result="error"}'] == "1"
    assert int(found['syncs{result="success"}']) >= 1


async def test_mirrored_endpoints_are_told_with_those_that_were_left_out(api: FakeAPI, running: Running) -> None:
    controller = EndpointSliceMirroringController(running.context)
    api.add("services", mirrored.service())
    api.add("endpoints", mirrored.endpoints(mirrored.subset("10.0.0.1", "10.0.0.2", "no address")))
    await running.start(controller)
    found = told(controller, OF_MIRRORS)
    assert (found["endpoints_desired"], found["num_endpoint_slices"], found["desired_endpoint_slices"]) == (
        "2",
        "1",
        "1",
    )
    assert (found["endpoints_added_per_sync_sum"], found["endpoints_updated_per_sync_sum"]) == ("2", "0")
    assert int(found["addresses_skipped_per_sync_sum"]) >= 1
    assert int(found["endpoints_sync_duration_count"]) >= 1
    api.change("endpoints", "db", subsets=[mirrored.subset("10.0.0.1", not_ready=("10.0.0.2",))])
    await running.settle()
    found = told(controller, OF_MIRRORS)
    assert (found["endpoints_added_per_sync_sum"], found["endpoints_updated_per_sync_sum"]) == ("2", "1")
    api.remove("endpoints", "db")
    await running.settle()
    found = told(controller, OF_MIRRORS)
    assert (found["endpoints_desired"], found["num_endpoint_slices"]) == ("0", "0")
