"""What the baked scheme says about v1.35."""

import pytest

from kubecore.api import scheme


def test_a_resource_is_found_by_path_by_kind_and_by_key() -> None:
    deployments = scheme.default().lookup("apps", "v1", "deployments")
    assert deployments is not None
    assert deployments is scheme.default().for_kind("apps", "v1", "Deployment")
    assert deployments is scheme.default().resource("deployments.apps")
    assert (deployments.api_version, deployments.singular, deployments.namespaced) == ("apps/v1", "deployment", True)
    assert (deployments.short_names, deployments.categories) == (("deploy",), ("all",))


def test_verbs_are_kubernetes_verbs() -> None:
    pods = scheme.default().resource("pods")
    assert pods.verbs == {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
    assert "deletecollection" not in scheme.default().resource("namespaces").verbs
    assert scheme.default().resource("tokenreviews.authentication.k8s.io").verbs == {"create"}


def test_subresources_name_the_kind_they_speak() -> None:
    scale = scheme.default().resource("deployments.apps").subresources["scale"]
    assert (scale.group, scale.version, scale.kind) == ("autoscaling", "v1", "Scale")
    assert scale.verbs == {"get", "patch", "update"}
    pods = scheme.default().resource("pods").subresources
    assert set(pods) >= {"attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy"}
    assert pods["eviction"].group == "policy"
    assert pods["exec"].verbs == {"create", "get"}


def test_the_preferred_version_is_the_newest_stable_one() -> None:
    groups = {group.name: group for group in scheme.every().groups()}
    assert groups["autoscaling"].versions == ("v2", "v1")
    assert groups["resource.k8s.io"].versions == ("v1", "v1beta2", "v1beta1", "v1alpha3")
    assert scheme.default().resource("horizontalpodautoscalers.autoscaling").version == "v2"
    assert scheme.every().resource("leasecandidates.coordination.k8s.io").version == "v1beta1"


def test_groups_come_in_discovery_order() -> None:
    names = [group.name for group in scheme.default().groups()]
    assert names[:5] == ["", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]


def test_events_of_both_groups_are_stored_as_core_events() -> None:
    stored = scheme.default().storage("events.events.k8s.io")
    assert (stored.group, stored.key) == ("", "events")
    assert scheme.default().storage("deployments.apps") is scheme.default().resource("deployments.apps")


def test_unknown_names_have_no_resource() -> None:
    assert scheme.default().lookup("apps", "v2", "deployments") is None
    with pytest.raises(KeyError):
        scheme.default().resource("widgets.example.com")


def test_group_versions_split_and_join() -> None:
    assert scheme.split_group_version("apps/v1") == ("apps", "v1")
    assert scheme.split_group_version("v1") == ("", "v1")
    assert scheme.group_version("", "v1") == "v1"
