"""Custom resources over real sockets: the read path in Rust serves them as it does all others, and lets them go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api
from .definitions import DEFINITIONS, begin, crd, define, gone, seen, version, widget
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def admin(server: APIServer, directory: Path) -> Http:
    return Http(server, directory, pair=server.issue_client_certificate("root", ["system:masters"]))


def path(api: Api, group: str, plural: str, name: str = "", *, version: str = "v1") -> str:
    return f"/apis/{group}/{version}/namespaces/{api.namespace}/{plural}" + (f"/{name}" if name else "")


async def test_reads_are_served_in_every_form(server: APIServer, api: Api, cluster: Api, tmp_path: Path) -> None:
    columns = [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]
    names = {"listKind": "WidgetCollection"}
    await define(cluster, crd("forms", "Widget", version(additionalPrinterColumns=columns), group="f.com", names=names))
    collection = path(api, "f.com", "forms")
    async with admin(server, tmp_path) as http:
        created = await http.call("POST", collection, widget("a", "f.com/v1"))
        assert created.status == 201
        assert (await http.call("GET", f"{collection}/a")).json == created.json
        listed = await http.call("GET", f"{collection}?limit=1")
        assert (listed.json["kind"], listed.json["items"]) == ("WidgetCollection", [created.json])
        table = (await http.call("GET", collection, headers={"Accept": TABLE})).json
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size"]
        assert table["rows"][0]["cells"] == ["a", 3]
        partial = (await http.call("GET", collection, headers={"Accept": METADATA})).json
        assert (partial["kind"], partial["items"][0]["metadata"]["name"]) == ("PartialObjectMetadataList", "a")


async def test_protobuf_is_not_spoken(server: APIServer, api: Api, cluster: Api, tmp_path: Path) -> None:
    """Semantics 12."""
    await define(cluster, crd("texts", "Widget", group="t.com"))
    collection = path(api, "t.com", "texts")
    async with admin(server, tmp_path) as http:
        alone = await http.call("GET", collection, headers={"Accept": PROTOBUF})
        # As upstream: the refusal is a Status, which has such a form.
        assert (alone.status, alone.headers["Content-Type"], alone.body[:4]) == (406, PROTOBUF, b"k8s\x00")
        both = await http.call("GET", collection, headers={"Accept": f"{PROTOBUF},application/json"})
        assert (both.status, both.headers["Content-Type"]) == (200, "application/json")
        sent = await http.call("POST", collection, b"k8s\x00", headers={"Content-Type": PROTOBUF})
        assert (sent.status, sent.json["reason"]) == (415, "UnsupportedMediaType")


async def test_fields_that_cannot_be_selected_are_named(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    """Semantics 11."""
    await define(cluster, crd("picks", "Widget", version(selectableFields=[{"jsonPath": ".spec.size"}]), group="p.com"))
    await define(cluster, crd("nones", "Widget", group="n.com"))
    async with admin(server, tmp_path) as http:
        for name, size in (("a", 1), ("b", 2)):
            await http.call("POST", path(api, "p.com", "picks"), widget(name, "p.com/v1", size=size))
        found = await http.call("GET", path(api, "p.com", "picks") + "?fieldSelector=spec.size%3D2")
        assert [item["metadata"]["name"] for item in found.json["items"]] == ["b"]
        refused = await http.call("GET", path(api, "n.com", "nones") + "?fieldSelector=spec.size%3D2")
        assert (refused.status, refused.json["message"]) == (400, "field label not supported: spec.size")


async def test_a_watch_ends_with_its_resource(server: APIServer, api: Api, cluster: Api, tmp_path: Path) -> None:
    await define(cluster, crd("ends", "Widget", group="e.com"))
    collection = path(api, "e.com", "ends")
    async with admin(server, tmp_path) as http, http.stream(f"{collection}?watch=true") as stream:
        await http.call("POST", collection, widget("a", "e.com/v1"))
        assert orjson.loads(await stream.content.readline())["type"] == "ADDED"
        await cluster.delete(DEFINITIONS, "ends.e.com")
        assert orjson.loads(await stream.content.readline())["type"] == "DELETED"
        async with asyncio.timeout(60):
            assert await stream.content.readline() == b""
        assert (await http.call("GET", collection)).status == 404


async def test_a_watch_of_tables_ends_without_a_word_where_the_resource_is_served_anew_or_no_more(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    made = await define(cluster, crd("anews", "Widget", group="anew.com"))
    watch = f"{path(api, 'anew.com', 'anews')}?watch=true"
    async with admin(server, tmp_path) as http:
        await http.call("POST", path(api, "anew.com", "anews"), widget("a", "anew.com/v1"))
        for served in (True, False):
            async with asyncio.timeout(120), http.stream(watch, headers={"Accept": TABLE}) as stream:
                assert orjson.loads(await stream.content.readline())["type"] == "ADDED"
                if served:
                    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Another."
                    assert (await cluster.update(DEFINITIONS, made))[0] == 200
                else:
                    await cluster.delete(DEFINITIONS, "anews.anew.com")
                kinds = [orjson.loads(line)["type"] for line in (await stream.content.read()).splitlines()]
                assert kinds == ([] if served else ["DELETED"])


async def test_a_deprecated_version_warns_whoever_uses_it(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    old = version("v1beta1", storage=False, deprecated=True)
    await define(cluster, crd("olds", "Widget", version(), old, group="o.com"))
    told = '299 - "o.com/v1beta1 Widget is deprecated; use o.com/v1 Widget"'
    collection = path(api, "o.com", "olds", version="v1beta1")
    async with admin(server, tmp_path) as http:
        made = await http.call("POST", collection, widget("a", "o.com/v1beta1"))
        assert (made.status, made.headers["Warning"]) == (201, told)
        for target in (collection, f"{collection}/a"):
            assert (await http.call("GET", target)).headers["Warning"] == told
        assert "Warning" not in (await http.call("GET", path(api, "o.com", "olds"))).headers


async def test_a_version_shows_what_its_own_schema_knows(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    smaller = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    await define(cluster, crd("views", "Widget", version(), version("v0", smaller, storage=False), group="v.com"))
    async with admin(server, tmp_path) as http:
        await http.call("POST", path(api, "v.com", "views"), widget("a", "v.com/v1", color="red"))
        seen = (await http.call("GET", path(api, "v.com", "views", "a", version="v0"))).json
        assert (seen["apiVersion"], seen["spec"]) == ("v.com/v0", {"size": 3})
        async with http.stream(path(api, "v.com", "views", version="v0") + "?watch=true") as stream:
            assert orjson.loads(await stream.content.readline())["object"]["spec"] == {"size": 3}


async def test_roles_allow_custom_resources(server: APIServer, api: Api, cluster: Api, tmp_path: Path) -> None:
    await define(cluster, crd("roles", "Widget", group="r.com"))
    rule = {"apiGroups": ["r.com"], "resources": ["roles"], "verbs": ["get", "list"]}
    await api.create("rbac.authorization.k8s.io/v1/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await api.create("rbac.authorization.k8s.io/v1/rolebindings", binding)
    async with Http(server, tmp_path, pair=server.issue_client_certificate("jane")) as http:
        assert (await http.call("GET", path(api, "r.com", "roles"))).status == 200
        refused = await http.call("POST", path(api, "r.com", "roles"), widget("a", "r.com/v1"))
        assert refused.json["message"] == (
            'roles.r.com is forbidden: User "jane" cannot create resource "roles" in API group "r.com" '
            f'in the namespace "{api.namespace}"'
        )


async def test_columns_change_without_ending_watches(server: APIServer, api: Api, cluster: Api, tmp_path: Path) -> None:
    made = await define(cluster, crd("cols", "Widget", group="c.com"))
    collection = path(api, "c.com", "cols")
    async with admin(server, tmp_path) as http, http.stream(f"{collection}?watch=true") as stream:
        columns = [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}]
        made["spec"]["versions"][0] |= {"additionalPrinterColumns": columns, "selectableFields": []}
        status, _ = await cluster.update(DEFINITIONS, made)
        assert status == 200
        await http.call("POST", collection, widget("a", "c.com/v1"))
        assert orjson.loads(await stream.content.readline())["object"]["metadata"]["name"] == "a"
        # Definitions are taken one after another: the change has been when a later one is established.
        await define(cluster, crd("afters", "After", group="after.com"))
        table = (await http.call("GET", collection, headers={"Accept": TABLE})).json
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Color"]


async def test_a_definition_made_again_starts_anew(server: APIServer, api: Api, cluster: Api, tmp_path: Path) -> None:
    definition = crd("agains", "Widget", group="a.com")
    await define(cluster, definition)
    resource = "a.com/v1/agains"
    await api.create(resource, widget("a", "a.com/v1"))
    unserved = begin(seen(api, resource, "ERROR"))
    going = begin(gone(cluster, "agains.a.com"))
    await cluster.delete(DEFINITIONS, "agains.a.com")
    await going
    await unserved
    await define(cluster, definition)
    async with admin(server, tmp_path) as http:
        assert (await http.call("GET", path(api, "a.com", "agains"))).json["items"] == []
        assert (await http.call("POST", path(api, "a.com", "agains"), widget("a", "a.com/v1"))).status == 201


async def test_a_rule_that_forgives_what_has_not_changed_warns_of_it(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    fields: JSON = {"a": {"type": "integer"}, "b": {"type": "integer"}}
    schema: JSON = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    await define(cluster, crd("lates", "Late", version(schema=schema), group="late.com"))
    late = {"apiVersion": "late.com/v1", "kind": "Late", "metadata": {"name": "a"}, "spec": {"a": 1, "b": 1}}
    assert (await api.create("late.com/v1/lates", late))[0] == 201
    fields["a"]["x-kubernetes-validations"] = [{"rule": "self > 5", "message": "is too small"}]
    renewed = begin(seen(api, "late.com/v1/lates", "ERROR"))
    await cluster.patch(DEFINITIONS, "lates.late.com", {"spec": {"versions": [version(schema=schema)]}})
    await renewed
    patch, kind = {"spec": {"b": 2}}, {"Content-Type": "application/merge-patch+json"}
    async with admin(server, tmp_path) as http:
        changed = await http.call("PATCH", path(api, "late.com", "lates", "a"), patch, kind)
    assert changed.status == 200
    assert changed.headers["Warning"] == '299 - "spec.a: Invalid value: 1: is too small"'


async def test_a_list_says_that_nothing_goes_on(server: APIServer, api: Api, cluster: Api, tmp_path: Path) -> None:
    """As upstream's unstructured lists do; those of built-in kinds leave it out."""
    await define(cluster, crd("ends", "Widget", group="ends.com"))
    async with admin(server, tmp_path) as http:
        assert (await http.call("GET", path(api, "ends.com", "ends"))).json["metadata"]["continue"] == ""
        await http.call("POST", path(api, "ends.com", "ends"), widget("a", "ends.com/v1"))
        await http.call("POST", path(api, "ends.com", "ends"), widget("b", "ends.com/v1"))
        assert (await http.call("GET", path(api, "ends.com", "ends") + "?limit=1")).json["metadata"]["continue"] != ""
        maps = await http.call("GET", f"/api/v1/namespaces/{api.namespace}/configmaps")
        assert "continue" not in maps.json["metadata"]


