"""The default roles and bindings, beside those that Kubernetes v1.35 keeps a list of for its own tests."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubecore.apiserver.bootstrap import controller_roles, roles
from tests.support import go_programs
from tests.support.process import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
# Kubecore's own: parts that Kubernetes has not, or leaves to whoever installs a cluster.
OWN = {
    "system:aggregated-metrics-reader",
    "system:controller:local-volume-provisioner",
    "system:coredns",
    "system:kubecore-ingress",
}
FILES = (
    "cluster-roles",
    "controller-roles",
    "cluster-role-bindings",
    "controller-role-bindings",
    "namespace-roles",
    "namespace-role-bindings",
)


def comparable(obj: JSON) -> JSON:
    """Without what does not matter: the order of rules and of what they list. What an aggregated role has is its
    parts'."""
    metadata = obj["metadata"]
    rules = [{key: sorted(one[key]) for key in sorted(one)} for one in obj.get("rules") or ()]
    return {
        "labels": metadata.get("labels"),
        "annotations": metadata.get("annotations"),
        "aggregationRule": obj.get("aggregationRule"),
        "rules": [] if obj.get("aggregationRule") else sorted(rules, key=str),
        "roleRef": obj.get("roleRef"),
        "subjects": sorted(sorted(one.items()) for one in obj.get("subjects") or ()),
    }


def keyed(objects: list[JSON]) -> dict[tuple[str, str, str], JSON]:
    made = {}
    for one in objects:
        metadata = one["metadata"]
        made[one["kind"], metadata.get("namespace") or "", metadata["name"]] = comparable(one)
    return made


def test_the_default_roles_and_bindings_are_those_of_kubernetes() -> None:
    module = go_programs.module_folder(ROOT / "tests/e2e/validation", "k8s.io/kubernetes")
    folder = module / "plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata"
    wanted = keyed([one for name in FILES for one in yaml.safe_load((folder / f"{name}.yaml").read_text())["items"]])
    ours = keyed(
        [
            *roles.cluster_roles(),
            *roles.cluster_role_bindings(),
            *roles.roles(),
            *roles.role_bindings(),
            *controller_roles.controller_roles(),
            *controller_roles.controller_role_bindings(),
        ]
    )
    assert wanted.keys() - ours.keys() == set()
    assert {name for _, _, name in ours.keys() - wanted.keys() if not name.startswith("kubecore:")} == OWN
    differing = {key: (ours[key], wanted[key]) for key in wanted if ours[key] != wanted[key]}
    assert differing == {}
