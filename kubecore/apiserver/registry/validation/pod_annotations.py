"""Annotations of pods that mean something: mirror pods, deletion cost, and what fields have replaced.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePodSpecificAnnotations and its relatives.
"""

from __future__ import annotations

import re
from typing import Any

from kubecore.api.quoting import quoted
from kubecore.apiserver.registry.validation.paths import validate_relative_path
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.windows import containers_with_paths

JSON = dict[str, Any]

MIRROR = "kubernetes.io/config.mirror"
_COST = "controller.kubernetes.io/pod-deletion-cost"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_LOCALHOST = "localhost/"
_SECCOMP_DEFAULTS = ("runtime/default", "docker/default")
_COST_FORM = re.compile(r"0|-?[1-9][0-9]{0,9}")


def validate_pod_annotations(problems: Problems, annotations: JSON, spec: JSON, path: str) -> None:
    if MIRROR in annotations and not spec.get("nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        problems.invalid(f"{path}[{MIRROR}]", annotations[MIRROR], detail)
    cost = annotations.get(_COST)
    if cost is not None and not (_COST_FORM.fullmatch(cost) and -(2**31) <= int(cost) < 2**31):
        problems.invalid(f"{path}[{_COST}]", cost, "must be a 32bit integer")
    for key, value in annotations.items():
        if key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER):
            _seccomp(problems, value, f"{path}.{key}")
        elif key.startswith(APP_ARMOR):
            name = key.removeprefix(APP_ARMOR)
            if all(one.get("name") != name for one, _ in containers_with_paths(spec, "")):
                problems.invalid(f"{path}[{key}]", name, "container not found")
            if value not in ("", "runtime/default", "unconfined") and not value.startswith(_LOCALHOST):
                problems.invalid(f"{path}[{key}]", value, f"invalid AppArmor profile name: {quoted(value)}")


def _seccomp(problems: Problems, profile: str, path: str) -> None:
    if profile in _SECCOMP_DEFAULTS or profile == "unconfined":
        return
    if profile.startswith(_LOCALHOST):
        validate_relative_path(problems, profile.removeprefix(_LOCALHOST), path)
    else:
        problems.invalid(path, profile, "must be a valid seccomp profile")


def validate_pod_annotations_update(problems: Problems, annotations: JSON, old: JSON) -> None:
    """Annotations that may not come, go or change."""
    for key in dict.fromkeys([*old, *annotations]):
        if annotations.get(key) == old.get(key):
            continue
        where, verb = f"metadata.annotations[{key}]", "remove or update" if key in old else "add"
        if key.startswith(APP_ARMOR):
            problems.forbidden(where, f"may not {verb} AppArmor annotations")
        elif key == MIRROR:
            problems.forbidden(where, f"may not {verb} mirror pod annotation")


def validate_profiles_as_annotated(problems: Problems, annotations: JSON, spec: JSON, path: str) -> None:
    """Where both an old annotation and its field are given, they say the same."""
    context = spec.get("securityContext") or {}
    if context.get("seccompProfile") and SECCOMP_POD in annotations:
        where = f"{path}.securityContext.seccompProfile"
        _match(problems, annotations[SECCOMP_POD], context["seccompProfile"], where, "seccomp", _SECCOMP_DEFAULTS)
    windows = (spec.get("os") or {}).get("name") == "windows"
    for container, where in containers_with_paths(spec, path):
        own, name = container.get("securityContext") or {}, container.get("name") or ""
        noted = annotations.get(SECCOMP_CONTAINER + name)
        if noted is not None and own.get("seccompProfile"):
            at = f"{where}.securityContext.seccompProfile"
            _match(problems, noted, own["seccompProfile"], at, "seccomp", _SECCOMP_DEFAULTS)
        noted = annotations.get(APP_ARMOR + name)
        profile = own.get("appArmorProfile") or context.get("appArmorProfile")
        if noted is not None and profile and not windows:
            at = f"{where}.securityContext.appArmorProfile"
            _match(problems, noted, profile, at, "apparmor", ("runtime/default",))


def _match(problems: Problems, noted: str, profile: JSON, path: str, kind: str, defaults: tuple[str, ...]) -> None:
    match profile.get("type"):
        case "Unconfined":
            fits = noted == "unconfined"
        case "RuntimeDefault":
            fits = noted in defaults
        case "Localhost":
            fits = noted.startswith(_LOCALHOST)
            if fits and noted.removeprefix(_LOCALHOST) != profile.get("localhostProfile"):
                problems.forbidden(f"{path}.localhostProfile", f"{kind} profile in annotation and field must match")
        case _:
            fits = True
    if not fits:
        problems.forbidden(f"{path}.type", f"{kind} type in annotation and field must match")


def app_armor_profile(noted: str) -> JSON | None:
    """The field an AppArmor annotation stands for; None where there is none."""
    if noted == "unconfined":
        return {"type": "Unconfined"}
    if noted == "runtime/default":
        return {"type": "RuntimeDefault"}
    localhost = noted.removeprefix(_LOCALHOST)
    return {"type": "Localhost", "localhostProfile": localhost} if localhost and localhost != noted else None