async def test_discovery_tells_verbs_in_upstreams_order(server: APIServer, cluster: Api, tmp_path: Path) -> None:
    await define(cluster, crd("orders", "Widget", version(subresources={"status": {}}), group="orders.com"))
    async with admin(server, tmp_path) as http:
        resources = (await http.call("GET", "/apis/orders.com/v1")).json["resources"]
    verbs = {one["name"]: one["verbs"] for one in resources}
    assert verbs["orders"] == ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
    assert verbs["orders/status"] == ["get", "patch", "update"]


async def test_what_was_written_in_another_version_has_the_defaults_of_the_stored_one(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    """Upstream fills in defaults by the schema of the stored version whenever it reads from etcd."""
    old = version("v1beta1", storage=False)
    new_schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"new": {"type": "string", "default": "N"}}}},
    }
    await define(cluster, crd("filled", "Filled", old, version("v1", new_schema), group="filled.com"))
    async with admin(server, tmp_path) as http:
        made = {"apiVersion": "filled.com/v1beta1", "kind": "Filled", "metadata": {"name": "a"}, "spec": {"size": 1}}
        created = await http.call("POST", path(api, "filled.com", "filled", version="v1beta1"), made)
        assert (created.status, "new" in created.json["spec"]) == (201, False)
        assert (await http.call("GET", path(api, "filled.com", "filled", "a"))).json["spec"] == {"new": "N"}


