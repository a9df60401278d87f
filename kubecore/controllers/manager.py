"""Runs every controller over one set of caches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from kubecore.client.client import Client
from kubecore.client.informer import InformerFactory
from kubecore.client.workqueue_metrics import workqueue_metrics
from kubecore.clock import Clock
from kubecore.controllers.accounts import account_of
from kubecore.controllers.autoscaling.autoscaler import AutoscalerConfig, HorizontalPodAutoscalerController
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.disruption import DisruptionController
from kubecore.controllers.garbage_collector import GarbageCollector
from kubecore.controllers.identities.account_tokens import AccountTokensController, TokenSource
from kubecore.controllers.identities.bootstrap_tokens import BootstrapSigner, TokenCleaner
from kubecore.controllers.identities.certificate_requests import Signer
from kubecore.controllers.identities.certificates import CertificateApprover, CertificateCleaner, CertificateSigner
from kubecore.controllers.identities.clusterrole_aggregation import ClusterRoleAggregationController
from kubecore.controllers.identities.root_ca import RootCAPublisher
from kubecore.controllers.identities.serviceaccount import ServiceAccountController
from kubecore.controllers.identities.unused_tokens import UnusedTokenCleaner
from kubecore.controllers.jobs.cronjob import CronJobController
from kubecore.controllers.jobs.job import JobController
from kubecore.controllers.jobs.orphans import JobOrphanController
from kubecore.controllers.jobs.ttl_after_finished import TTLAfterFinishedController
from kubecore.controllers.namespace import NamespaceController
from kubecore.controllers.nodes.disruption_zones import EvictionRates
from kubecore.controllers.nodes.node_lifecycle import NodeLifecycleController
from kubecore.controllers.nodes.node_ttl import NodeTTLController
from kubecore.controllers.nodes.pod_gc import PodGCController
from kubecore.controllers.nodes.taint_eviction import TaintEvictionController
from kubecore.controllers.policy_status import PolicyStatusController
from kubecore.controllers.resource_quota import ResourceQuotaController
from kubecore.controllers.services.endpoints import EndpointsController
from kubecore.controllers.services.endpointslice import EndpointSliceController
from kubecore.controllers.services.endpointslice_mirroring import EndpointSliceMirroringController
from kubecore.controllers.services.load_balancer import LoadBalancerController
from kubecore.controllers.services.service_addresses import ServiceAddressController
from kubecore.controllers.services.service_cidr import ServiceCIDRController
from kubecore.controllers.volumes.attach_detach import AttachDetachController
from kubecore.controllers.volumes.binder import VolumeBinder
from kubecore.controllers.volumes.ephemeral_volume import EphemeralVolumeController
from kubecore.controllers.volumes.expansion import ExpandController
from kubecore.controllers.volumes.files import HostFiles
from kubecore.controllers.volumes.local_provisioner import LocalProvisioner
from kubecore.controllers.volumes.protection import AttributesClassProtection, ClaimProtection, VolumeProtection
from kubecore.controllers.volumes.recycler import VolumeRecycler
from kubecore.controllers.workloads.daemonset import DaemonSetController
from kubecore.controllers.workloads.deployment import DeploymentController
from kubecore.controllers.workloads.replicaset import ReplicaSetController
from kubecore.controllers.workloads.replication import ReplicationManager
from kubecore.controllers.workloads.statefulset import StatefulSetController

# Those that need to be told nothing.
_PLAIN: tuple[type[Controller], ...] = (
    ServiceAccountController,
    ClusterRoleAggregationController,
    DeploymentController,
    ReplicaSetController,
    StatefulSetController,
    DaemonSetController,
    ReplicationManager,
    DisruptionController,
    JobController,
    JobOrphanController,
    CronJobController,
    EndpointSliceController,
    EndpointSliceMirroringController,
    EndpointsController,
    ServiceCIDRController,
    TaintEvictionController,
    NodeTTLController,
    NamespaceController,
    TTLAfterFinishedController,
    ClaimProtection,
    VolumeProtection,
    AttributesClassProtection,
    EphemeralVolumeController,
    ExpandController,
    AttachDetachController,
    TokenCleaner,
    BootstrapSigner,
    CertificateApprover,
    CertificateCleaner,
    GarbageCollector,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerManagerConfig:
    """What kube-controller-manager has flags for."""

    root_ca: bytes = b""
    """PEM published to each namespace as ConfigMap kube-root-ca.crt (--root-ca-file)."""
    node_monitor_grace_seconds: float = 50.0
    """Silence after which a node counts as lost (--node-monitor-grace-period)."""
    node_startup_grace_seconds: float = 60.0
    """The same for a node that has not said yet how it is (--node-startup-grace-period)."""
    eviction_rates: EvictionRates = field(default_factory=EvictionRates)
    """How fast pods are taken from lost nodes (--node-eviction-rate and others)."""
    terminated_pod_threshold: int = 12500
    """Finished pods kept before the oldest are deleted (--terminated-pod-gc-threshold)."""
    autoscaler: AutoscalerConfig = field(default_factory=AutoscalerConfig)
    """(--horizontal-pod-autoscaler-*)"""
    resource_quota_sync_seconds: float = 300.0
    """After which what quotas' namespaces use is counted anew at the latest (--resource-quota-sync-period)."""
    unused_token_seconds: float = 365 * 24 * 3600.0
    """After which an account's token that was made unasked is marked invalid, and after which it is deleted then
    (--legacy-service-account-token-clean-up-period)."""
    local_volumes: Path | None = None
    """Where the local provisioner keeps volumes; None: there is no such provisioner."""
    account_tokens: TokenSource | None = None
    """Signs the tokens that are kept in Secrets; without it there are none (--service-account-private-key-file)."""
    load_balancer_ranges: tuple[str, ...] = ()
    """What Services of type LoadBalancer get addresses from; none: that is left to others."""
    signing_certificate: bytes = b""
    signing_key: bytes = b""
    """PEM of the authority that signs certificate requests; without it none are (--cluster-signing-cert-file)."""


