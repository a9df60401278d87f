"""Options of single controllers, with kube-controller-manager's names. Durations are written as Go writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kubecore.cli import options
from kubecore.cli.leading import duration, positive_duration, seconds
from kubecore.cli.option_groups import stands_for

RootCAFile = Annotated[
    Path | None,
    typer.Option(help="CA published to every namespace; by default the kubeconfig's.", exists=True, dir_okay=False),
]
LocalVolumeDir = Annotated[
    Path | None,
    typer.Option(
        callback=options.folder_if_any, help="Where to provision volumes of the default class; without it: none are."
    ),
]
SigningCertFile = Annotated[
    Path | None, typer.Option(help="CA that signs approved certificate requests; without it: none are.", exists=True)
]
ServiceAccountKeyFile = Annotated[
    Path | None, typer.Option(help="Signs tokens that are kept in Secrets; without it: none are made.", exists=True)
]
SigningKeyFile = Annotated[Path | None, typer.Option(help="Key of that CA.", exists=True)]
ServiceAccountCredentials = Annotated[
    bool, typer.Option(help="Each controller has the rights of its own service account, and no others.")
]
AutoscalerSyncPeriod = Annotated[
    str,
    typer.Option(
        "--horizontal-pod-autoscaler-sync-period",
        callback=positive_duration,
        help="Between two looks at an autoscaler.",
    ),
]
AutoscalerTolerance = Annotated[
    float,
    typer.Option(
        "--horizontal-pod-autoscaler-tolerance", min=0.0, help="Part of a target that usage may be off it by."
    ),
]
AutoscalerStabilization = Annotated[
    str,
    typer.Option(
        "--horizontal-pod-autoscaler-downscale-stabilization",
        callback=duration,
        help="How far back the highest recommendation counts.",
    ),
]
AutoscalerInitialization = Annotated[
    str,
    typer.Option(
        "--horizontal-pod-autoscaler-cpu-initialization-period",
        callback=duration,
        help="After a pod's start in which its CPU usage counts only while it is ready.",
    ),
]
AutoscalerReadinessDelay = Annotated[
    str,
    typer.Option(
        "--horizontal-pod-autoscaler-initial-readiness-delay",
        callback=duration,
        help="After a pod's start in which a change of readiness is its first.",
    ),
]
QuotaSyncPeriod = Annotated[
    str,
    typer.Option(
        "--resource-quota-sync-period", callback=duration, help="After which quotas are counted anew; 0s: never."
    ),
]
UnusedTokenPeriod = Annotated[
    str,
    typer.Option(
        "--legacy-service-account-token-clean-up-period",
        callback=positive_duration,
        help="After which tokens that were made for accounts unasked, and that nobody uses, are marked invalid; and "
        "after which they are deleted then.",
    ),
]

NodeMonitorGracePeriod = Annotated[
    str, typer.Option(help="Silence after which a node counts as lost.", callback=positive_duration)
]
NodeStartupGracePeriod = Annotated[
    str, typer.Option(help="The same for one that has not said yet how it is.", callback=positive_duration)
]
NodeEvictionRate = Annotated[
    float, typer.Option(min=0.0, help="Lost nodes of a zone whose pods are taken from them, per second.")
]
SecondaryNodeEvictionRate = Annotated[
    float, typer.Option(min=0.0, help="The same where a large zone is unhealthy; 0 in a small one.")
]
LargeClusterSizeThreshold = Annotated[int, typer.Option(min=0, help="A zone of more nodes is large.")]
UnhealthyZoneThreshold = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Part of a zone's nodes that makes it unhealthy when they are lost.")
]

TerminatedPodGCThreshold = Annotated[
    int, typer.Option(help="Pods that have ended beyond so many are deleted, the oldest first; 0: none are.")
]


def _of_nodes(
    node_monitor_grace_period: NodeMonitorGracePeriod = "50s",
    node_startup_grace_period: NodeStartupGracePeriod = "1m",
    node_eviction_rate: NodeEvictionRate = 0.1,
    secondary_node_eviction_rate: SecondaryNodeEvictionRate = 0.01,
    large_cluster_size_threshold: LargeClusterSizeThreshold = 50,
    unhealthy_zone_threshold: UnhealthyZoneThreshold = 0.55,
    terminated_pod_gc_threshold: TerminatedPodGCThreshold = 12500,
) -> dict[str, Any]:
    """Fields of a ControllerManagerConfig."""
    from kubecore.controllers.nodes.disruption_zones import EvictionRates

    rates = EvictionRates(
        normal=node_eviction_rate,
        partial=secondary_node_eviction_rate,
        large=large_cluster_size_threshold,
        unhealthy=unhealthy_zone_threshold,
    )
    return {
        "node_monitor_grace_seconds": seconds(node_monitor_grace_period),
        "node_startup_grace_seconds": seconds(node_startup_grace_period),
        "eviction_rates": rates,
        "terminated_pod_threshold": terminated_pod_gc_threshold,
    }


node_options = stands_for("nodes", _of_nodes, "Options of nodes and pods that are lost or over")