async def test_an_embedded_objects_metadata_is_shown_in_order(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"inner": inner}}}}
    await define(cluster, crd("embeds", "Embed", version("v1", schema), group="embeds.com"))
    head = 'Embed in version "v1" cannot be handled as a Embed: spec.inner.metadata: Invalid value: '
    async with admin(server, tmp_path) as http:
        for metadata, told in (
            (
                {"name": "x", "labels": {"a": 1}},
                '{"labels":{"a":1},"name":"x"}: json: cannot unmarshal number into Go struct field '
                "ObjectMeta.labels of type string",
            ),
            ([], "[]: json: cannot unmarshal array into Go value of type v1.ObjectMeta"),
        ):
            made = {"apiVersion": "embeds.com/v1", "kind": "Embed", "metadata": {"name": "a"}}
            made["spec"] = {"inner": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}}
            answer = await http.call("POST", path(api, "embeds.com", "embeds"), made)
            assert (answer.status, answer.json["message"]) == (400, head + told)


async def test_an_object_of_another_version_is_told_what_is_unknown_there(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    """Of a version that is not there nothing is known."""
    old = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"old": {"type": "string"}}}}}
    versions = [version("v1"), version("v1beta1", old, storage=False)]
    await define(cluster, crd("others", "Other", *versions, group="others.com"))
    collection = path(api, "others.com", "others")
    mismatch = "the API version in the data ({}) does not match the expected API version (others.com/v1)"
    async with admin(server, tmp_path) as http:
        for given, unknown in (("v9", "spec"), ("v1beta1", "spec.size")):
            made = {**widget("a", f"others.com/{given}"), "kind": "Other"}
            answer = await http.call("POST", collection, made)
            told = f'299 - "unknown field \\"{unknown}\\""'
            assert (answer.status, answer.json["message"]) == (400, mismatch.format(made["apiVersion"]))
            assert answer.headers["Warning"] == told
            strict = await http.call("PUT", f"{collection}/a?fieldValidation=Strict", made)
            problem = f'strict decoding error: unknown field "{unknown}"'
            told = f'Other in version "{given}" cannot be handled as a Other: {problem}'
            assert (strict.status, strict.json["message"]) == (400, told)


