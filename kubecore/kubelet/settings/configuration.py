"""Reads a KubeletConfiguration (kubelet.config.k8s.io/v1beta1), as `kubecore kubelet --config` takes it.

Complaints are the kubelet's (kubernetes `pkg/kubelet/apis/config/validation`). What the file says is told by options
that say the same, and by fields of KubeletConfig that no option sets. Fields that nothing here goes by are named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubecore.api import configuration_file, durations, label_names, quantity
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.errors import aggregated
from kubecore.api.quoting import quoted
from kubecore.kubelet.eviction.thresholds import DEFAULT_HARD
from kubecore.kubelet.logs.writing import LogRotation
from kubecore.kubelet.node.image_gc import ImageGcConfig
from kubecore.kubelet.node.shutdown import ShutdownConfig, ShutdownPeriod
from kubecore.kubelet.pods.pull_records import NOT_LISTED, NOT_PRELOADED, POLICIES, Verification, pattern_problem
from kubecore.kubelet.settings.fields import DURATIONS, FIELDS, SO_ANYWAY, USED, WITHOUT_EFFECT, ZERO_IS_A_VALUE

JSON = dict[str, Any]

API_VERSION = "kubelet.config.k8s.io/v1beta1"
KIND = "KubeletConfiguration"

_RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
_GC, _ROTATION = ImageGcConfig(), LogRotation()
_PODS, _NONE = "pods", "none"
_ENFORCED = (
    _PODS,
    "system-reserved",
    "system-reserved-compressible",
    "kube-reserved",
    "kube-reserved-compressible",
    _NONE,
)
_POLICY, _LISTED = "imagePullCredentialsVerificationPolicy", "preloadedImagesVerificationAllowlist"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class KubeletFile:
    """`options`: what options of `kubecore kubelet` are given by it, by their parameters' names. `settings`: fields of
    KubeletConfig that no option sets. `ignored`: names of what has no effect, `a.b` for a part of `a`."""

    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def load(text: str, folder: Path = Path()) -> KubeletFile:
    """From YAML or JSON. Relative paths in it are of `folder`. Raises InvalidConfiguration."""
    read = configuration_file.read(text, KIND, {API_VERSION: FIELDS})
    given = _without_zeros(_without_nulls(read, FIELDS), FIELDS)
    if problems := _problems(given):
        raise InvalidConfiguration(aggregated(problems))
    ignored = [*_ignored(given, WITHOUT_EFFECT), *_not_enforced(given)]
    try:
        return KubeletFile(_options(given, folder), _settings(given), tuple(ignored))
    except ValueError as error:
        raise InvalidConfiguration(f"invalid configuration: {error}") from None


# ---------------------------------------------------------------------- what says nothing
def _without_nulls(value: Any, wanted: Any) -> Any:
    """A null in a list is a zero of what is in it, elsewhere it is nothing: as Go decodes them."""
    if isinstance(value, dict):
        parts = wanted if isinstance(wanted, Mapping) else {}
        return {name: _without_nulls(one, parts.get(name)) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        inner = wanted[0] if isinstance(wanted, list) else None
        zero: Any = {} if isinstance(inner, Mapping) else ""
        return [zero if one is None else _without_nulls(one, inner) for one in value]
    return value


def _without_zeros(given: JSON, fields: Mapping[str, Any], path: str = "") -> JSON:
    """What has the default when it is zero (`SetDefaults_KubeletConfiguration`) is not given then."""
    found = {}
    for name, value in given.items():
        wanted, where = fields.get(name), f"{path}{name}"
        said = _without_zeros(value, wanted, f"{where}.") if isinstance(wanted, Mapping) else value
        if not _is_zero(where, said) or where in ZERO_IS_A_VALUE:
            found[name] = said
    return found


def _is_zero(where: str, value: Any) -> bool:
    """Raises InvalidConfiguration for durations that are none."""
    if where in DURATIONS:
        return _duration(where, value) == 0
    if where.startswith("logging"):
        if isinstance(value, dict):
            return all(_is_zero(f"{where}.{name}", one) for name, one in value.items())
        return not value or value == "0"  # a quantity
    return not value


def _ignored(given: JSON, fields: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in given.items():
        wanted, where = fields.get(name), f"{path}{name}"
        if isinstance(wanted, Mapping):
            yield from _ignored(value, wanted, f"{where}.")
        elif wanted is not None and (where not in SO_ANYWAY or value != SO_ANYWAY[where]):
            yield where


def _not_enforced(given: JSON) -> Iterator[str]:
    """What is enforced holds for pods alone."""
    if not {_PODS, _NONE}.issuperset(given.get("enforceNodeAllocatable", ())):
        yield "enforceNodeAllocatable"


# ---------------------------------------------------------------------- checking
def _problems(given: JSON) -> list[str]:
    found = [*_of_numbers(given), *_of_times(given), *_of_enforcements(given), *_of_verification(given)]
    found += _of_maps(given)
    return [*(f"invalid configuration: {one}" for one in found), *_of_taints(given)]


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
        found.append(f"maxPods (--max-pods) {given['maxPods']} must not be a negative number")
    if given.get("nodeStatusMaxImages", 0) < -1:
        value = given["nodeStatusMaxImages"]
        found.append(f"nodeStatusMaxImages (--node-status-max-images) {value} must be -1 or greater")
    if given.get("containerLogMaxFiles", 2) <= 1:
        found.append("containerLogMaxFiles must be greater than 1")
    return found


def _of_times(given: JSON) -> list[str]:
    shown = durations.text
    whole, critical = (_seconds(given, f"shutdownGracePeriod{of}", 0.0) for of in ("", "CriticalPods"))
    found = []
    if critical > whole:
        found.append(f"shutdownGracePeriodCriticalPods {shown(critical)} must be <= shutdownGracePeriod {shown(whole)}")
    for name, value in (("shutdownGracePeriod", whole), ("shutdownGracePeriodCriticalPods", critical)):
        if value < 0 or 0 < value < 1:
            found.append(f"{name} {shown(value)} must be either zero or otherwise >= 1 sec")
    by_priority = given.get("shutdownGracePeriodByPodPriority", ())
    if by_priority and (whole > 0 or critical > 0):
        found.append("Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time")
    if any(one.get("shutdownGracePeriodSeconds", 0) < 0 for one in by_priority):
        found.append("shutdownGracePeriodByPodPriority: shutdownGracePeriodSeconds must not be negative")
    found += [
        f"{name} {shown(value)} must not be negative"
        for name in ("imageMinimumGCAge", "imageMaximumGCAge", "evictionPressureTransitionPeriod")
        if (value := _seconds(given, name, 0.0)) < 0
    ]
    youngest = _seconds(given, "imageMinimumGCAge", _GC.youngest_seconds)
    if 0 < (oldest := _seconds(given, "imageMaximumGCAge", 0.0)) <= youngest:
        found.append(f"imageMaximumGCAge {shown(oldest)} must be greater than imageMinimumGCAge {shown(youngest)}")
    longest = _seconds(given.get("crashLoopBackOff", {}), "maxContainerRestartPeriod", 300.0)
    if not 1 <= longest <= 300:
        found.append(
            f"CrashLoopBackOff.MaxContainerRestartPeriod (got: {longest:g} seconds) must be set between 1s and 300s"
        )
    return found


def _of_enforcements(given: JSON) -> list[str]:
    asked, option = given.get("enforceNodeAllocatable", []), "enforceNodeAllocatable (--enforce-node-allocatable)"
    found, valid = [], [quoted(one) for one in _ENFORCED]
    for number, one in enumerate(asked):
        if one in asked[:number]:
            found.append(f"duplicated enforcements {quoted(one)} in {option}")
        elif one == _NONE and len(asked) > 1:
            found.append(f"{option} may not contain additional enforcements when {quoted(_NONE)} is specified")
        elif one not in _ENFORCED:
            told = f"{', '.join(valid[:-1])} or {valid[-1]}"
            found.append(f"option {quoted(one)} specified for {option}. Valid options are {told}")
        elif (kind := one.removesuffix("-compressible")) not in (_PODS, _NONE):
            found += _without_group(given, kind, option)
    return found


def _without_group(given: JSON, kind: str, option: str) -> list[str]:
    field = f"{kind.partition('-')[0]}ReservedCgroup"
    if given.get(field):
        return []
    either = f"{quoted(kind)} or {quoted(f'{kind}-compressible')}"
    return [f"{field} (--{kind}-cgroup) must be specified when {either} included in {option}"]


def _of_verification(given: JSON) -> list[str]:
    policy, listed = given.get(_POLICY, NOT_PRELOADED), given.get(_LISTED, [])
    if policy not in POLICIES:
        valid = [quoted(one) for one in POLICIES]
        told = f"{', '.join(valid[:-1])} or {valid[-1]}"
        return [f"option {quoted(policy)} specified for {_POLICY}. Valid options are {told}"]
    if listed and policy != NOT_LISTED:
        return [f'can\'t set `{_LISTED}` if `imagePullCredentialsVertificationPolicy` is not "{NOT_LISTED}"']
    problem = next(filter(None, map(pattern_problem, listed)), "")
    return [f"invalid image pattern in `{_LISTED}`: {problem}"] if problem else []


def _of_taints(given: JSON) -> list[str]:
    """As `CheckTaintValidation` finds them, but that a taint without effect, which no Node may have, is refused."""
    found = []
    for taint in given.get("registerWithTaints", ()):
        key, value, effect, added = (taint.get(name, "") for name in ("key", "value", "effect", "timeAdded"))
        if label_names.qualified_name(key) or label_names.label_value(value) or effect not in _EFFECTS:
            found.append(f"invalid taint: {{{key} {value} {effect} {added or '<nil>'}}}")
        if added:
            found.append("invalid configuration: taint.TimeAdded is not nil")
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
def _options(given: JSON, folder: Path) -> JSON:
    """Of `kubecore kubelet`."""
    found: JSON = {}
    for name, option in {
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
        if name in given:
            found[option] = given[name]
    for name, option in {"clusterDNS": "cluster_dns", "allowedUnsafeSysctls": "allowed_unsafe_sysctls"}.items():
        if name in given:
            found[option] = ",".join(given[name])
    if "rotateCertificates" in given:
        found["rotate_certificates"] = given["rotateCertificates"]
    paths = {
        "pod_manifest_path": given.get("staticPodPath"),
        "tls_cert_file": given.get("tlsCertFile"),
        "tls_private_key_file": given.get("tlsPrivateKeyFile"),
        "client_ca_file": given.get("authentication", {}).get("x509", {}).get("clientCAFile"),
    }
    found |= {option: str(folder / path) for option, path in paths.items() if path is not None}
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
    if "nodeStatusMaxImages" in given:
        found["max_images"] = given["nodeStatusMaxImages"]
    for name, setting in (
        ("seccompDefault", "seccomp_default"),
        ("serverTLSBootstrap", "server_tls_bootstrap"),
        ("singleProcessOOMKill", "single_process_oom_kill"),
    ):
        if name in given:
            found[setting] = given[name]
    if longest := given.get("crashLoopBackOff", {}).get("maxContainerRestartPeriod"):
        found["longest_back_off_seconds"] = durations.seconds(longest)
    if periods := given.get("shutdownGracePeriodByPodPriority"):
        told = [ShutdownPeriod(one.get("priority", 0), one.get("shutdownGracePeriodSeconds", 0)) for one in periods]
        found["shutdown"] = ShutdownConfig(by_priority=tuple(told))
    if "enforceNodeAllocatable" in given:
        found["enforce_allocatable"] = _PODS in given["enforceNodeAllocatable"]
    if reserved := _reserved(given):
        found["reserved"] = reserved
    if any(name.startswith(("imageGC", "imageM")) for name in given):
        found["image_gc"] = ImageGcConfig(
            given.get("imageGCHighThresholdPercent", _GC.high_percent),
            given.get("imageGCLowThresholdPercent", _GC.low_percent),
            _seconds(given, "imageMinimumGCAge", _GC.youngest_seconds),
            _seconds(given, "imageMaximumGCAge", 0.0) or None,
        )
    if _POLICY in given:
        found["image_verification"] = Verification(given[_POLICY], tuple(given.get(_LISTED, ())))
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
    return _duration(name, given[name]) if name in given else otherwise


def _duration(name: str, text: str) -> float:
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise InvalidConfiguration(f"{name}: {error}") from None
