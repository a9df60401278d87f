"""Specifications of other servers among our own."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.openapi.merging import ForeignSpecification, merged

JSON = dict[str, Any]
OWN: JSON = {
    "swagger": "2.0",
    "info": {"title": "Kubernetes", "version": "v1.35.0"},
    "paths": {"/apis/": {}, "/api/v1/pods": {"get": {"operationId": "listPods"}}},
    "definitions": {"Meta": {"type": "object"}, "Pod": {"type": "object"}},
}
ROOT = "/apis/wardle.example.com/v1alpha1"


def operation(name: str) -> JSON:
    return {"get": {"responses": {"200": {"schema": {"$ref": f"#/definitions/{name}"}}}}}


def told(definitions: JSON, *, paths: JSON | None = None, version: str = "v1alpha1") -> ForeignSpecification:
    given = paths or {f"{ROOT}/flunders": operation("Flunder")}
    document = {"swagger": "2.0", "paths": given, "definitions": definitions}
    return ForeignSpecification("wardle.example.com", version, document, "digest")


def test_paths_of_the_version_come_with_what_they_need_and_nothing_else() -> None:
    paths = {f"{ROOT}/flunders": operation("Flunder"), "/apis/": {}, "/version/": operation("Info")}
    flunder = {"properties": {"metadata": {"$ref": "#/definitions/Meta"}}}
    made = merged(OWN, [told({"Flunder": flunder, "Info": {}, "Meta": {"type": "object"}}, paths=paths)])
    assert list(made["paths"]) == ["/api/v1/pods", "/apis/", f"{ROOT}/flunders"]
    assert made["definitions"] == {**OWN["definitions"], "Flunder": flunder}
    assert OWN["definitions"].keys() == {"Meta", "Pod"}


def test_a_definition_that_is_another_one_gets_another_name_wherever_it_is_named() -> None:
    flunder = {"properties": {"metadata": {"$ref": "#/definitions/Meta"}}}
    made = merged(OWN, [told({"Flunder": flunder, "Meta": {"type": "string"}})])
    assert made["definitions"]["Meta"] == {"type": "object"}
    assert made["definitions"]["Meta_v2"] == {"type": "string"}
    assert made["definitions"]["Flunder"] == {"properties": {"metadata": {"$ref": "#/definitions/Meta_v2"}}}


def test_a_third_one_gets_a_third_name_and_one_that_is_the_same_none() -> None:
    second = told({"Flunder": {"x": 1}})
    third = told(
        {"Flunder": {"x": 2}}, paths={"/apis/wardle.example.com/v1beta1/x": operation("Flunder")}, version="v1beta1"
    )
    own = {**OWN, "definitions": {"Flunder": {"x": 0}}}
    made = merged(own, [second, third, second])
    assert made["definitions"] == {"Flunder": {"x": 0}, "Flunder_v2": {"x": 1}, "Flunder_v3": {"x": 2}}
    assert made["paths"]["/apis/wardle.example.com/v1beta1/x"] == operation("Flunder_v3")


def test_a_path_that_is_there_already_stays() -> None:
    own = {**OWN, "paths": {f"{ROOT}/flunders": operation("Pod")}}
    assert merged(own, [told({"Flunder": {}})])["paths"] == own["paths"]
