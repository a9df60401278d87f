"""Makes the admission plugins that are to run, in Kubernetes' order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.admission import (
    event_rate,
    image_policy,
    limited_resources,
    node_selectors,
    toleration_restriction,
)
from kubecore.apiserver.admission.all_or_nothing import AlwaysAdmit, AlwaysDeny
from kubecore.apiserver.admission.anti_affinity import LimitPodHardAntiAffinityTopology
from kubecore.apiserver.admission.event_rate import EventRateLimit
from kubecore.apiserver.admission.external_ips import DenyServiceExternalIPs
from kubecore.apiserver.admission.image_policy import ImagePolicyWebhook
from kubecore.apiserver.admission.image_pulls import AlwaysPullImages
from kubecore.apiserver.admission.ingress_class import DefaultIngressClass
from kubecore.apiserver.admission.limit_ranger import LimitRanger
from kubecore.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kubecore.apiserver.admission.namespace_presence import NamespaceAutoProvision, NamespaceExists
from kubecore.apiserver.admission.node_restriction import NodeRestriction
from kubecore.apiserver.admission.node_selectors import PodNodeSelector
from kubecore.apiserver.admission.pod_security import configuration as pod_security
from kubecore.apiserver.admission.pod_security.metrics import PodSecurityMetrics
from kubecore.apiserver.admission.pod_security.plugin import PodSecurity
from kubecore.apiserver.admission.priority import Priority
from kubecore.apiserver.admission.resource_quota import ResourceQuota
from kubecore.apiserver.admission.runtime_class import RuntimeClass
from kubecore.apiserver.admission.service_account import ServiceAccount
from kubecore.apiserver.admission.storage import ClaimResize, DefaultStorageClass, StorageObjectInUseProtection
from kubecore.apiserver.admission.toleration_restriction import PodTolerationRestriction
from kubecore.apiserver.admission.tolerations import (
    DefaultTolerationSeconds,
    ExtendedResourceToleration,
    TaintNodesByCondition,
)
from kubecore.apiserver.admission.topology_labels import PodTopologyLabels
from kubecore.apiserver.authorization.certificate_signers import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
    ClusterTrustBundleAttest,
)
from kubecore.apiserver.authorization.owner_references import OwnerReferencesPermissionEnforcement
from kubecore.apiserver.webhooks import credentials

if TYPE_CHECKING:
    from kubecore.api.scheme import Scheme
    from kubecore.apiserver.admission.chain import Plugin
    from kubecore.apiserver.admission.options import AdmissionOptions
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import User
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.apiserver.storage.interface import Storage
    from kubecore.clock import Clock
    from kubecore.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What plugins are made of; `configured` has the configuration of those that take one. The registry is made after
    the plugins."""

    cacher: Cacher
    storage: Storage
    clock: Clock
    authorizer: Authorizer
    scheme: Scheme
    options: AdmissionOptions
    configured: Mapping[str, Any]
    registry: Callable[[], Registry]
    metrics: Metrics
    user: User
    """Who writes on the server's own behalf."""


