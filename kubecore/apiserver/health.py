"""The checks of /healthz, /livez and /readyz, under the names that kube-apiserver gives them, which people exclude and
ask for one by one: of the storage, whatever it is, and of what a cluster begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore import _native

_CHECKS = (
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/aggregator-reload-proxy-client-cert",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
)
# What is made once the server listens, since it tells of the address.
_LISTENING = (
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
)
_OF_THE_FRONT = ("ping", "log")
_OF_READYZ = ("etcd-readiness", "informer-sync", "shutdown")


def stored(front: _native.Front) -> None:
    """What the server begins with is there, but for what tells of its address."""
    front.set_check("etcd", True)
    front.set_check("etcd-readiness", True, ["readyz"])
    for check in _CHECKS:
        front.set_check(check, True)
    for check in _LISTENING:
        front.set_check(check, False)


def begun(front: _native.Front) -> None:
    """The rest is there, too: the server is ready."""
    for check in _LISTENING:
        front.set_check(check, True)
    front.set_ready(True)


def paths() -> list[str]:
    """Where the checks are asked for, all and one by one."""
    every = (*_OF_THE_FRONT, "etcd", *_CHECKS, *_LISTENING)
    found = [f"/{endpoint}/{check}" for endpoint in ("healthz", "livez", "readyz") for check in every]
    return ["/healthz", "/livez", "/readyz", *found, *(f"/readyz/{check}" for check in _OF_READYZ)]
