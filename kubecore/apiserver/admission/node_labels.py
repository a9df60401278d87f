"""Which labels of its Node a kubelet may say itself (upstream k8s.io/kubelet `pkg/apis/well_known_labels.go`)."""

from __future__ import annotations

from collections.abc import Mapping

_RESTRICTED = "node-restriction.kubernetes.io"
_KUBERNETES = ("kubernetes.io", "k8s.io")
_OF_KUBELETS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_ALLOWED = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    )
)


def forbidden_labels(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Labels that were added, changed or removed and are not a node's to say, sorted."""
    changed = {key for key in {*now, *before} if now.get(key) != before.get(key)}
    return sorted(key for key in changed if _is_forbidden(key))


def _is_forbidden(key: str) -> bool:
    domain, slash, _ = key.partition("/")
    if not slash or key in _ALLOWED:
        return False
    if _is_within(domain, (_RESTRICTED,)):
        return True
    return _is_within(domain, _KUBERNETES) and not _is_within(domain, _OF_KUBELETS)


def _is_within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)
