"""StorageClasses, CSI drivers and their nodes, attachments."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

CLASSES = Writer("storageclasses.storage.k8s.io", namespaced=False)
ATTRIBUTES = Writer("volumeattributesclasses.storage.k8s.io", namespaced=False)
DRIVERS = Writer("csidrivers.storage.k8s.io", namespaced=False)
NODES = Writer("csinodes.storage.k8s.io", namespaced=False)
CAPACITIES = Writer("csistoragecapacities.storage.k8s.io")
ATTACHMENTS = Writer("volumeattachments.storage.k8s.io", namespaced=False)


def named(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, **fields}


def zone(*values: str) -> dict[str, Any]:
    return {"matchLabelExpressions": [{"key": "zone", "values": list(values)}]}


def test_a_class_deletes_volumes_and_binds_them_at_once_by_default() -> None:
    stored = CLASSES.create(named(provisioner="example.com/p"))
    assert (stored["reclaimPolicy"], stored["volumeBindingMode"]) == ("Delete", "Immediate")


def test_topologies_of_a_class_differ_and_have_values() -> None:
    provisioner = {"provisioner": "example.com/p"}
    assert CLASSES.problems(named(**provisioner, allowedTopologies=[zone("a", "b"), zone("b", "a")])) == [
        'allowedTopologies[1].matchLabelExpressions: Duplicate value: ""'
    ]
    assert CLASSES.problems(named(**provisioner, allowedTopologies=[zone("a", "a"), zone()])) == [
        'allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"',
        "allowedTopologies[1].matchLabelExpressions[0].values: Required value",
    ]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("parameters", {"a": "b"}, "parameters: Forbidden: updates to parameters are forbidden."),
        ("provisioner", "other", "provisioner: Forbidden: updates to provisioner are forbidden."),
        ("reclaimPolicy", "Retain", "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."),
        (
            "volumeBindingMode",
            "WaitForFirstConsumer",
            'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable',
        ),
    ],
)
def test_how_a_class_makes_volumes_stays(path: str, value: Any, problem: str) -> None:
    stored = CLASSES.create(named(provisioner="example.com/p"))
    assert CLASSES.update_problems(stored, changed(stored, path, value)) == [problem]
    assert not CLASSES.update_problems(stored, changed(stored, "allowVolumeExpansion", True))


def test_a_class_of_attributes_has_some_that_stay() -> None:
    assert ATTRIBUTES.problems(named(driverName="d.example.com")) == [
        "parameters: Required value: must contain at least one key/value pair"
    ]
    stored = ATTRIBUTES.create(named(driverName="d.example.com", parameters={"iops": "1"}))
    assert ATTRIBUTES.update_problems(stored, changed(stored, "parameters.iops", "2")) == [
        "parameters: Forbidden: updates to parameters are forbidden."
    ]


def test_tokens_of_a_driver_are_for_different_audiences_and_live_ten_minutes() -> None:
    requests = [{"audience": "a", "expirationSeconds": 599}, {"audience": "a"}]
    assert DRIVERS.problems(named(spec={"tokenRequests": requests})) == [
        "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        'spec.tokenRequests[1].audience: Duplicate value: "a"',
    ]


def test_whether_a_driver_attaches_stays() -> None:
    stored = DRIVERS.create(named())
    assert DRIVERS.update_problems(stored, changed(stored, "spec.attachRequired", False)) == [
        "spec.attachedRequired: Invalid value: false: field is immutable"
    ]
    assert DRIVERS.update(stored, changed(stored, "spec.storageCapacity", True))["metadata"]["generation"] == 1


def test_a_driver_of_a_node_stays_as_it_is_but_for_its_limits() -> None:
    driver = {"name": "d.example.com", "nodeID": "n", "topologyKeys": ["zone"]}
    stored = NODES.create(named(spec={"drivers": [driver]}))
    assert not NODES.update_problems(stored, changed(stored, "spec.drivers.0.allocatable", {"count": 3}))
    (problem,) = NODES.update_problems(stored, changed(stored, "spec.drivers.0.nodeID", "other"))
    assert problem.startswith("spec.drivers: Invalid value: ")
    assert problem.endswith(": field is immutable")
    assert not NODES.update_problems(stored, changed(stored, "spec.drivers", []))


def test_drivers_of_a_node_have_different_names() -> None:
    driver = {"name": "d.example.com", "nodeID": "n"}
    assert NODES.problems(named(spec={"drivers": [driver, driver]})) == [
        'spec.drivers[1].name: Duplicate value: "d.example.com"'
    ]


def test_what_a_capacity_was_asked_for_stays() -> None:
    stored = CAPACITIES.create(named(storageClassName="s", capacity="1Gi"))
    assert not CAPACITIES.update_problems(stored, changed(stored, "capacity", "2Gi"))
    assert CAPACITIES.update_problems(stored, changed(stored, "storageClassName", "t")) == [
        'storageClassName: Invalid value: "t": field is immutable'
    ]
    assert CAPACITIES.problems(named(storageClassName="s", capacity="-1")) == [
        'capacity: Invalid value: "-1": must be greater than or equal to 0'
    ]


def attachment(**source: Any) -> dict[str, Any]:
    return named(spec={"attacher": "d.example.com", "nodeName": "n", "source": source})


def test_an_attachment_is_of_a_volume_or_of_what_stands_for_one() -> None:
    one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    inline = {"accessModes": ["ReadWriteOnce"], "csi": {"driver": "d.example.com", "volumeHandle": "h"}}
    assert not ATTACHMENTS.problems(attachment(inlineVolumeSpec=inline))
    assert ATTACHMENTS.problems(attachment()) == [f"spec.source: Required value: {one}"]
    assert not ATTACHMENTS.problems(attachment(inlineVolumeSpec={**inline, "volumeAttributesClassName": "No Class"}))
    both = attachment(inlineVolumeSpec=inline, persistentVolumeName="p")
    assert ATTACHMENTS.problems(both) == [f"spec.source: Forbidden: {one}"]


def test_what_stands_for_a_volume_has_the_defaults_of_one() -> None:
    obj = attachment(inlineVolumeSpec={"iscsi": {"targetPortal": "1.2.3.4"}})
    ATTACHMENTS.strategy.default(obj)
    assert obj["spec"]["source"]["inlineVolumeSpec"]["iscsi"]["iscsiInterface"] == "default"


def test_an_attachment_stays_and_its_status_comes_later() -> None:
    stored = ATTACHMENTS.create({**attachment(persistentVolumeName="p"), "status": {"attached": True}})
    assert stored["status"] == {"attached": False}
    (problem,) = ATTACHMENTS.update_problems(stored, changed(stored, "spec.nodeName", "other"))
    assert problem.endswith(": field is immutable")
    failed = changed(stored, "status.attachError", {"message": "m" * 1025, "errorCode": -1})
    assert ATTACHMENTS.update_problems(stored, failed, subresource="status") == [
        "status.attachError.message: Too long: may not be more than 262144 bytes",
        "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ]
