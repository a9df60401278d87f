"""What /configz tells: the kubelet's settings, as a KubeletConfiguration of kubelet.config.k8s.io/v1beta1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubecore.api import durations, quantity
from kubecore.kubelet.eviction.thresholds import Threshold
from kubecore.kubelet.node.node import LOOK_SECONDS, STATUS_SECONDS
from kubecore.kubelet.pods.static_pods import CHECK_SECONDS
from kubecore.kubelet.settings.kubelet_config import KubeletConfig

Object = dict[str, Any]


def told(config: KubeletConfig, *, address: str, port: int, cgroups: bool) -> Object:
    """The body."""
    eviction = config.eviction
    hard = [one for one in eviction.thresholds if one.grace_seconds is None]
    soft = [one for one in eviction.thresholds if one.grace_seconds is not None]
    settings: Object = {
        "address": address,
        "port": port,
        "enableServer": True,
        "clusterDNS": list(config.cluster_dns),
        "clusterDomain": config.cluster_domain,
        "maxPods": config.max_pods,
        "nodeStatusMaxImages": config.max_images,
        "shutdownGracePeriod": durations.text(config.shutdown.seconds),
        "shutdownGracePeriodCriticalPods": durations.text(config.shutdown.critical_seconds),
        **_by_priority(config),
        "podPidsLimit": config.pod_max_pids or -1,
        "staticPodPath": str(config.pod_manifest_path or ""),
        "fileCheckFrequency": durations.text(CHECK_SECONDS),
        "nodeStatusUpdateFrequency": durations.text(LOOK_SECONDS),
        "nodeStatusReportFrequency": durations.text(STATUS_SECONDS),
        "nodeLeaseDurationSeconds": config.lease_seconds,
        "allowedUnsafeSysctls": list(config.allowed_unsafe_sysctls),
        "evictionHard": _values(hard),
        "evictionSoft": _values(soft),
        "evictionSoftGracePeriod": {one.signal: durations.text(one.grace_seconds or 0.0) for one in soft},
        "evictionPressureTransitionPeriod": durations.text(eviction.transition_seconds),
        "evictionMaxPodGracePeriod": int(eviction.most_grace_seconds),
        "imageGCHighThresholdPercent": config.image_gc.high_percent,
        "imageGCLowThresholdPercent": config.image_gc.low_percent,
        "imageMinimumGCAge": durations.text(config.image_gc.youngest_seconds),
        "imageMaximumGCAge": durations.text(config.image_gc.oldest_seconds or 0.0),
        "containerLogMaxSize": quantity.format_nano(config.log_rotation.file_bytes * 10**9, binary=True),
        "containerLogMaxFiles": config.log_rotation.files,
        "kubeReserved": {name: _amount(name, value) for name, value in config.reserved.items()},
        "registerWithTaints": [dict(one) for one in config.taints],
        "crashLoopBackOff": {"maxContainerRestartPeriod": durations.text(config.longest_back_off_seconds)},
        "cgroupsPerQOS": cgroups,
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": ["pods"] if cgroups and config.enforce_allocatable else ["none"],
        "seccompDefault": config.seccomp_default,
        "singleProcessOOMKill": config.single_process_oom_kill,
        "serverTLSBootstrap": config.server_tls_bootstrap,
        "imagePullCredentialsVerificationPolicy": config.image_verification.policy,
        "preloadedImagesVerificationAllowlist": list(config.image_verification.allowed),
        "serializeImagePulls": False,
        "containerRuntimeEndpoint": config.cri.endpoint if config.cri is not None else "",
        "imageServiceEndpoint": config.cri.image_endpoint if config.cri is not None else "",
    }
    return {"kubeletconfig": settings}


def _by_priority(config: KubeletConfig) -> Object:
    periods = [
        {"priority": one.priority, "shutdownGracePeriodSeconds": int(one.seconds)}
        for one in config.shutdown.by_priority
    ]
    return {"shutdownGracePeriodByPodPriority": periods} if periods else {}


def _amount(resource: str, nano: int) -> str:
    """What is reserved of it for the kubelet and the system together."""
    return quantity.format_nano(nano, binary=resource not in ("cpu", "pid"))


def _values(thresholds: Iterable[Threshold]) -> dict[str, str]:
    return {
        one.signal: f"{one.value.share * 100:g}%" if one.value.share else str(one.value.number) for one in thresholds
    }
