"""Options of a kubelet, with Kubernetes' names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubecore.cli import options
from kubecore.cli.leading import duration, positive_duration, seconds

if TYPE_CHECKING:
    from kubecore.images.registries import Registries
    from kubecore.kubelet.eviction.manager import EvictionConfig

ClientAuthority = Annotated[
    Path | None,
    typer.Option(
        help="CA of its own server's clients, which ask for logs; by default the kubeconfig's.",
        exists=True,
        dir_okay=False,
    ),
]
ServerCertificate = Annotated[
    Path | None, typer.Option(help="Certificate of its own server; one is made by default.", exists=True)
]
ServerKey = Annotated[Path | None, typer.Option(help="Key of that certificate.", exists=True)]
ClusterDns = Annotated[
    str, typer.Option(help="Addresses pods ask for names, comma separated; none: hosts files name the Services.")
]
NodeRuntime = Annotated[
    str,
    typer.Option(
        callback=options.one_of(("host", "oci"), to_come=("cri",)), help="Runtime of pods without a RuntimeClass."
    ),
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option(
        help="Where a registry's images are asked for first: HOST=URL, such as docker.io=http://10.0.0.2:5000."
    ),
]
ManifestPath = Annotated[
    Path | None, typer.Option(callback=options.folder_if_any, help="Folder of static pods, or the file of one.")
]
MostPids = Annotated[int, typer.Option(help="Processes and threads of a pod; -1 for no limit.")]
AllowedSysctls = Annotated[
    str, typer.Option(help="Kernel parameters that pods may set beside the safe ones, comma separated; * ends one.")
]
OrphanedPodsTimeout = Annotated[
    str,
    typer.Option(
        help="For how long pods outlive a kubelet that was killed, if none comes back to take them over; 0s for ever.",
        callback=duration,
    ),
]
EvictionHard = Annotated[
    str, typer.Option(help="When pods are ended at once, such as memory.available<100Mi,nodefs.available<10%.")
]
EvictionSoft = Annotated[str, typer.Option(help="When pods are ended after a while.")]
EvictionSoftGracePeriod = Annotated[str, typer.Option(help="After which while, such as memory.available=1m30s.")]
EvictionMinimumReclaim = Annotated[
    str, typer.Option(help="How much more must be free then, such as nodefs.available=500Mi.")
]
EvictionMaxPodGracePeriod = Annotated[
    int, typer.Option(help="Seconds that a pod has then, at most, for a soft threshold.")
]
EvictionPressureTransitionPeriod = Annotated[
    str, typer.Option(help="How long a node's condition stays once it was found.", callback=positive_duration)
]


def eviction_config(thresholds: tuple[str, str, str, str], transition: str, most_grace: int) -> EvictionConfig:
    """`thresholds`: hard, soft, the grace periods of soft ones, what must be reclaimed. Raises BadParameter."""
    from kubecore.kubelet.eviction.manager import EvictionConfig
    from kubecore.kubelet.eviction.thresholds import BadThreshold, parse

    try:
        limits = parse(*thresholds)
    except BadThreshold as error:
        raise typer.BadParameter(str(error)) from error
    return EvictionConfig(limits, seconds(transition), float(most_grace))


def registries(mirrors: list[str] | None) -> Registries:
    """Raises BadParameter."""
    from kubecore.images.registries import Registries

    known: dict[str, list[str]] = {}
    for one in mirrors or ():
        host, given, url = one.partition("=")
        if not given or not url.startswith(("http://", "https://")):
            raise typer.BadParameter(f"{one!r} is not HOST=URL")
        known.setdefault(host, []).append(url)
    return Registries(known)