class ControllerManager:
    """`ready` is set once every controller works on a complete cache; `run` works until cancelled; `metrics` are those
    of the controllers and their queues."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: ControllerManagerConfig | None = None,
        *,
        informers: InformerFactory | None = None,
        client_for: Callable[[str], Client] | None = None,
    ) -> None:
        """`client_for` gives the client of a controller's service account in kube-system; by default all use `client`,
        which in any case fills the caches."""
        config = config or ControllerManagerConfig()
        self.ready = asyncio.Event()
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._clients: list[Client] = []
        shared = ControllerContext(client, clock, self._informers)

        def context(kind: type[Controller]) -> ControllerContext:
            if client_for is None:
                return shared
            self._clients.append(client_for(account_of(kind.name)))
            return replace(shared, client=self._clients[-1])

        threshold = config.terminated_pod_threshold
        quota_period, token_period = config.resource_quota_sync_seconds, config.unused_token_seconds
        self.controllers: list[Controller] = [
            *(kind(context(kind)) for kind in _PLAIN),
            NodeLifecycleController(
                context(NodeLifecycleController),
                grace_seconds=config.node_monitor_grace_seconds,
                startup_grace_seconds=config.node_startup_grace_seconds,
                rates=config.eviction_rates,
            ),
            PodGCController(context(PodGCController), threshold=threshold),
            VolumeBinder(context(VolumeBinder), HostFiles()),
            # a part of the binder upstream, whose account it has
            VolumeRecycler(context(VolumeBinder)),
            HorizontalPodAutoscalerController(context(HorizontalPodAutoscalerController), config=config.autoscaler),
            ResourceQuotaController(context(ResourceQuotaController), sync_seconds=quota_period),
            PolicyStatusController(context(PolicyStatusController), definitions=client),
            UnusedTokenCleaner(context(UnusedTokenCleaner), period_seconds=token_period),
            # upstream's is a part of the API server, and has no account
            ServiceAddressController(shared),
        ]
        if config.load_balancer_ranges:
            ranges = config.load_balancer_ranges
            self.controllers.append(LoadBalancerController(context(LoadBalancerController), ranges))
        if config.root_ca:
            self.controllers.append(RootCAPublisher(context(RootCAPublisher), config.root_ca))
        if config.account_tokens is not None:
            # whose tokens would it work with? upstream's works as the manager, too
            self.controllers.append(AccountTokensController(shared, config.account_tokens, config.root_ca))
        if config.signing_key:
            signer = Signer(config.signing_certificate, config.signing_key)
            self.controllers.append(CertificateSigner(context(CertificateSigner), signer))
        if config.local_volumes is not None:
            folder = config.local_volumes.absolute()
            self.controllers.append(LocalProvisioner(context(LocalProvisioner), folder, HostFiles()))
        self.metrics = workqueue_metrics({_queue_name(one): one.queue for one in self.controllers})
        for controller in self.controllers:
            self.metrics += controller.metrics

    async def run(self) -> None:
        await self._informers.start()
        try:
            async with asyncio.TaskGroup() as group:
                for controller in self.controllers:
                    group.create_task(controller.run(), name=controller.name)
                for controller in self.controllers:
                    await controller.ready.wait()
                self.ready.set()
        finally:
            if self._own_informers:
                await self._informers.stop()
            for client in self._clients:
                await client.close()


def _queue_name(controller: Controller) -> str:
    return controller.queue_name or controller.name.removesuffix("-controller").replace("-", "_")
