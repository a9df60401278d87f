"""AuthorizationConfigurations, and why a file is none: in kube-apiserver's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.authorization.configuration import load

RBAC = {"type": "RBAC", "name": "rbac"}


def text(*authorizers: dict[str, Any], version: str = "v1") -> str:
    head = {"apiVersion": f"apiserver.config.k8s.io/{version}", "kind": "AuthorizationConfiguration"}
    return json.dumps({**head, "authorizers": list(authorizers)})


def webhook(tmp_path: Path, **more: Any) -> dict[str, Any]:
    file = tmp_path / "webhook.kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1/"}}
    context = {"name": "c", "context": {"cluster": "c"}}
    file.write_text(json.dumps({"clusters": [cluster], "contexts": [context], "current-context": "c"}))
    spec = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "failurePolicy": "NoOpinion",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(file)},
        **more,
    }
    return {
        "type": "Webhook",
        "name": "it",
        "webhook": {key: value for key, value in spec.items() if value is not None},
    }


def why(content: str, *required: str) -> str:
    with pytest.raises(InvalidConfiguration) as refused:
        load(content, required=required)
    return str(refused.value)


def test_modes_come_in_the_order_of_the_file_and_webhooks_with_their_terms(tmp_path: Path) -> None:
    asked = webhook(tmp_path, unauthorizedTTL="1m30s", cacheAuthorizedRequests=False, failurePolicy="Deny")
    configured = load(text({"type": "Node", "name": "node"}, asked, RBAC, version="v1beta1"))
    assert configured.modes == ("Node", "Webhook", "RBAC")
    [spec] = configured.webhooks
    assert (spec.timeout, spec.connection.server) == (3.0, "https://127.0.0.1:1")
    assert (spec.terms.authorized_ttl, spec.terms.unauthorized_ttl, spec.terms.denies_on_failure) == (0.0, 90.0, True)


def test_no_time_to_remember_an_answer_is_the_usual_one(tmp_path: Path) -> None:
    [spec] = load(text(webhook(tmp_path, authorizedTTL="0s", unauthorizedTTL="0s"))).webhooks
    assert (spec.terms.authorized_ttl, spec.terms.unauthorized_ttl) == (300.0, 30.0)


def test_what_is_not_right_is_told_with_its_place(tmp_path: Path) -> None:
    for authorizers, told in (
        ([], "authorizers: Required value: at least one authorization mode must be defined"),
        ([{"name": "x"}], "authorizers[0].type: Required value"),
        ([{"type": "Magic", "name": "x"}], 'authorizers[0].type: Unsupported value: "Magic": supported values: "ABAC"'),
        ([RBAC, RBAC], 'authorizers[1].type: Duplicate value: "RBAC"'),
        ([{"type": "RBAC", "name": "mine"}], "expected name rbac for authorizer RBAC instead of mine"),
        ([{**RBAC, "webhook": {}}], 'authorizers[0].webhook: Invalid value: "non-null": may only be specified when'),
        ([{"type": "Webhook", "name": "it"}], "authorizers[0].webhook: Required value: required when type=Webhook"),
        ([webhook(tmp_path, timeout="31s")], 'authorizers[0].timeout: Invalid value: "31s": must be > 0s and <= 30s'),
        ([webhook(tmp_path, failurePolicy=None)], "authorizers[0].failurePolicy: Required value"),
        (
            [webhook(tmp_path, subjectAccessReviewVersion="v2")],
            'Unsupported value: "v2": supported values: "v1", "v1beta1"',
        ),
        ([webhook(tmp_path, connectionInfo={"type": "InClusterConfig"})], "is not allowed for kube-apiserver"),
        (
            [webhook(tmp_path, matchConditions=[{"expression": "true"}])],
            "authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions",
        ),
        (
            [
                webhook(
                    tmp_path,
                    matchConditionSubjectAccessReviewVersion="v1",
                    matchConditions=[{"expression": "request.user"}],
                )
            ],
            'matchConditions[0].expression: Invalid value: "request.user": must evaluate to bool but got string',
        ),
    ):
        assert told in why(text(*authorizers)), told  # type: ignore[arg-type]


def test_fields_that_there_are_not_are_refused() -> None:
    assert why(text({**RBAC, "color": "red"})) == 'strict decoding error: unknown field "authorizers[0].color"'
    assert why(text(RBAC, version="v9")).startswith('no kind "AuthorizationConfiguration" is registered for version')


def test_a_later_configuration_keeps_the_modes_of_the_first() -> None:
    assert why(text({"type": "AlwaysDeny", "name": "alwaysdeny"}), "RBAC") == "missing required types: [RBAC]"
    told = "authorizer type Node is not allowed if it was not enabled at initial server startup"
    assert why(text(RBAC, {"type": "Node", "name": "node"}), "RBAC") == told