# How a plugin's configuration is read; an empty text where none is given.
_CONFIGURATIONS: dict[str, Callable[[str], Any]] = {
    "ImagePolicyWebhook": image_policy.load,
    "PodSecurity": pod_security.load,
    "PodNodeSelector": node_selectors.load,
    "PodTolerationRestriction": toleration_restriction.load,
    "EventRateLimit": event_rate.load,
    "ResourceQuota": limited_resources.load,
    "MutatingAdmissionWebhook": credentials.load,
    "ValidatingAdmissionWebhook": credentials.load,
}
_MAKERS: dict[str, Callable[[Parts], Plugin]] = {
    "AlwaysAdmit": lambda parts: AlwaysAdmit(),
    "NamespaceAutoProvision": lambda parts: NamespaceAutoProvision(parts.cacher, parts.registry, parts.user),
    "NamespaceExists": lambda parts: NamespaceExists(parts.cacher),
    "LimitPodHardAntiAffinityTopology": lambda parts: LimitPodHardAntiAffinityTopology(),
    "AlwaysPullImages": lambda parts: AlwaysPullImages(),
    "ImagePolicyWebhook": lambda parts: ImagePolicyWebhook(parts.configured["ImagePolicyWebhook"], parts.clock),
    "PodNodeSelector": lambda parts: PodNodeSelector(parts.cacher, parts.configured["PodNodeSelector"]),
    "PodTolerationRestriction": lambda parts: PodTolerationRestriction(
        parts.cacher, parts.configured["PodTolerationRestriction"]
    ),
    "EventRateLimit": lambda parts: EventRateLimit(parts.configured["EventRateLimit"], parts.clock),
    "ExtendedResourceToleration": lambda parts: ExtendedResourceToleration(),
    "RuntimeClass": lambda parts: RuntimeClass(parts.cacher),
    "ClusterTrustBundleAttest": lambda parts: ClusterTrustBundleAttest(parts.authorizer),
    "AlwaysDeny": lambda parts: AlwaysDeny(),
    "NamespaceLifecycle": lambda parts: NamespaceLifecycle(parts.cacher),
    "LimitRanger": lambda parts: LimitRanger(parts.cacher),
    "ServiceAccount": lambda parts: ServiceAccount(parts.cacher, parts.clock),
    "NodeRestriction": lambda parts: NodeRestriction(parts.authorizer),
    "TaintNodesByCondition": lambda parts: TaintNodesByCondition(),
    "PodSecurity": lambda parts: PodSecurity(
        parts.cacher, parts.configured["PodSecurity"], PodSecurityMetrics(parts.metrics)
    ),
    "Priority": lambda parts: Priority(parts.cacher),
    "DefaultTolerationSeconds": lambda parts: DefaultTolerationSeconds(
        not_ready=parts.options.not_ready_seconds, unreachable=parts.options.unreachable_seconds
    ),
    "DefaultStorageClass": lambda parts: DefaultStorageClass(parts.cacher),
    "StorageObjectInUseProtection": lambda parts: StorageObjectInUseProtection(),
    "OwnerReferencesPermissionEnforcement": lambda parts: OwnerReferencesPermissionEnforcement(
        parts.authorizer, parts.scheme
    ),
    "PersistentVolumeClaimResize": lambda parts: ClaimResize(parts.cacher),
    "CertificateApproval": lambda parts: CertificateApproval(parts.authorizer),
    "CertificateSigning": lambda parts: CertificateSigning(parts.authorizer),
    "CertificateSubjectRestriction": lambda parts: CertificateSubjectRestriction(),
    "DefaultIngressClass": lambda parts: DefaultIngressClass(parts.cacher),
    "DenyServiceExternalIPs": lambda parts: DenyServiceExternalIPs(),
    "PodTopologyLabels": lambda parts: PodTopologyLabels(parts.cacher),
    "ResourceQuota": lambda parts: ResourceQuota(
        parts.cacher, parts.storage, parts.clock, parts.configured["ResourceQuota"], parts.registry
    ),
}


def configured(options: AdmissionOptions) -> dict[str, Any]:
    """The configuration of each plugin that runs and takes one. Raises InvalidConfiguration."""
    found = {}
    for name in options.plugins:
        if (read := _CONFIGURATIONS.get(name)) is not None:
            try:
                found[name] = read(options.configuration.get(name, ""))
            except InvalidConfiguration as error:
                raise InvalidConfiguration(f'couldn\'t init admission plugin "{name}": {error}') from None
    return found


def made(options: AdmissionOptions, parts: Parts) -> list[Plugin]:
    """Those with code of their own here; webhooks and policies are `dynamic`."""
    return [_MAKERS[name](parts) for name in options.plugins if name in _MAKERS]
