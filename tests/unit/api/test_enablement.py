"""Which built-in versions are served."""

from __future__ import annotations

import re

import pytest

from kubecore.api import enablement, scheme


def served(**settings: str) -> dict[str, tuple[str, ...]]:
    """Versions by group; keys are given with `__` for `/`."""
    given = {key.replace("__", "/"): value for key, value in settings.items()}
    return versions(given)


def versions(settings: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {group.name: group.versions for group in enablement.served(settings).groups()}


def test_only_stable_versions_are_on_where_nothing_is_said() -> None:
    groups = versions({})
    assert groups["autoscaling"] == ("v2", "v1")
    assert groups["resource.k8s.io"] == groups["admissionregistration.k8s.io"] == ("v1",)
    assert "storagemigration.k8s.io" not in groups
    assert "internal.apiserver.k8s.io" not in groups
    assert not scheme.default().knows("leasecandidates.coordination.k8s.io")


def test_a_group_version_is_turned_on_by_its_name() -> None:
    groups = versions({"admissionregistration.k8s.io/v1beta1": "true"})
    assert groups["admissionregistration.k8s.io"] == ("v1", "v1beta1")
    assert groups["resource.k8s.io"] == ("v1",)


def test_a_value_may_be_left_out() -> None:
    assert versions({"storagemigration.k8s.io/v1beta1": ""})["storagemigration.k8s.io"] == ("v1beta1",)


def test_a_stage_turns_on_all_versions_of_it() -> None:
    groups = served(api__beta="true")
    assert groups["resource.k8s.io"] == ("v1", "v1beta2", "v1beta1")
    assert served(api__alpha="true")["resource.k8s.io"] == ("v1", "v1alpha3")


def test_what_is_finer_holds() -> None:
    groups = versions({"api/beta": "true", "resource.k8s.io/v1beta1": "false"})
    assert groups["resource.k8s.io"] == ("v1", "v1beta2")
    alone = enablement.served({"certificates.k8s.io/v1beta1/clustertrustbundles": "true"})
    assert alone.knows("clustertrustbundles.certificates.k8s.io")
    assert not alone.knows("podcertificaterequests.certificates.k8s.io")


def test_a_stable_version_can_be_turned_off() -> None:
    assert "autoscaling" in versions({})
    assert versions({"batch/v1": "false"}).get("batch") is None


def test_objects_are_stored_in_the_same_version_whichever_is_served() -> None:
    older = enablement.served({"resource.k8s.io/v1": "false", "resource.k8s.io/v1beta1": "true"})
    assert older.versions("resourceclaims.resource.k8s.io") == ("v1beta1",)
    assert older.storage("resourceclaims.resource.k8s.io").version == "v1"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api/beta": "yes"}, "invalid value api/beta=yes"),
        ({"api/all": "false"}, "invalid key with only api/all=false"),
        ({"v1": "true"}, "runtime-config invalid key v1"),
        ({"nope.io/v1": "true"}, "unknown api groups nope.io"),
        ({"apps/v9": "true"}, "group version apps/v9 that has not been registered"),
        ({"apps/v1": "maybe"}, 'invalid value of apps/v1: maybe, err: strconv.ParseBool: parsing "maybe"'),
        ({"apps/v1/Deployments": "true"}, "resource is always lowercase plural"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        enablement.served(settings)
