"""AppArmor profiles that a new pod names in annotations, as was done before there was a field.

After kubernetes `pkg/registry/core/pod/strategy.go`, applyAppArmorVersionSkew.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation.pod_annotations import APP_ARMOR, app_armor_profile
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.security import validate_app_armor
from kubecore.apiserver.registry.validation.windows import containers_with_paths

JSON = dict[str, Any]


def adopt_profiles(pod: JSON) -> list[str]:
    """Writes them into containers that have no field, in place; texts of warnings."""
    spec, annotations = pod.get("spec") or {}, pod["metadata"].get("annotations") or {}
    if (spec.get("os") or {}).get("name") == "windows":
        return []
    told: list[str] = []
    of_pod = (spec.get("securityContext") or {}).get("appArmorProfile")
    for container, _ in containers_with_paths(spec, ""):
        key = APP_ARMOR + (container.get("name") or "")
        context = container.get("securityContext") or {}
        if key not in annotations or context.get("appArmorProfile") is not None:
            continue
        profile, problems = app_armor_profile(annotations[key]), Problems()
        validate_app_armor(problems, profile, "")
        usable = profile is not None and not problems
        if usable and profile == of_pod:
            continue
        if usable:
            container["securityContext"] = {**context, "appArmorProfile": profile}
        told.append(f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')
    return told
