"""What a definition says, as the server keeps it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubecore.apiserver.registry.custom.definition import Definition, parse, pointer, schema_of

JSON = dict[str, Any]


def version(name: str, **more: Any) -> JSON:
    return {"name": name, "served": True, "storage": name == "v1", **more}


def parsed(*versions: JSON, status: JSON | None = None, deleted: str = "", **spec: Any) -> Definition:
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    return parse(
        orjson.dumps(
            {
                "metadata": {"name": "widgets.example.com", "uid": "1", "deletionTimestamp": deleted},
                "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions, **spec},
                "status": {"acceptedNames": names, **(status or {})},
            }
        )
    )


def test_the_preferred_version_comes_first() -> None:
    assert [one.name for one in parsed(version("v1beta1"), version("v1"), version("v1alpha1")).versions] == [
        "v1",
        "v1beta1",
        "v1alpha1",
    ]


def test_a_deprecated_version_warns_of_the_one_to_use() -> None:
    told = parsed(version("v1"), version("v1beta1", deprecated=True), version("v1alpha1", deprecated=True))
    assert [one.warning for one in told.versions] == [
        "",
        "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget",
        "example.com/v1alpha1 Widget is deprecated; use example.com/v1 Widget",
    ]


def test_a_deprecated_version_warns_in_its_own_words() -> None:
    [found] = parsed(version("v1", deprecated=True, deprecationWarning="do not")).versions
    assert found.warning == "do not"


def test_the_newest_version_has_no_better_one() -> None:
    assert parsed(version("v1", deprecated=True)).versions[0].warning == "example.com/v1 Widget is deprecated"


def test_another_schema_makes_the_cache_another() -> None:
    one = parsed(version("v1", schema={"openAPIV3Schema": {"type": "object"}}))
    other = parsed(version("v1", schema={"openAPIV3Schema": {"type": "object", "properties": {}}}))
    columns = parsed(
        version(
            "v1",
            schema={"openAPIV3Schema": {"type": "object"}},
            additionalPrinterColumns=[{"name": "A", "type": "string", "jsonPath": ".a"}],
        )
    )
    assert one.cached_as != other.cached_as
    assert one.cached_as == columns.cached_as
    assert one != columns


def test_objects_of_several_stored_versions_are_uniform_without_a_webhook_only() -> None:
    config = {"url": "https://example.com"}
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}
    both = {"storedVersions": ["v1beta1", "v1"]}
    assert parsed(version("v1"), version("v1beta1"), status=both).uniform
    assert not parsed(version("v1"), version("v1beta1"), status=both, conversion=conversion).uniform


def test_a_definition_at_its_end_tells_of_no_updates() -> None:
    found = parsed(version("v1"), deleted="2026-01-01T00:00:00Z")
    served, told = found.resource(found.storage), found.resource(found.storage, told=True)
    assert served.verbs - told.verbs == {"create", "patch", "update"}


def test_the_schema_is_read_from_the_stored_bytes() -> None:
    body = orjson.dumps(
        {
            "metadata": {"name": "w"},
            "spec": {
                "group": "example.com",
                "scope": "Cluster",
                "versions": [version("v1", schema={"openAPIV3Schema": {"type": "object"}})],
            },
        }
    )
    assert schema_of(body, "v1") == b'{"type":"object"}'


def test_what_is_no_definition_is_refused() -> None:
    with pytest.raises(ValueError, match="not a CustomResourceDefinition"):
        parse(b'{"metadata":{"name":"x"},"spec":{}}')


def test_a_field_path_becomes_a_pointer() -> None:
    assert pointer(".spec.a/b") == "/spec/a~1b"
