"""A pod spec like one that was found right is taken as right; whatever could make it wrong is still looked at."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.registry.validation.known_specs import KnownSpecs, likeness
from kubecore.apiserver.registry.validation.podspec import validate_pod, validate_pod_spec
from kubecore.apiserver.registry.validation.problems import Problems


def pod(name: str = "web", volume: str = "kube-api-access-abcde", **source: Any) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "nginx",
        "imagePullPolicy": "Always",
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": volume, "mountPath": "/data"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": volume, **(source or {"emptyDir": {}})}],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
    }
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def fields_at_fault(pod: dict[str, Any]) -> list[str]:
    problems = Problems()
    validate_pod(problems, pod)
    return [cause.field for cause in problems]


def like(pod: dict[str, Any]) -> bytes | None:
    return likeness(pod["spec"], pod["metadata"])


def test_pods_of_one_template_are_alike_whatever_they_and_their_token_volumes_are_called() -> None:
    assert like(pod("web-1", "kube-api-access-abcde")) == like(pod("web-2", "kube-api-access-vwxyz")) is not None


def test_a_pod_and_a_template_are_not_alike() -> None:
    assert like(pod()) != likeness(pod()["spec"], None)


@pytest.mark.parametrize("name", ["kube-api-access-", "kube-api-access-ABCDE", "kube-api-access-abcd_"])
def test_a_volume_that_is_only_called_almost_like_a_token_is_judged_by_its_name(name: str) -> None:
    assert fields_at_fault(pod()) == []
    assert fields_at_fault(pod(volume=name)) == ["spec.volumes[0].name", "spec.containers[0].volumeMounts[0].name"]


def test_what_differs_from_a_known_spec_is_judged() -> None:
    assert fields_at_fault(pod()) == []
    wrong = pod()
    wrong["spec"]["restartPolicy"] = "Sometimes"
    assert fields_at_fault(wrong) == ["spec.restartPolicy"]
    assert fields_at_fault(wrong) == ["spec.restartPolicy"]


def test_where_the_name_of_the_pod_or_its_annotations_count_each_pod_is_judged() -> None:
    claim = {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}}}
    assert like(pod(ephemeral=claim)) is None
    annotated = pod()
    annotated["metadata"]["annotations"] = {"a": "b"}
    assert like(annotated) is None


class Watched(dict[str, Any]):
    """Tells which of its members have been asked for."""

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__(members)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


def test_of_a_pod_whose_spec_is_remembered_no_rule_sees_more_than_its_spec() -> None:
    looked_at = pod(volume="kube-api-access-seen1")
    looked_at["spec"]["containers"][0]["name"] = "never-judged-before"
    metadata = Watched(looked_at["metadata"])
    validate_pod_spec(Problems(), looked_at["spec"], pod=metadata)
    assert metadata.asked == {"annotations"}


def test_what_is_remembered_of_a_large_spec_is_small() -> None:
    large = pod()
    large["spec"]["containers"][0]["args"] = ["a" * 100_000]
    known = like(large)
    assert known is not None
    assert len(known) < 64
    large["spec"]["containers"][0]["args"][0] += "b"
    assert like(large) != known


def test_only_so_many_are_remembered() -> None:
    known = KnownSpecs()
    for number in range(5000):
        known.add(b"%d" % number)
    assert b"4999" in known
    assert b"0" not in known
    known.add(None)
    assert None not in known
