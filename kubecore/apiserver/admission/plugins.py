"""The plugins that are on by default, in Kubernetes' order (upstream pkg/kubeapiserver/options/plugins.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.apiserver.admission.ingress_class import DefaultIngressClass
from kubecore.apiserver.admission.limit_ranger import LimitRanger
from kubecore.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kubecore.apiserver.admission.node_restriction import NodeRestriction
from kubecore.apiserver.admission.priority import Priority
from kubecore.apiserver.admission.resource_quota import ResourceQuota
from kubecore.apiserver.admission.service_account import ServiceAccount
from kubecore.apiserver.admission.storage import ClaimResize, DefaultStorageClass, StorageObjectInUseProtection
from kubecore.apiserver.admission.tolerations import DefaultTolerationSeconds, TaintNodesByCondition
from kubecore.apiserver.admission.topology_labels import PodTopologyLabels

if TYPE_CHECKING:
    from kubecore.apiserver.admission.chain import Plugin
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.apiserver.storage.interface import Storage
    from kubecore.clock import Clock


def default_plugins(cacher: Cacher, storage: Storage, clock: Clock) -> list[Plugin]:
    return [
        NamespaceLifecycle(cacher),
        LimitRanger(cacher),
        ServiceAccount(cacher, clock),
        NodeRestriction(),
        TaintNodesByCondition(),
        PodTopologyLabels(cacher),
        Priority(cacher),
        DefaultTolerationSeconds(),
        DefaultStorageClass(cacher),
        StorageObjectInUseProtection(),
        ClaimResize(cacher),
        DefaultIngressClass(cacher),
        ResourceQuota(cacher, storage, clock),
    ]
