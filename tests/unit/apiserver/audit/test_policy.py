"""What an audit policy may say, in upstream's words."""

from __future__ import annotations

import logging

import orjson
import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.audit.policy import load

HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"


def test_a_policy_is_given_on_as_json() -> None:
    given = HEAD + "omitStages: [RequestReceived]\nrules:\n- {level: Metadata, users: [a], omitManagedFields: null}\n"
    assert orjson.loads(load(given)) == {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": ["a"]}],
    }


def test_fields_that_there_are_not_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = load(HEAD + "rules:\n- {level: None, foo: bar}\n")
    assert orjson.loads(found)["rules"] == [{"level": "None"}]
    told = 'falling back to lenient decoding: strict decoding error: unknown field "rules[0].foo"'
    assert told in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules: []", "loaded illegal policy with 0 rules"),
        ("rules: [{}]", "rules[0].level: Required value"),
        ("rules: [{level: All}]", 'rules[0].level: Unsupported value: "All": supported values: "None", "Metadata"'),
        (
            "omitStages: [End]\nrules: [{level: None}]",
            'omitStages[0]: Invalid value: "End": allowed stages are Request',
        ),
        (
            "rules: [{level: None, nonResourceURLs: [healthz]}]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/'",
        ),
        (
            "rules: [{level: None, nonResourceURLs: ['/a*b']}]",
            "non-resource URL wildcards '*' must be the final character of the rule",
        ),
        (
            "rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]",
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            "rules: [{level: None, resources: [{group: a/v1}]}]",
            'rules[0].resources.group: Invalid value: "a/v1"',
        ),
        (
            "rules: [{level: None, resources: [{resourceNames: [a]}]}]",
            "using resourceNames requires at least one resource",
        ),
        ("rules: {}", 'failed decoding: "rules" is no list'),
    ],
)
def test_what_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        load(HEAD + text)
    assert words in str(refused.value)


def test_another_kind_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match='no kind "Policy" is registered for version'):
        load("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]")
