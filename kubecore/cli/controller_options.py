"""Options of single controllers, with kube-controller-manager's names. Durations are written as Go writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubecore.cli import options
from kubecore.cli.leading import duration, positive_duration

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
