"""Reads a KubeletConfiguration (kubelet.config.k8s.io/v1beta1), as `kubecore kubelet --config` takes it.

Complaints are the kubelet's (kubernetes `pkg/kubelet/apis/config/validation`). What the file says is told by options
that say the same, and by fields of KubeletConfig that no option sets. Fields that nothing here goes by are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import configuration_file, durations, quantity
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.kubelet.configuration_fields import USED, WITHOUT_EFFECT
from kubecore.kubelet.eviction.thresholds import DEFAULT_HARD
from kubecore.kubelet.image_gc import ImageGcConfig
from kubecore.kubelet.logs import LogRotation
from kubecore.kubelet.node_shutdown import ShutdownConfig, ShutdownPeriod

JSON = dict[str, Any]

API_VERSION = "kubelet.config.k8s.io/v1beta1"
KIND = "KubeletConfiguration"

_RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
_GC, _ROTATION = ImageGcConfig(), LogRotation()
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class KubeletFile:
    """`options`: what options of `kubecore kubelet` are given by it, by their parameters' names. `settings`: fields of
    KubeletConfig that no option sets. `ignored`: names of what has no effect."""

    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def load(text: str) -> KubeletFile:
    """From YAML or JSON. Raises InvalidConfiguration."""
    given = configuration_file.read(text, KIND, {API_VERSION: {**USED, **WITHOUT_EFFECT}})
    given = {name: value for name, value in given.items() if value is not None}
    if problems := _problems(given):
        raise InvalidConfiguration(
            f"invalid configuration: {problems[0]}" if len(problems) == 1 else f"[{', '.join(problems)}]"
        )
    try:
        ignored = tuple(name for name in given if name in WITHOUT_EFFECT)
        return KubeletFile(_options(given), _settings(given), ignored)
    except ValueError as error:
        raise InvalidConfiguration(f"invalid configuration: {error}") from None


# ---------------------------------------------------------------------- checking
def _problems(given: JSON) -> list[str]:
    return [*_of_numbers(given), *_of_times(given), *_of_taints(given), *_of_maps(given)]


def _of_numbers(given: JSON) -> list[str]:
    found = []
    if given.get("nodeLeaseDurationSeconds", 1) <= 0:
        found.append("nodeLeaseDurationSeconds must be greater than 0")
    high, low = given.get("imageGCHighThresholdPercent", 85), given.get("imageGCLowThresholdPercent", 80)
    for name, option, value in (("High", "high", high), ("Low", "low", low)):
        if not 0 <= value <= 100:
            found.append(
                f"imageGC{name}ThresholdPercent (--image-gc-{option}-threshold) {value} must be between 0 and 100, "
                "inclusive"
            )
    if low >= high:
        found.append(
            f"imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than "
            f"imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
        )
    if given.get("maxPods", 1) < 1:
        found.append(f"maxPods (--max-pods) {given['maxPods']} must not be a negative number or 0")
    if given.get("containerLogMaxFiles", 2) <= 1:
        found.append("containerLogMaxFiles must be greater than 1")
    return found


def _of_times(given: JSON) -> list[str]:
    periods = {}
    for name in ("shutdownGracePeriod", "shutdownGracePeriodCriticalPods"):
        periods[name] = _seconds(given, name, 0.0)
    whole, critical = periods.values()
    found = []
    if critical > whole:
        found.append(
            f"shutdownGracePeriodCriticalPods {given['shutdownGracePeriodCriticalPods']} must be <= "
            f"shutdownGracePeriod {given.get('shutdownGracePeriod', '0s')}"
        )
    for name, value in periods.items():
        if value < 0 or 0 < value < 1:
            found.append(f"{name} {given[name]} must be either zero or otherwise >= 1 sec")
    if given.get("shutdownGracePeriodByPodPriority") and (whole or critical):
        found.append("Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time")
    if any(one.get("shutdownGracePeriodSeconds", 0) < 0 for one in given.get("shutdownGracePeriodByPodPriority", ())):
        found.append("shutdownGracePeriodByPodPriority: shutdownGracePeriodSeconds must not be negative")
    youngest, oldest = _seconds(given, "imageMinimumGCAge", 120.0), _seconds(given, "imageMaximumGCAge", 0.0)
    if oldest < 0 or (oldest and youngest >= oldest):
        found.append(
            f"imageMaximumGCAge {given['imageMaximumGCAge']} must be greater than imageMinimumGCAge "
            f"{given.get('imageMinimumGCAge', '2m0s')}"
        )
    longest = _seconds(given.get("crashLoopBackOff") or {}, "maxContainerRestartPeriod", 300.0)
    if not 1 <= longest <= 300:
        found.append(
            f"CrashLoopBackOff.MaxContainerRestartPeriod (got: {longest:g} seconds) must be set between 1s and 300s"
        )
    return found


def _of_taints(given: JSON) -> list[str]:
    found = []
    for taint in given.get("registerWithTaints") or ():
        if not taint.get("key") or taint.get("effect") not in _EFFECTS:
            shown = f"{taint.get('key') or ''}={taint.get('value') or ''}:{taint.get('effect') or ''}"
            found.append(f"invalid taint: {shown}")
        if taint.get("timeAdded") is not None:
            found.append("taint.TimeAdded is not nil")
    return found


def _of_maps(given: JSON) -> list[str]:
    """All map texts to texts, in which YAML likes to see numbers."""
    found = []
    for name, wanted in USED.items():
        if wanted is dict:
            found += [
                f'"{name}.{key}" is no string' for key, one in given.get(name, {}).items() if not isinstance(one, str)
            ]
    for name in ("kubeReserved", "systemReserved"):
        found += [f'cannot reserve "{key}" resource in {name}' for key in given.get(name, {}) if key not in _RESERVABLE]
    return found


# ---------------------------------------------------------------------- what it says
def _options(given: JSON) -> JSON:
    """Of `kubecore kubelet`."""
    found: JSON = {}
    for name, option in {
        "staticPodPath": "pod_manifest_path",
        "tlsCertFile": "tls_cert_file",
        "tlsPrivateKeyFile": "tls_private_key_file",
        "clusterDomain": "cluster_domain",
        "maxPods": "max_pods",
        "podPidsLimit": "pod_max_pids",
        "evictionPressureTransitionPeriod": "eviction_pressure_transition_period",
        "evictionMaxPodGracePeriod": "eviction_max_pod_grace_period",
        "shutdownGracePeriod": "shutdown_grace_period",
        "shutdownGracePeriodCriticalPods": "shutdown_grace_period_critical_pods",
        "containerRuntimeEndpoint": "container_runtime_endpoint",
        "imageServiceEndpoint": "image_service_endpoint",
    }.items():
        if given.get(name) not in (None, ""):
            found[option] = given[name]
    for name, option in {"clusterDNS": "cluster_dns", "allowedUnsafeSysctls": "allowed_unsafe_sysctls"}.items():
        if name in given:
            found[option] = ",".join(given[name])
    if authority := ((given.get("authentication") or {}).get("x509") or {}).get("clientCAFile"):
        found["client_ca_file"] = authority
    return found | _eviction_options(given)


def _eviction_options(given: JSON) -> JSON:
    found = {}
    for name, option, operator in (
        ("evictionHard", "eviction_hard", "<"),
        ("evictionSoft", "eviction_soft", "<"),
        ("evictionSoftGracePeriod", "eviction_soft_grace_period", "="),
        ("evictionMinimumReclaim", "eviction_minimum_reclaim", "="),
    ):
        if name in given:
            found[option] = ",".join(f"{signal}{operator}{value}" for signal, value in given[name].items())
    if given.get("mergeDefaultEvictionSettings") and "evictionHard" in given:
        own = [one for one in DEFAULT_HARD.split(",") if one.partition("<")[0] not in given["evictionHard"]]
        found["eviction_hard"] = ",".join([*own, *filter(None, [found["eviction_hard"]])])
    return found


def _settings(given: JSON) -> JSON:
    """Of KubeletConfig. Raises ValueError."""
    found: JSON = {}
    if taints := given.get("registerWithTaints"):
        found["taints"] = tuple(taints)
    if "nodeLeaseDurationSeconds" in given:
        found["lease_seconds"] = given["nodeLeaseDurationSeconds"]
    if "seccompDefault" in given:
        found["seccomp_default"] = given["seccompDefault"]
    if longest := (given.get("crashLoopBackOff") or {}).get("maxContainerRestartPeriod"):
        found["longest_back_off_seconds"] = durations.seconds(longest)
    if periods := given.get("shutdownGracePeriodByPodPriority"):
        told = [ShutdownPeriod(one.get("priority", 0), one.get("shutdownGracePeriodSeconds", 0)) for one in periods]
        found["shutdown"] = ShutdownConfig(by_priority=tuple(told))
    if reserved := _reserved(given):
        found["reserved"] = reserved
    if any(name.startswith(("imageGC", "imageM")) for name in given):
        found["image_gc"] = ImageGcConfig(
            given.get("imageGCHighThresholdPercent", _GC.high_percent),
            given.get("imageGCLowThresholdPercent", _GC.low_percent),
            _seconds(given, "imageMinimumGCAge", _GC.youngest_seconds),
            _seconds(given, "imageMaximumGCAge", 0.0) or None,
        )
    if "containerLogMaxSize" in given or "containerLogMaxFiles" in given:
        size = quantity.nano(given.get("containerLogMaxSize", str(_ROTATION.file_bytes))) // 10**9
        if size <= 0:
            raise ValueError(f"containerLogMaxSize {given['containerLogMaxSize']} must be positive")
        found["log_rotation"] = LogRotation(size, given.get("containerLogMaxFiles", _ROTATION.files))
    return found


def _reserved(given: JSON) -> dict[str, int]:
    """Of what there is of each resource, what pods are not given: in billionths."""
    found: dict[str, int] = {}
    for name in ("kubeReserved", "systemReserved"):
        for resource, text in given.get(name, {}).items():
            amount = quantity.nano(text)
            if amount < 0:
                raise ValueError(f'resource quantity for "{resource}" cannot be negative: {text}')
            found[resource] = found.get(resource, 0) + amount
    return found


def _seconds(given: JSON, name: str, otherwise: float) -> float:
    try:
        return durations.seconds(given[name]) if name in given else otherwise
    except ValueError as error:
        raise InvalidConfiguration(f"{name}: {error}") from None
