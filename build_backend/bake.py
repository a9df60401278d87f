"""Bakes kubecore/api/data: what v1.35 serves and its OpenAPI definitions, taken from packages that hold these facts.

    resources.json          every served resource with verbs, scope and subresources (lightkube-models)
    definitions.json.z      zlib: the OpenAPI v2 definitions as Kubernetes publishes them (kubernetes-validate), and the
                            defaults that follow from zero_values.txt
    schemas.json.z          zlib: the same without descriptions and with zero_values.txt, for the schema engine

Run as a script, or by kubecore_build before maturin. Does nothing while its inputs are unchanged.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import runpy
import sys
import zlib
from pathlib import Path
from typing import Any

KUBERNETES_MINOR = "1.35"

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "kubecore" / "api" / "data"
FACTS = ROOT / "kubecore" / "api" / "resource_facts.py"
ZERO_VALUES = Path(__file__).with_name("zero_values.txt")
OUTPUTS = ("resources.json", "definitions.json.z", "schemas.json.z")

# lightkube's client methods in Kubernetes' words.
_VERBS = {
    "delete": "delete",
    "deletecollection": "deletecollection",
    "get": "get",
    "global_list": "list",
    "global_watch": "watch",
    "list": "list",
    "patch": "patch",
    "post": "create",
    "put": "update",
    "watch": "watch",
}

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"


def bake() -> bool:
    """Writes the data files; returns False when they were up to date already."""
    stamp = DATA / "stamp"
    fingerprint = _fingerprint()
    if stamp.is_file() and stamp.read_text() == fingerprint and all((DATA / name).is_file() for name in OUTPUTS):
        return False
    definitions = _definitions()
    resources = _resources(runpy.run_path(str(FACTS)))
    DATA.mkdir(exist_ok=True)
    _write("resources.json", _compact(resources))
    facts = ZERO_VALUES.read_text()
    _write("definitions.json.z", zlib.compress(_compact(_with_defaults(definitions, facts)), 9))
    engine = _with_zero_values(_without_descriptions(definitions), facts)
    _write("schemas.json.z", zlib.compress(_compact(engine), 9))
    _write("stamp", fingerprint.encode())
    return True


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in (Path(__file__), FACTS, ZERO_VALUES):
        digest.update(path.read_bytes())
    for package in ("kubernetes-validate", "lightkube-models"):
        digest.update(f"{package}={importlib.metadata.version(package)};".encode())
    return digest.hexdigest()


def _write(name: str, content: bytes) -> None:
    """Replaces the file in one step, so that a reader never sees half of it."""
    temporary = DATA / f"{name}.tmp"
    temporary.write_bytes(content)
    temporary.replace(DATA / name)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# --- definitions


def _definitions() -> dict[str, Any]:
    folder = _package_folder("kubernetes_validate") / "kubernetes-json-schema"
    [source] = folder.glob(f"v{KUBERNETES_MINOR}.*-local/_definitions.json")
    definitions: dict[str, Any] = json.loads(source.read_text())["$defs"]
    restored = {name: _restore_schema(definition) for name, definition in sorted(definitions.items())}
    restored[_QUANTITY] = {"type": "string"}
    restored[_INT_OR_STRING] = {"format": "int-or-string", "type": "string"}
    return restored


def _restore_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Undoes what kubernetes-validate changed in one schema object."""
    restored: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            restored[key] = {name: _restore_property(name, item) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            restored[key] = _restore_schema(value)
        elif key == "type" and isinstance(value, list):
            [restored[key]] = [name for name in value if name != "null"]
        elif key == "$ref":
            restored[key] = value.replace("#/$defs/", "#/definitions/")
        else:
            restored[key] = value
    return restored


def _restore_property(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    restored = _restore_schema(schema)
    if name in ("apiVersion", "kind"):
        restored.pop("enum", None)
    return restored


def _without_descriptions(definitions: dict[str, Any]) -> dict[str, Any]:
    return {name: _strip_schema(definition) for name, definition in definitions.items()}


def _strip_schema(schema: dict[str, Any]) -> dict[str, Any]:
    stripped: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "description":
            continue
        if key == "properties":
            stripped[key] = {name: _strip_schema(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            stripped[key] = _strip_schema(value)
        else:
            stripped[key] = value
    return stripped


# Lists that validation or defaulting judges otherwise when they are empty than when they are not there; their
# strategies see to it that no empty one is stored.
_KEPT_EMPTY = {
    "io.k8s.api.autoscaling.v2.HPAScalingRules": "policies",
    "io.k8s.api.core.v1.ResourceQuotaSpec": "scopes",
    "io.k8s.api.networking.v1.ServiceCIDRSpec": "cidrs",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": "managedFields",
}
_SCALARS = frozenset({"string", "boolean", "integer", "number"})


def _with_defaults(definitions: dict[str, Any], facts: str) -> dict[str, Any]:
    """Adds x-defaults to definitions: what OpenAPI v3 tells as defaults. A field that Go always writes has its
    zero value, and one of a struct has {} in any case."""
    defaults: dict[str, dict[str, Any]] = {name: {} for name in definitions}
    for line in facts.splitlines():
        name, _, words = line.partition(":")
        if line.startswith("#") or name not in definitions:
            continue
        properties = definitions[name].get("properties", {})
        for word in words.split():
            field, _, zero = word.partition("=")
            value = {} if field.startswith("-") else json.loads(zero or "null")
            field = field.lstrip("-")
            opaque = (f"#/definitions/{_QUANTITY}", f"#/definitions/{_INT_OR_STRING}")
            if value is not None and field in properties and properties[field].get("$ref") not in opaque:
                defaults[name][field] = value
    return {name: {**definition, "x-defaults": defaults[name]} for name, definition in definitions.items()}


def _with_zero_values(definitions: dict[str, Any], facts: str) -> dict[str, Any]:
    """Adds x-omit-zero, x-always and x-keep-empty to properties; zero_values.txt says what its words mean."""
    for line in facts.splitlines():
        name, _, words = line.partition(":")
        if line.startswith("#") or name not in definitions:
            continue
        properties = definitions[name].get("properties", {})
        kept = set()
        for word in words.split():
            field, has_value, zero = word.partition("=")
            field = field.lstrip("*-")
            kept.add(field)
            if has_value and field in properties:
                properties[field] = {**properties[field], "x-always": json.loads(zero)}
        for field, schema in properties.items():
            if field not in kept and schema.get("type") in _SCALARS:
                schema["x-omit-zero"] = True
    for name, field in _KEPT_EMPTY.items():
        definitions[name]["properties"][field]["x-keep-empty"] = True
    return definitions


# --- resources


def _resources(facts: dict[str, Any]) -> list[dict[str, Any]]:
    entries = [entry for path in _resource_modules() for entry in _api_infos(path)]
    served: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in entries:
        if not entry["action"]:
            resource = _resource(entry, facts)
            served[(entry["group"], entry["version"], entry["plural"])] = resource
    for entry in entries:
        if entry["action"]:
            group, version, _ = entry["parent"]
            parent = served[(group, version, entry["plural"])]
            parent["subresources"].append(_subresource(entry))
    for resource in served.values():
        connect = facts["CONNECT"].get(resource["key"], {})
        for name, (kind, verbs) in connect.items():
            resource["subresources"].append(
                {"name": name, "group": "", "version": "v1", "kind": kind, "verbs": list(verbs)}
            )
        resource["subresources"].sort(key=lambda subresource: subresource["name"])
    order = {group: position for position, group in enumerate(facts["GROUP_ORDER"])}

    def position(resource: dict[str, Any]) -> tuple[Any, ...]:
        group = resource["group"]
        rank = order.get(group, len(order))
        return rank, group, _version_rank(resource["version"]), resource["plural"]

    return sorted(served.values(), key=position)


def _version_rank(version: str) -> tuple[int, int, int]:
    """Sorts stable versions first, then beta, then alpha, newer before older: v2, v1, v1beta2, v1beta1, v1alpha1."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        raise ValueError(f"not a Kubernetes version: {version}")
    stability = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return stability, -int(match[1]), -int(match[3] or 0)


def _resource_modules() -> list[Path]:
    folder = _package_folder("lightkube") / "resources"
    return [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]


def _api_infos(path: Path) -> list[dict[str, Any]]:
    """Every ``_api_info`` of one generated module, read from its syntax tree, so that nothing of it is run."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement in node.body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "_api_info":
                base = ast.unparse(node.bases[0])
                found.append(_api_info(statement.value, namespaced="Namespaced" in base))
    return found


def _api_info(call: ast.expr, *, namespaced: bool) -> dict[str, Any]:
    if not isinstance(call, ast.Call):
        raise ValueError(f"not an ApiInfo: {ast.unparse(call)}")
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    group, version, kind = _resource_def(arguments["resource"])
    return {
        "group": group,
        "version": version,
        "kind": kind,
        "parent": _resource_def(arguments["parent"]) if "parent" in arguments else None,
        "plural": ast.literal_eval(arguments["plural"]),
        "verbs": sorted({_VERBS[verb] for verb in ast.literal_eval(arguments["verbs"])}),
        "action": ast.literal_eval(arguments["action"]) if "action" in arguments else "",
        "namespaced": namespaced,
    }


def _resource_def(call: ast.expr) -> tuple[str, str, str]:
    if not isinstance(call, ast.Call):
        raise ValueError(f"not a ResourceDef: {ast.unparse(call)}")
    group, version, kind = (ast.literal_eval(argument) for argument in call.args)
    return group, version, kind


def _resource(entry: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    group, plural = entry["group"], entry["plural"]
    key = f"{plural}.{group}" if group else plural
    return {
        "key": key,
        "group": group,
        "version": entry["version"],
        "kind": entry["kind"],
        "plural": plural,
        # Every built-in kind's singular name is its kind in lower case.
        "singular": entry["kind"].lower(),
        "namespaced": entry["namespaced"],
        "verbs": [verb for verb in entry["verbs"] if verb not in facts["UNSERVED_VERBS"].get(key, ())],
        "short_names": list(facts["SHORT_NAMES"].get(key, ())),
        "categories": list(facts["CATEGORIES"].get(key, ())),
        "storage": facts["COHABITING"].get(key, key),
        "subresources": [],
    }


def _subresource(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": entry["action"],
        "group": entry["group"],
        "version": entry["version"],
        "kind": entry["kind"],
        "verbs": entry["verbs"],
    }


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"baking needs the package {package}")
    return Path(spec.submodule_search_locations[0])


if __name__ == "__main__":
    changed = bake()
    print(f"{DATA.relative_to(ROOT)}: {'baked' if changed else 'up to date'}", file=sys.stderr)
