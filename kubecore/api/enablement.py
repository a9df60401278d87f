"""Which built-in versions are served: `--runtime-config`.

After kubernetes `pkg/controlplane/instance.go` (stable versions are on, beta and alpha ones off) and apiserver
`pkg/server/resourceconfig/helpers.go` (what says otherwise).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kubecore.api import scheme
from kubecore.api.scheme import Resource, Scheme

_STAGES = {
    "api/all": re.compile(""),
    "api/ga": re.compile(r"v\d+$"),
    "api/beta": re.compile(r"v\d+beta\d+$"),
    "api/alpha": re.compile(r"v\d+alpha\d+$"),
}
_TRUE, _FALSE = ("", "1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def served(runtime_config: Mapping[str, str]) -> Scheme:
    """What is served with these settings, of which the finer one holds: `api/beta`, `resource.k8s.io/v1beta1`,
    `resource.k8s.io/v1beta1/resourceclaims`, each `true` or `false`. Raises ValueError with kube-apiserver's words."""
    if not runtime_config:
        return scheme.default()
    _check(runtime_config)
    everything = scheme.every()
    return Scheme((one for one in everything.resources if _is_served(one, runtime_config)), of=everything)


def _check(settings: Mapping[str, str]) -> None:
    if settings == {"api/all": "false"}:
        raise ValueError("invalid key with only api/all=false")
    unknown = []
    for key, value in settings.items():
        if key in _STAGES:
            if value not in ("true", "false"):
                raise ValueError(f"invalid value {key}={value}")
            continue
        parts = key.split("/")
        if len(parts) not in (2, 3):
            raise ValueError(f"runtime-config invalid key {key}")
        group = scheme.every().group(parts[0]) if parts[0] else None
        if group is None:
            unknown.append(parts[0])
        elif parts[1] not in group.versions:
            raise ValueError(f"group version {parts[0]}/{parts[1]} that has not been registered")
        if value not in (*_TRUE, *_FALSE):
            raise ValueError(
                f'invalid value of {key}: {value}, err: strconv.ParseBool: parsing "{value}": invalid syntax'
            )
        if len(parts) == 3 and parts[2] != parts[2].lower():
            raise ValueError(
                f'invalid key {key}: group/version/resource and resource is always lowercase plural, not "{parts[2]}"'
            )
    if unknown:
        raise ValueError(f"unknown api groups {','.join(unknown)}")


def _is_served(resource: Resource, settings: Mapping[str, str]) -> bool:
    chosen = scheme.is_stable(resource.version)
    for stage, pattern in _STAGES.items():
        if stage in settings and pattern.match(resource.version):
            chosen = settings[stage] == "true"
    for key in (resource.api_version, f"{resource.api_version}/{resource.plural}"):
        if key in settings:
            chosen = settings[key] in _TRUE
    return chosen
