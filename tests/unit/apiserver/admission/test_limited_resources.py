"""How the configuration of ResourceQuota is read."""

from __future__ import annotations

import pytest

from kubecore.api import amounts
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.admission.limited_resources import load

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: ResourceQuotaConfiguration\n"


def test_without_a_configuration_nothing_is_limited() -> None:
    assert load("").by_resource == {}


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
        ("resourcequota.admission.k8s.io/v1beta1", "Configuration"),
        ("resourcequota.admission.k8s.io/v1alpha1", "Configuration"),
    ],
)
def test_entries_of_one_resource_are_taken_together(version: str, kind: str) -> None:
    limited = load(
        f"apiVersion: {version}\nkind: {kind}\nlimitedResources:\n"
        "- {apiGroup: example.com, resource: widgets, matchContains: [count/]}\n"
        "- {apiGroup: example.com, resource: widgets, matchContains: [gpu]}\n"
    ).of("widgets.example.com")
    usage = dict.fromkeys(("count/widgets.example.com", "requests.gpu", "cpu"), amounts.ONE)
    assert limited.of_amounts(usage) == {"count/widgets.example.com", "requests.gpu"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + "limitedResources: [{apiGroup: apps}]", r"limitedResources\[0\].resource: Required value"),
        (HEAD + "limited: []", 'unknown field "limited"'),
        ("apiVersion: v2\nkind: ResourceQuotaConfiguration", 'is registered for version "v2"'),
        ("kind: Configuration", "Object 'ApiVersion' is missing|Object 'apiVersion' is missing"),
    ],
)
def test_what_is_not_right_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told):
        load(text)