async def test_a_patch_to_another_version_is_told_what_is_unknown_there(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    """Of a version that is not there nothing is known."""
    old = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"old": {"type": "string"}}}}}
    versions = [version("v1"), version("v1beta1", old, storage=False)]
    await define(cluster, crd("patched", "Patched", *versions, group="patched.com"))
    merge = {"Content-Type": "application/merge-patch+json"}
    async with admin(server, tmp_path) as http:
        made = {**widget("a", "patched.com/v1"), "kind": "Patched"}
        assert (await http.call("POST", path(api, "patched.com", "patched"), made)).status == 201
        kept = path(api, "patched.com", "patched", "a")
        for given, *unknown in (("v9", "spec"), ("v1beta1", "spec.color", "spec.size")):
            patch = {"apiVersion": f"patched.com/{given}", "spec": {"old": "o"}}
            answer = await http.call("PATCH", kept, patch, merge)
            told = f'apiVersion: Invalid value: "patched.com/{given}": must be patched.com/v1'
            assert (answer.status, told in answer.json["message"]) == (422, True)
            warnings = [f'299 - "unknown field \\"{one}\\""' for one in unknown]
            assert answer.headers.getall("Warning") == warnings
            strict = await http.call("PATCH", f"{kept}?fieldValidation=Strict", patch, merge)
            assert (strict.status, strict.json["details"]["causes"][0]["field"]) == (422, "patch")
            problems = ", ".join(f'unknown field "{one}"' for one in unknown)
            assert strict.json["message"].endswith(f"strict decoding error: {problems}")
            ignored = await http.call("PATCH", f"{kept}?fieldValidation=Ignore", patch, merge)
            assert (ignored.status, "Warning" in ignored.headers) == (422, False)


async def test_documents_of_custom_resources_are_titled_as_upstream_titles_them(
    server: APIServer, cluster: Api, tmp_path: Path
) -> None:
    await define(cluster, crd("titles", "Title", group="titles.com"))
    async with admin(server, tmp_path) as http:
        custom = (await http.call("GET", "/openapi/v3/apis/titles.com/v1")).json
        built_in = (await http.call("GET", "/openapi/v3/apis/apps/v1")).json
    assert custom["info"] == {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}
    assert "securitySchemes" not in custom["components"]
    assert built_in["info"]["title"] == "Kubernetes"
    assert "securitySchemes" in built_in["components"]
