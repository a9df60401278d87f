"""Which admission plugins run, and the configuration each of them is given.

After upstream k8s.io/apiserver pkg/admission/config.go and pkg/server/options/admission.go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from kubecore.api import configuration_file
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.admission.names import OFF, ORDERED

_KIND = "AdmissionConfiguration"
_FIELDS: Mapping[str, Any] = {"plugins": [{"name": str, "path": str, "configuration": dict}]}
_VERSIONS = {"apiserver.config.k8s.io/v1": _FIELDS, "apiserver.k8s.io/v1alpha1": _FIELDS}
# Plugins whose configuration once was the whole file, by the field that tells it.
_LEGACY = {"imagePolicy": "ImagePolicyWebhook", "podNodeSelectorPluginConfig": "PodNodeSelector"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionOptions:
    """`enable` and `disable` change the default set; `configuration` has texts (YAML or JSON) by plugin."""

    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    configuration: Mapping[str, str] = field(default_factory=dict)
    not_ready_seconds: int = 300
    """How long pods that say nothing of it stay on a node that is not ready, and on one that cannot be reached."""
    unreachable_seconds: int = 300

    @property
    def plugins(self) -> tuple[str, ...]:
        """Those that run, in order."""
        off = {*OFF, *self.disable} - set(self.enable)
        return tuple(name for name in ORDERED if name not in off)


def misnamed(enable: Collection[str], disable: Collection[str]) -> list[str]:
    """What is wrong with the names of plugins to turn on and off."""
    found = []
    for option, given in (("enable", enable), ("disable", disable)):
        found += [f'{option}-admission-plugins plugin "{name}" is unknown' for name in given if name not in ORDERED]
    if both := sorted(set(enable) & set(disable)):
        listed = " ".join(both)
        found.append(f"[{listed}] in enable-admission-plugins and disable-admission-plugins overlapped")
    return found


def read_configuration(file: Path, plugins: Collection[str]) -> dict[str, str]:
    """Texts by plugin, of an AdmissionConfiguration and the files it names for `plugins`. Raises InvalidConfiguration,
    OSError."""
    text = file.read_text()
    try:
        given = configuration_file.read(text, _KIND, _VERSIONS)
    except InvalidConfiguration:
        if legacy := _legacy(text):
            return dict.fromkeys(legacy, text)
        raise
    found: dict[str, str] = {}
    for one in given.get("plugins") or ():
        name, configuration, path = one.get("name") or "", one.get("configuration"), one.get("path")
        if name in found or name not in plugins:
            continue
        if configuration is not None:
            found[name] = orjson.dumps(configuration).decode()
        elif path:
            found[name] = (file.parent / path).read_text()
    return found


def _legacy(text: str) -> list[str]:
    """Plugins that read the file themselves, from before there was an AdmissionConfiguration."""
    try:
        given = configuration_file.parsed(text)
    except InvalidConfiguration:
        return []
    if not isinstance(given, dict) or ("kind" in given and "apiVersion" in given):
        return []
    return list(_LEGACY.values()) if _LEGACY.keys() & given.keys() else []
