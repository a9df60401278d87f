"""What is asked of admission webhooks before they are called."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

VALIDATING = Writer("validatingwebhookconfigurations.admissionregistration.k8s.io", namespaced=False)
MUTATING = Writer("mutatingwebhookconfigurations.admissionregistration.k8s.io", namespaced=False)
FORM = "desired format: https://host[/path]"


def configuration(**webhook: Any) -> dict[str, Any]:
    whole = {
        "name": "w.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://example.com/hook"},
        **webhook,
    }
    return {"metadata": {"name": "x"}, "webhooks": [whole]}


def rule(**fields: Any) -> dict[str, Any]:
    return {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], **fields}


def test_a_webhook_fails_closed_takes_everything_and_has_ten_seconds() -> None:
    (webhook,) = VALIDATING.create(configuration(rules=[rule()]))["webhooks"]
    assert (webhook["failurePolicy"], webhook["matchPolicy"], webhook["timeoutSeconds"]) == ("Fail", "Equivalent", 10)
    assert webhook["namespaceSelector"] == webhook["objectSelector"] == {}
    assert webhook["rules"][0]["scope"] == "*"
    assert "reinvocationPolicy" not in webhook
    assert MUTATING.create(configuration())["webhooks"][0]["reinvocationPolicy"] == "Never"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.com", f"""Invalid value: "http": 'https' is the only allowed URL scheme; {FORM}"""),
        ("https:///path", f'Invalid value: "": host must be specified; {FORM}'),
        ("https://me@example.com", 'Invalid value: "me": user information is not permitted in the URL'),
        ("https://example.com#top", 'Invalid value: "top": fragments are not permitted in the URL'),
        ("https://example.com?a=b", 'Invalid value: "a=b": query parameters are not permitted in the URL'),
        (
            "https://example.com:http/",
            'Required value: url must be a valid URL: parse "https://example.com:http/": '
            f'invalid port ":http" after host; {FORM}',
        ),
        (
            ":443",
            f'Required value: url must be a valid URL: parse ":443": missing protocol scheme; {FORM}',
        ),
        (
            "https://example.com/%zz",
            'Required value: url must be a valid URL: parse "https://example.com/%zz": '
            f'invalid URL escape "%zz"; {FORM}',
        ),
    ],
)
def test_the_url_of_a_webhook_is_plain_https(url: str, problem: str) -> None:
    assert VALIDATING.problems(configuration(clientConfig={"url": url})) == [f"webhooks[0].clientConfig.url: {problem}"]


def test_a_webhook_is_at_a_url_or_at_a_service() -> None:
    service = {"name": "s", "namespace": "default"}
    assert VALIDATING.create(configuration(clientConfig={"service": service}))["webhooks"][0]["clientConfig"] == {
        "service": {**service, "port": 443}
    }
    for both in ({}, {"url": "https://example.com", "service": service}):
        assert VALIDATING.problems(configuration(clientConfig=both)) == [
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required"
        ]


def test_the_path_of_a_services_webhook_has_no_empty_segments() -> None:
    service = {"name": "s", "namespace": "default", "path": "a/B"}
    found = VALIDATING.problems(configuration(clientConfig={"service": service}))
    assert found[:2] == [
        """webhooks[0].clientConfig.service.path: Invalid value: "a/B": must start with a '/'""",
        'webhooks[0].clientConfig.service.path: Invalid value: "a/B": segment[0] may not be empty',
    ]
    assert found[2].startswith(
        'webhooks[0].clientConfig.service.path: Invalid value: "a/B": segment[1]: a lowercase RFC 1123 subdomain'
    )


def test_webhooks_have_different_names_of_three_parts() -> None:
    twice = configuration()
    twice["webhooks"] *= 2
    assert VALIDATING.problems(twice) == ['webhooks[1].name: Duplicate value: "w.example.com"']
    assert VALIDATING.problems(configuration(name="example.com")) == [
        'webhooks[0].name: Invalid value: "example.com": '
        "should be a domain with at least three segments separated by dots"
    ]


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        (
            ["pods/*", "pods/log"],
            """[1]: Invalid value: "pods/log": if 'pods/*' is present, must not specify pods/log""",
        ),
        (["*/log", "pods/log"], """[1]: Invalid value: "pods/log": if '*/log' is present, must not specify pods/log"""),
        (
            ["*/*", "pods"],
            """: Invalid value: ["*/*","pods"]: if '*/*' is present, must not specify other resources""",
        ),
        (
            ["*", "pods"],
            ': Invalid value: ["*","pods"]: if \'*\' is present, must not specify other resources without subresources',
        ),
    ],
)
def test_no_resource_of_a_rule_is_covered_by_another(resources: list[str], problem: str) -> None:
    found = VALIDATING.problems(configuration(rules=[rule(resources=resources)]))
    assert found == [f"webhooks[0].rules[0].resources{problem}"]


def test_match_conditions_have_names_of_their_own_and_something_to_say() -> None:
    conditions = [{"name": "a", "expression": "true"}, {"name": "a", "expression": " "}]
    assert VALIDATING.problems(configuration(matchConditions=conditions)) == [
        "webhooks[0].matchConditions[1].expression: Required value",
        'webhooks[0].matchConditions[1].name: Duplicate value: "a"',
    ]


def test_what_was_stored_with_side_effects_may_keep_them() -> None:
    stored = VALIDATING.create(configuration())
    old = changed(stored, "webhooks.0.sideEffects", "Some")
    assert not VALIDATING.update_problems(old, changed(old, "webhooks.0.timeoutSeconds", 5))
    assert VALIDATING.update_problems(stored, old) == [
        'webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'
    ]


def test_match_conditions_compile() -> None:
    conditions = [{"name": "a", "expression": "request.operation == 'CREATE'"}, {"name": "b", "expression": "object"}]
    assert VALIDATING.problems(configuration(matchConditions=conditions)) == [
        'webhooks[0].matchConditions[1].expression: Invalid value: "object": must evaluate to bool but got dyn'
    ]
