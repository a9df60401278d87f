"""CustomResourceDefinitions: what is filled in, refused, kept, and how one begins to go."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trustme

from tests.unit.apiserver.registry.writing import Writer, changed

JSON = dict[str, Any]
CRDS = Writer("customresourcedefinitions.apiextensions.k8s.io", namespaced=False)
CA = base64.b64encode(trustme.CA().cert_pem.bytes()).decode()

SCHEMA: JSON = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "color": {"type": "string"},
                "size": {"type": "integer"},
                "list": {"type": "array", "items": {"type": "string"}},
            },
        }
    },
}


def version(name: str = "v1", **more: Any) -> JSON:
    return {"name": name, "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}, **more}


def crd(*versions: JSON, **spec: Any) -> JSON:
    names = {"plural": "widgets", "kind": "Widget"}
    whole = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": list(versions or (version(),))}
    return {"metadata": {"name": "widgets.example.com"}, "spec": {**whole, **spec}}


def established(obj: JSON) -> JSON:
    return changed(obj, "status.conditions", [{"type": "Established", "status": "True"}])


def webhook(**config: Any) -> JSON:
    return {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}


def test_names_and_conversion_are_filled_in() -> None:
    made = CRDS.create(crd())
    assert made["spec"]["names"] == {
        "plural": "widgets",
        "kind": "Widget",
        "singular": "widget",
        "listKind": "WidgetList",
    }
    assert made["spec"]["conversion"] == {"strategy": "None"}
    assert made["status"] == {
        "acceptedNames": {"kind": "", "plural": ""},
        "conditions": None,
        "storedVersions": ["v1"],
    }
    assert made["metadata"]["generation"] == 1


def test_a_services_port_is_filled_in() -> None:
    conversion = webhook(service={"name": "a", "namespace": "b"}, caBundle=CA)
    made = CRDS.create(crd(conversion=conversion))
    assert made["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"] == 443


def test_status_is_not_the_clients() -> None:
    given = {**crd(), "status": {"storedVersions": ["v0"], "conditions": [{"type": "Established", "status": "True"}]}}
    assert CRDS.create(given)["status"]["storedVersions"] == ["v1"]
    assert CRDS.create(given)["status"]["conditions"] is None


_LABEL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (
            "metadata.name",
            "others.example.com",
            'metadata.name: Invalid value: "others.example.com": must be spec.names.plural+"."+spec.group',
        ),
        ("spec.scope", "", "spec.scope: Required value"),
        (
            "spec.scope",
            "World",
            'spec.scope: Unsupported value: "World": supported values: "Cluster", "Namespaced"',
        ),
        (
            "spec.names.kind",
            "Wid get",
            f'spec.names.kind: Invalid value: "Wid get": may have mixed case, but should otherwise match: {_LABEL}',
        ),
        (
            "spec.names.listKind",
            "Widget",
            'spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same',
        ),
        ("spec.names.shortNames", ["W"], f'spec.names.shortNames[0]: Invalid value: "W": {_LABEL}'),
        ("spec.names.categories", ["ALL"], f'spec.names.categories[0]: Invalid value: "ALL": {_LABEL}'),
        ("spec.versions.0.name", "V1", f'spec.versions[0].name: Invalid value: "V1": {_LABEL}'),
        ("spec.versions.0.schema", None, "spec.versions[0].schema.openAPIV3Schema: Required value"),
        (
            "spec.preserveUnknownFields",
            True,
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set "
            "x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ),
    ],
)
def test_what_is_wrong_is_told_in_upstreams_words(path: str, value: Any, problem: str) -> None:
    assert problem in CRDS.problems(changed(crd(), path, value))


def test_a_group_has_a_dot() -> None:
    definition = changed(changed(crd(), "spec.group", "example"), "metadata.name", "widgets.example")
    assert CRDS.problems(definition) == [
        'spec.group: Invalid value: "example": should be a domain with at least one dot'
    ]


def test_one_version_is_stored_and_their_names_differ() -> None:
    none = CRDS.problems(crd(version(storage=False)))
    assert [one.rpartition(": ")[2] for one in none] == [
        "must have exactly one version marked as storage version",
        "must have at least one stored version",
    ]
    two = CRDS.problems(crd(version(), version()))
    assert [one.rpartition(": ")[2] for one in two] == [
        "must contain unique version names",
        "must have exactly one version marked as storage version",
        # Of two of one name the second is another that is not stored.
        "must have the storage version v1",
    ]


def test_versions_are_shown_by_the_names_of_their_fields_in_go() -> None:
    shown = CRDS.problems(crd(version(storage=False)))[0]
    head = 'spec.versions: Invalid value: [{"Name":"v1","Served":true,"Storage":false,"Deprecated":false,'
    assert shown.startswith(f'{head}"DeprecationWarning":null,"Schema":')
    for given, told in ([], "[]"), (None, "null"):
        problem = CRDS.problems(changed(crd(), "spec.versions", given))[0]
        assert problem.startswith(f"spec.versions: Invalid value: {told}: ")


def test_a_name_is_judged_when_the_definition_is_made_and_one_to_be_made_as_well() -> None:
    old = CRDS.create(crd())
    assert not CRDS.update_problems(old, changed(old, "spec.names.shortNames", ["w"]))
    wanted = 'Invalid value: "{}": must be spec.names.plural+"."+spec.group'
    named = {**crd(), "metadata": {"generateName": "gn-", "name": "gn-x"}}
    assert CRDS.problems(named) == [
        f"metadata.generateName: {wanted.format('gn-')}",
        f"metadata.name: {wanted.format('gn-x')}",
    ]
    unnamed = {**crd(), "metadata": {}}
    assert CRDS.problems(unnamed) == ["metadata.name: Required value: name or generateName is required"]


def test_a_status_without_stored_versions_has_those_that_are_stored() -> None:
    old = CRDS.create(crd())
    emptied = CRDS.update(old, changed(old, "status.storedVersions", []), subresource="status")
    assert emptied["status"]["storedVersions"] == ["v1"]


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ({"type": "string", "jsonPath": ".a"}, "name: Required value"),
        ({"name": "A", "jsonPath": ".a"}, "type: Required value: must be one of boolean,date,integer,number,string"),
        (
            {"name": "A", "type": "text", "jsonPath": ".a"},
            'type: Invalid value: "text": must be one of boolean,date,integer,number,string',
        ),
        (
            {"name": "A", "type": "string", "jsonPath": ".a", "format": "odd"},
            'format: Invalid value: "odd": must be one of byte,date,date-time,double,float,int32,int64,password',
        ),
        ({"name": "A", "type": "string"}, "JSONPath: Required value"),
        (
            {"name": "A", "type": "string", "jsonPath": "a"},
            'JSONPath: Invalid value: "a": must be a simple json path starting with .',
        ),
    ],
)
def test_printer_columns_are_checked(column: JSON, problem: str) -> None:
    found = CRDS.problems(crd(version(additionalPrinterColumns=[column])))
    assert found == [f"spec.additionalPrinterColumns[0].{problem}"]


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        ([""], "[0].jsonPath: Required value"),
        (
            [".spec.none"],
            '[0].jsonPath: Invalid value: ".spec.none": is an invalid path: does not refer to a valid field',
        ),
        (
            [".spec.list"],
            '[0].jsonPath: Invalid value: ".spec.list": must point to a field of type string, boolean or integer. Enum '
            "string fields and strings with formats are allowed.",
        ),
        ([".spec.color", ".spec.color"], '[1].jsonPath: Duplicate value: ".spec.color"'),
    ],
)
def test_selectable_fields_are_fields_of_the_schema(paths: list[str], problem: str) -> None:
    fields = [{"jsonPath": path} for path in paths]
    assert CRDS.problems(crd(version(selectableFields=fields))) == [f"spec.selectableFields{problem}"]


def test_at_most_eight_fields_are_selectable() -> None:
    names = [f"f{number}" for number in range(9)]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    fields = [{"jsonPath": f".{name}"} for name in names]
    found = CRDS.problems(crd(version(schema={"openAPIV3Schema": schema}, selectableFields=fields)))
    assert found == ["spec.selectableFields: Too many: 9: must have at most 8 items"]


@pytest.mark.parametrize(
    ("scale", "problem"),
    [
        ({"statusReplicasPath": ".status.n"}, "specReplicasPath: Required value"),
        (
            {"specReplicasPath": ".status.n", "statusReplicasPath": ".status.n"},
            'specReplicasPath: Invalid value: ".status.n": should be a json path under .spec',
        ),
        (
            {"specReplicasPath": ".spec.n", "statusReplicasPath": ".spec.n"},
            'statusReplicasPath: Invalid value: ".spec.n": should be a json path under .status',
        ),
        (
            {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".metadata.x"},
            'labelSelectorPath: Invalid value: ".metadata.x": should be a json path under either .spec or .status',
        ),
    ],
)
def test_paths_of_scale_are_checked(scale: JSON, problem: str) -> None:
    found = CRDS.problems(crd(version(subresources={"scale": scale})))
    assert found == [f"spec.subresources.scale.{problem}"]


@pytest.mark.parametrize(
    ("conversion", "problem"),
    [
        ({"strategy": "Magic"}, 'strategy: Unsupported value: "Magic": supported values: "None", "Webhook"'),
        ({"strategy": "Webhook"}, "webhookClientConfig: Required value: required when strategy is set to Webhook"),
        (webhook(), "webhookClientConfig: Required value: exactly one of url or service is required"),
        (
            webhook(url="http://example.com/convert"),
            "webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: "
            "https://host[/path]",
        ),
        (
            webhook(url="https://example.com/convert?a=b"),
            'webhookClientConfig.url: Invalid value: "a=b": query parameters are not permitted in the URL',
        ),
        (
            webhook(service={"name": "a", "namespace": "b", "port": 0}),
            "webhookClientConfig.service.port: Invalid value: 0: port is not valid: "
            "must be between 1 and 65535, inclusive",
        ),
        (
            {"strategy": "None", "webhook": {"clientConfig": {"url": "https://x"}}},
            "webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
        ),
    ],
)
def test_conversion_is_checked(conversion: JSON, problem: str) -> None:
    assert f"spec.conversion.{problem}" in CRDS.problems(crd(conversion=conversion))


def test_a_review_version_must_be_one_that_is_spoken() -> None:
    conversion = webhook(url="https://example.com")
    conversion["webhook"]["conversionReviewVersions"] = ["v9"]
    assert CRDS.problems(crd(conversion=conversion)) == [
        'spec.conversion.conversionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1'
    ]


def test_a_webhook_of_which_nothing_is_said_is_none() -> None:
    made = CRDS.create(crd(conversion={"strategy": "None", "webhook": {"conversionReviewVersions": []}}))
    assert made["spec"]["conversion"] == {"strategy": "None"}


def test_objects_that_keep_unknown_fields_are_not_converted() -> None:
    conversion = webhook(url="https://example.com/", caBundle=CA)
    [problem, _] = CRDS.problems(crd(preserveUnknownFields=True, conversion=conversion))
    assert problem == (
        'spec.conversion.strategy: Invalid value: "Webhook": must be None if spec.preserveUnknownFields is true'
    )


def test_a_ca_bundle_must_be_one_once_the_definition_is_established() -> None:
    bad = webhook(url="https://example.com", caBundle="bm9uZQ==")
    stored = CRDS.create(crd(conversion=webhook(url="https://example.com", caBundle=CA)))
    changing = changed(stored, "spec.conversion", bad)
    assert not CRDS.update_problems(stored, changing)
    [problem] = CRDS.update_problems(established(stored), changing)
    assert problem.startswith("spec.conversion.webhookClientConfig.caBundle: Invalid value")


def test_what_storage_depends_on_stays() -> None:
    stored = established(CRDS.create(crd()))
    for path, value in (("spec.scope", "Cluster"), ("spec.names.kind", "Gadget")):
        [problem] = CRDS.update_problems(stored, changed(stored, path, value))
        assert problem == f'{path}: Invalid value: "{value}": field is immutable'
    assert not CRDS.update_problems(CRDS.create(crd()), changed(CRDS.create(crd()), "spec.scope", "Cluster"))


def test_storage_versions_are_remembered() -> None:
    both = [version("v1"), version("v2", storage=False)]
    stored = CRDS.create(crd(*both))
    moved = changed(changed(stored, "spec.versions.0.storage", False), "spec.versions.1.storage", True)
    made = CRDS.update(stored, moved)
    assert made["status"]["storedVersions"] == ["v1", "v2"]
    assert made["metadata"]["generation"] == 2
    [problem] = CRDS.update_problems(made, changed(made, "spec.versions", [made["spec"]["versions"][1]]))
    assert problem == (
        'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage '
        "version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 "
        "and removes v1 from status.storedVersions"
    )


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (None, "Required value: protected groups must have approval annotation"),
        ("yes", 'Invalid value: "yes": protected groups must have approval annotation'),
        ("https://github.com/kubernetes/enhancements/pull/1", ""),
        ("unapproved, an experiment", ""),
    ],
)
def test_the_communitys_groups_are_protected(annotation: str | None, problem: str) -> None:
    definition = changed(changed(crd(), "spec.group", "x.k8s.io"), "metadata.name", "widgets.x.k8s.io")
    if annotation is not None:
        definition["metadata"]["annotations"] = {"api-approved.kubernetes.io": annotation}
    found = CRDS.problems(definition)
    assert bool(found) == bool(problem)
    if found:
        assert found[0].startswith(f"metadata.annotations[api-approved.kubernetes.io]: {problem}")


def test_a_deprecation_warning_is_for_deprecated_versions() -> None:
    assert CRDS.problems(crd(version(deprecationWarning="old"))) == [
        'spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for deprecated versions'
    ]
    assert CRDS.problems(crd(version(deprecated=True, deprecationWarning="a\nb"))) == [
        'spec.versions[0].deprecationWarning: Invalid value: "a\\nb": must only contain printable UTF-8 characters; '
        "non-printable character found at index 1"
    ]


def test_formats_nobody_checks_are_told_once() -> None:
    schema = changed(SCHEMA, "properties.spec.properties.color.format", "colour")
    definition = CRDS.create(crd(version(schema={"openAPIV3Schema": schema})))
    context = CRDS.context("create", "widgets.example.com")
    assert CRDS.strategy.warnings(context, definition, None) == ['unrecognized format "colour"']
    assert CRDS.strategy.warnings(context, definition, definition) == []
    known = changed(SCHEMA, "properties.spec.properties.color.format", "date-time")
    assert CRDS.strategy.warnings(context, crd(version(schema={"openAPIV3Schema": known})), None) == []


def test_the_first_deletion_marks_it_and_waits_for_its_instances() -> None:
    stored = CRDS.create(crd())
    assert CRDS.strategy.holds_deletion(stored)
    stored["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
    CRDS.strategy.mark_deleting(CRDS.context("delete", "widgets.example.com"), stored)
    assert stored["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert "deletionGracePeriodSeconds" not in stored["metadata"]
    [condition] = stored["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "Terminating",
        "True",
        "InstanceDeletionPending",
    )
    stored["metadata"]["finalizers"] = []
    assert not CRDS.strategy.holds_deletion(stored)


def schema_problems(spec: JSON, *, status: bool = False, **root: Any) -> list[str]:
    """Of a definition whose objects have such a spec, below the schema of that spec."""
    schema = {"type": "object", "properties": {"spec": spec}, **root}
    subresources: JSON = {"subresources": {"status": {}}} if status else {}
    found = CRDS.problems(crd(version(schema={"openAPIV3Schema": schema}, **subresources)))
    return [problem.removeprefix("spec.validation.openAPIV3Schema.properties[spec].") for problem in found]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "type: Required value: must not be empty for specified object fields"),
        ({"type": "array"}, "items: Required value: must be specified"),
        (
            {"type": "text"},
            'type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", '
            '"string"',
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            {"type": "object", "anyOf": [{"type": "string"}]},
            "anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            {"type": "string", "pattern": "("},
            'pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: error parsing regexp: '
            "missing closing ): `(`",
        ),
        (
            {"type": "string", "default": 1},
            'default: Invalid value: "integer":  in body must be of type string: "integer"',
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}},
            'default: Invalid value: {"b":1}: must not have unknown fields',
        ),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"},
            "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            {"type": "string", "x-kubernetes-validations": [{"rule": " "}]},
            "x-kubernetes-validations[0].rule: Required value: rule is not specified",
        ),
        (
            {"type": "string", "not": {"x-kubernetes-validations": [{"rule": "true"}]}},
            "not.x-kubernetes-validations: Forbidden: must be empty to be structural",
        ),
        (
            {"type": "object", "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".a", "reason": "Odd"}]},
            'x-kubernetes-validations[0].fieldPath: Invalid value: ".a": must be a valid path',
        ),
    ],
)
def test_schemas_are_structural_and_right(spec: JSON, problem: str) -> None:
    assert problem in schema_problems(spec)


def test_what_is_restricted_must_be_part_of_the_schema() -> None:
    found = schema_problems({"type": "object"}, anyOf=[{"properties": {"a": {"minimum": 1}}}])
    path = "spec.validation.openAPIV3Schema"
    assert found == [f"{path}.properties[a]: Required value: because it is defined in {path}.anyOf[0].properties[a]"]


def test_the_root_of_a_schema_says_little_where_there_is_a_status_subresource() -> None:
    [problem] = schema_problems({"type": "object"}, status=True, maxProperties=3)
    assert problem.startswith('spec.validation.openAPIV3Schema: Invalid value: {"ID":"","Schema":"","Ref":null,')
    assert problem.endswith(
        ": only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength "
        "Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example "
        "XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource "
        "is enabled"
    )


def test_schemas_that_differ_are_told_of_by_version() -> None:
    bad = version("v2", storage=False, schema={"openAPIV3Schema": {"type": "string"}})
    assert CRDS.problems(crd(version(), bad)) == [
        'spec.versions[1].schema.openAPIV3Schema.type: Invalid value: "string": must be object at the root'
    ]


def test_more_faults_than_anybody_reads_are_not_told() -> None:
    names = {f"{'n' * 1000}{number}": {} for number in range(10_000)}
    found = schema_problems({"type": "object", "properties": names})
    assert 1_000 < len(found) < 10_000
