"""The strategy of each resource: one module a resource, found by its group resource key when first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from kubecore.apiserver.registry.allocation.node_ports import NodePorts
from kubecore.apiserver.registry.allocation.service_addresses import ServiceAddresses
from kubecore.apiserver.registry.resources import plain
from kubecore.apiserver.registry.strategy import Strategy

if TYPE_CHECKING:
    from kubecore.apiserver.config import APIServerConfig
    from kubecore.metrics import Metrics

# Group resource key -> module below this package, class in it. What is not here has no particularities.
_STRATEGIES: dict[str, tuple[str, str]] = {
    "apiservices.apiregistration.k8s.io": ("apiservices", "APIServiceStrategy"),
    "certificatesigningrequests.certificates.k8s.io": (
        "certificatesigningrequests",
        "CertificateSigningRequestStrategy",
    ),
    "clustertrustbundles.certificates.k8s.io": ("clustertrustbundles", "ClusterTrustBundleStrategy"),
    "configmaps": ("configmaps", "ConfigMapStrategy"),
    "controllerrevisions.apps": ("templates", "ControllerRevisionStrategy"),
    "cronjobs.batch": ("cronjobs", "CronJobStrategy"),
    "csidrivers.storage.k8s.io": ("csi", "CSIDriverStrategy"),
    "csinodes.storage.k8s.io": ("csi", "CSINodeStrategy"),
    "csistoragecapacities.storage.k8s.io": ("csi", "CSIStorageCapacityStrategy"),
    "customresourcedefinitions.apiextensions.k8s.io": (
        "customresourcedefinitions",
        "CustomResourceDefinitionStrategy",
    ),
    "daemonsets.apps": ("daemonsets", "DaemonSetStrategy"),
    "deployments.apps": ("deployments", "DeploymentStrategy"),
    "deviceclasses.resource.k8s.io": ("devices", "DeviceClassStrategy"),
    "devicetaintrules.resource.k8s.io": ("devices", "DeviceTaintRuleStrategy"),
    "endpoints": ("endpoints", "EndpointsStrategy"),
    "endpointslices.discovery.k8s.io": ("endpointslices", "EndpointSliceStrategy"),
    "events": ("events", "EventStrategy"),
    "flowschemas.flowcontrol.apiserver.k8s.io": ("flowcontrol", "FlowSchemaStrategy"),
    "horizontalpodautoscalers.autoscaling": ("horizontalpodautoscalers", "HorizontalPodAutoscalerStrategy"),
    "ingressclasses.networking.k8s.io": ("ingressclasses", "IngressClassStrategy"),
    "ingresses.networking.k8s.io": ("ingresses", "IngressStrategy"),
    "jobs.batch": ("jobs", "JobStrategy"),
    "leasecandidates.coordination.k8s.io": ("clusterstate", "LeaseCandidateStrategy"),
    "leases.coordination.k8s.io": ("leases", "LeaseStrategy"),
    "limitranges": ("limitranges", "LimitRangeStrategy"),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": ("admissionpolicies", "MutatingAdmissionPolicyStrategy"),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": (
        "admissionpolicies",
        "MutatingAdmissionPolicyBindingStrategy",
    ),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": ("webhooks", "MutatingWebhookConfigurationStrategy"),
    "namespaces": ("namespaces", "NamespaceStrategy"),
    "networkpolicies.networking.k8s.io": ("networkpolicies", "NetworkPolicyStrategy"),
    "nodes": ("nodes", "NodeStrategy"),
    "persistentvolumeclaims": ("persistentvolumeclaims", "PersistentVolumeClaimStrategy"),
    "persistentvolumes": ("persistentvolumes", "PersistentVolumeStrategy"),
    "podcertificaterequests.certificates.k8s.io": ("podcertificaterequests", "PodCertificateRequestStrategy"),
    "poddisruptionbudgets.policy": ("poddisruptionbudgets", "PodDisruptionBudgetStrategy"),
    "pods": ("pods", "PodStrategy"),
    "podtemplates": ("templates", "PodTemplateStrategy"),
    "priorityclasses.scheduling.k8s.io": ("priorityclasses", "PriorityClassStrategy"),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": ("flowcontrol", "PriorityLevelConfigurationStrategy"),
    "replicasets.apps": ("replicasets", "ReplicaSetStrategy"),
    "replicationcontrollers": ("replicationcontrollers", "ReplicationControllerStrategy"),
    "resourceclaims.resource.k8s.io": ("devices", "ResourceClaimStrategy"),
    "resourceclaimtemplates.resource.k8s.io": ("devices", "ResourceClaimTemplateStrategy"),
    "resourcequotas": ("resourcequotas", "ResourceQuotaStrategy"),
    "resourceslices.resource.k8s.io": ("devices", "ResourceSliceStrategy"),
    "runtimeclasses.node.k8s.io": ("runtimeclasses", "RuntimeClassStrategy"),
    "secrets": ("secrets", "SecretStrategy"),
    "serviceaccounts": ("serviceaccounts", "ServiceAccountStrategy"),
    "statefulsets.apps": ("statefulsets", "StatefulSetStrategy"),
    "storageclasses.storage.k8s.io": ("storageclasses", "StorageClassStrategy"),
    "storageversionmigrations.storagemigration.k8s.io": ("clusterstate", "StorageVersionMigrationStrategy"),
    "storageversions.internal.apiserver.k8s.io": ("clusterstate", "StorageVersionStrategy"),
    "validatingadmissionpolicies.admissionregistration.k8s.io": (
        "admissionpolicies",
        "ValidatingAdmissionPolicyStrategy",
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": (
        "admissionpolicies",
        "AdmissionPolicyBindingStrategy",
    ),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": (
        "webhooks",
        "ValidatingWebhookConfigurationStrategy",
    ),
    "volumeattachments.storage.k8s.io": ("csi", "VolumeAttachmentStrategy"),
    "volumeattributesclasses.storage.k8s.io": ("storageclasses", "VolumeAttributesClassStrategy"),
    "workloads.scheduling.k8s.io": ("clusterstate", "WorkloadStrategy"),
}


# Those that share in who has which address.
_OF_ADDRESSES = {
    "ipaddresses.networking.k8s.io": ("ipaddresses", "IPAddressStrategy"),
    "servicecidrs.networking.k8s.io": ("servicecidrs", "ServiceCIDRStrategy"),
}


class Strategies:
    """The strategies of one API server.

    `service_cidr` is the range cluster IPs come from, or one of each family, comma separated; `node_ports` the one of
    node ports, of which `is_anybodys_port` knows whether others have them. All are per server, so that several servers
    in one process do not take each other's. How many are in use is told with `metrics`.
    """

    def __init__(
        self,
        *,
        service_cidr: str = "10.96.0.0/16",
        node_ports: range = range(30000, 32768),
        is_anybodys_port: Callable[[int], bool] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._addresses = ServiceAddresses(service_cidr)
        self._node_ports = NodePorts(node_ports, is_anybodys_port)
        if metrics is not None:
            metrics.add(*self._addresses.metrics, *self._node_ports.metrics)
        self._made: dict[str, Strategy] = {}

    @classmethod
    def of(cls, config: APIServerConfig, metrics: Metrics) -> Self:
        return cls(
            service_cidr=config.service_cidr,
            node_ports=config.node_ports,
            is_anybodys_port=config.is_anybodys_port,
            metrics=metrics,
        )

    def strategy_for(self, key: str) -> Strategy:
        """The strategy of a group resource ("pods", "deployments.apps")."""
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(key)
        return found

    def _make(self, key: str) -> Strategy:
        if key == "services":
            from kubecore.apiserver.registry.resources.services import ServiceStrategy

            return ServiceStrategy(self._addresses, self._node_ports)
        if key in _OF_ADDRESSES:
            return self._loaded(*_OF_ADDRESSES[key], self._addresses)
        if key.endswith(".rbac.authorization.k8s.io"):
            from kubecore.apiserver.registry.resources import rbac

            return rbac.strategy(key.partition(".")[0])
        module, name = _STRATEGIES.get(key, ("", ""))
        if not module:
            return plain.strategy(key)
        return self._loaded(module, name)

    @staticmethod
    def _loaded(module: str, name: str, *given: object) -> Strategy:
        strategy: Strategy = getattr(importlib.import_module(f"{__name__}.{module}"), name)(*given)
        return strategy
