"""Options of a kubelet, with Kubernetes' names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubecore.cli import options
from kubecore.cli.leading import duration, positive_duration, seconds
from kubecore.cli.option_groups import stands_for
from kubecore.kubelet.eviction.thresholds import DEFAULT_HARD

if TYPE_CHECKING:
    from kubecore.images.registries import Registries
    from kubecore.kubelet.node.shutdown import ShutdownConfig
    from kubecore.kubelet.settings.configuration import KubeletFile
    from kubecore.kubelet.settings.kubelet_config import CriConfig


def _node_file(context: typer.Context, file: Path | None) -> Any:
    """A KubeletFile, whose options those of the command have that are not given themselves."""
    return _read_file(context, file, None)


def _nodes_file(context: typer.Context, file: Path | None) -> Any:
    """A KubeletFile. What is a cluster's option, too, means the nodes alone when it is one of these: the file's client
    authority, say, is not the API server's."""
    return _read_file(context, file, ("max_pods", "container_runtime_endpoint", "image_service_endpoint"))


def _read_file(context: typer.Context, file: Path | None, only: tuple[str, ...] | None) -> Any:
    from kubecore.kubelet.settings.configuration import KubeletFile

    if file is None:
        return KubeletFile()
    read = _loaded(file)
    own = {name: value for name, value in read.options.items() if only is None or name in only}
    context.default_map = {**(context.default_map or {}), **own}
    return replace(read, options={name: value for name, value in read.options.items() if name not in own})


def _loaded(file: Path) -> KubeletFile:
    """BadParameter in the kubelet's words."""
    from kubecore.api.configuration_file import InvalidConfiguration
    from kubecore.kubelet.settings.configuration import load

    try:
        read = load(file.read_text(), file.absolute().parent)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    except (InvalidConfiguration, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    if read.ignored:
        typer.echo(f"kubecore: {file}: without effect here: {', '.join(read.ignored)}", err=True)
    return read


ConfigFile = Annotated[
    Any,
    typer.Option(
        "--config",
        parser=Path,
        metavar="<file>",
        is_eager=True,
        callback=_node_file,
        help="A KubeletConfiguration (kubelet.config.k8s.io/v1beta1). Other options go before what it says.",
    ),
]
NodesConfigFile = Annotated[
    Any,
    typer.Option(
        "--kubelet-config",
        parser=Path,
        metavar="<file>",
        is_eager=True,
        callback=_nodes_file,
        help="A KubeletConfiguration (kubelet.config.k8s.io/v1beta1) for the nodes.",
    ),
]
NodeKubeconfig = Annotated[Path, typer.Option("--kubeconfig", help="How to reach the API server.", dir_okay=False)]
BootstrapKubeconfig = Annotated[
    Path | None,
    typer.Option(
        help="Of a node that joins, with a bootstrap token, say: by it the node asks for a client certificate, to "
        "which --kubeconfig leads afterwards. Not read while that one is good.",
        dir_okay=False,
    ),
]
RootDir = Annotated[
    Path, typer.Option(parser=options.named, metavar="<path>", callback=options.folder, help="Pods' files and logs.")
]
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
RotateCertificates = Annotated[
    bool,
    typer.Option(
        "--rotate-certificates",
        help="Ask the cluster for a client certificate of its own, and for another one before that ends.",
    ),
]
ClusterDns = Annotated[
    str, typer.Option(help="Addresses pods ask for names, comma separated; none: hosts files name the Services.")
]
NodeRuntime = Annotated[
    str,
    typer.Option(callback=options.one_of(("host", "oci", "cri")), help="Runtime of pods without a RuntimeClass."),
]
RuntimeEndpoint = Annotated[
    str,
    typer.Option(
        help="Socket of a container runtime (CRI) for --default-runtime cri and RuntimeClasses with its handlers; "
        "unix:///run/containerd/containerd.sock where it is the default runtime."
    ),
]
ImageEndpoint = Annotated[str, typer.Option(help="Socket of its image service, if it is not the same.")]
Mirrors = Annotated[
    list[str] | None,
    typer.Option(
        help="Where a registry's images are asked for first: HOST=URL, such as docker.io=http://10.0.0.2:5000."
    ),
]
ManifestPath = Annotated[
    Path | None, typer.Option(callback=options.folder_if_any, help="Folder of static pods, or the file of one.")
]
MaxPods = Annotated[int, typer.Option(min=1, help="Pods that the node takes.")]
ShutdownGracePeriod = Annotated[
    str,
    typer.Option(
        help="On SIGTERM: how long pods have to end, in order of priority, with statuses told; 0s: they end at once.",
        callback=duration,
    ),
]
ShutdownGracePeriodCriticalPods = Annotated[
    str, typer.Option(help="How much of that is for critical pods, which end last.", callback=duration)
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


def _evicting(
    eviction_hard: EvictionHard = DEFAULT_HARD,
    eviction_soft: EvictionSoft = "",
    eviction_soft_grace_period: EvictionSoftGracePeriod = "",
    eviction_minimum_reclaim: EvictionMinimumReclaim = "",
    eviction_max_pod_grace_period: EvictionMaxPodGracePeriod = 0,
    eviction_pressure_transition_period: EvictionPressureTransitionPeriod = "5m0s",
) -> Any:
    """An EvictionConfig. Raises BadParameter."""
    from kubecore.kubelet.eviction.manager import EvictionConfig
    from kubecore.kubelet.eviction.thresholds import BadThreshold, parse

    try:
        limits = parse(eviction_hard, eviction_soft, eviction_soft_grace_period, eviction_minimum_reclaim)
    except BadThreshold as error:
        raise typer.BadParameter(str(error)) from error
    return EvictionConfig(limits, seconds(eviction_pressure_transition_period), float(eviction_max_pod_grace_period))


def _shutting_down(
    shutdown_grace_period: ShutdownGracePeriod = "0s",
    shutdown_grace_period_critical_pods: ShutdownGracePeriodCriticalPods = "0s",
) -> Any:
    """A ShutdownConfig. Raises BadParameter."""
    from kubecore.kubelet.node.shutdown import ShutdownConfig

    whole, critical = shutdown_grace_period, shutdown_grace_period_critical_pods
    names = ("--shutdown-grace-period", "--shutdown-grace-period-critical-pods")
    for name, told in zip(names, (whole, critical), strict=True):
        if 0 < seconds(told) < 1:
            raise typer.BadParameter(f"{told} must be either zero or otherwise >= 1 sec", param_hint=f"'{name}'")
    if seconds(critical) > seconds(whole):
        raise typer.BadParameter(f"{critical} must be <= {names[0]} {whole}", param_hint=f"'{names[1]}'")
    return ShutdownConfig(seconds(whole), seconds(critical))


def _container_runtime(
    container_runtime_endpoint: RuntimeEndpoint = "", image_service_endpoint: ImageEndpoint = ""
) -> tuple[str, str]:
    return container_runtime_endpoint, image_service_endpoint


OciRuntime = Annotated[
    str,
    typer.Option(
        help="Program that runs the containers of runtime oci, such as runc or crun: its path, or its name on PATH; "
        "by default kubecore does it itself.",
    ),
]
OciRuntimeHandler = Annotated[
    list[str] | None,
    typer.Option(
        help="A further such program for a RuntimeClass's handler: HANDLER=PROGRAM. Where runc is installed, and there "
        "is no container runtime (CRI), it is handler runc.",
    ),
]


def _oci_programs(oci_runtime: OciRuntime = "", oci_runtime_handler: OciRuntimeHandler = None) -> dict[str, Any]:
    """Fields of a KubeletConfig. Raises BadParameter."""
    handlers = {}
    for one in oci_runtime_handler or ():
        handler, given, program = one.partition("=")
        if not given or handler in ("", *_RESERVED):
            told = f"{one!r} is not HANDLER=PROGRAM, with a handler beside {', '.join(_RESERVED)}"
            raise typer.BadParameter(told, param_hint="'--oci-runtime-handler'")
        handlers[handler] = _program(program, "--oci-runtime-handler")
    return {
        "oci_runtime": _program(oci_runtime, "--oci-runtime") if oci_runtime else "",
        "oci_handlers": handlers,
    }


_RESERVED = ("host", "oci", "cri", "simulated")


def _program(named: str, option: str) -> str:
    """Its absolute path. Raises BadParameter."""
    from kubecore.kubelet.runtime.oci_programs.finding import find

    found = find(named)
    if found is None:
        raise typer.BadParameter(f"there is no program {named!r} that can be run", param_hint=f"'{option}'")
    return str(Path(found).absolute())


def cri_config(default_runtime: str, endpoints: tuple[str, str], cni: Path) -> CriConfig | None:
    """None where no container runtime is asked for. `cni`: where its configuration goes. Raises BadParameter."""
    from kubecore.kubelet.runtime.cri.connection import DEFAULT_ENDPOINT, CriLack, check
    from kubecore.kubelet.settings.kubelet_config import CriConfig

    endpoint, image_endpoint = endpoints
    if not endpoint and default_runtime != "cri":
        return None
    asked = CriConfig(endpoint or DEFAULT_ENDPOINT, image_endpoint, cni)
    try:
        for one in filter(None, (asked.endpoint, asked.image_endpoint)):
            check(one)
    except CriLack as error:
        raise typer.BadParameter(str(error)) from error
    return asked


cri_options = stands_for("container_runtime", _container_runtime, "Container runtime options")
oci_options = stands_for("oci_programs", _oci_programs, "Container runtime options")
eviction_options = stands_for("eviction", _evicting, "Eviction options")
shutdown_options = stands_for("shutdown", _shutting_down, "Shutdown options")


_THE_CLUSTERS = {
    "cluster_dns": "clusterDNS",
    "cluster_domain": "clusterDomain",
    "tls_cert_file": "tlsCertFile",
    "tls_private_key_file": "tlsPrivateKeyFile",
    "client_ca_file": "authentication.x509.clientCAFile",
}


def node_settings(file: KubeletFile) -> dict[str, Any]:
    """Fields of the KubeletConfig of a cluster's nodes. Raises BadParameter for what the cluster says itself."""
    given, found = dict(file.options), dict(file.settings)
    evicting = {name: given.pop(name) for name in list(given) if name.startswith("eviction_")}
    if evicting:
        found["eviction"] = _evicting(**evicting)
    shutting_down = {name: given.pop(name) for name in list(given) if name.startswith("shutdown_")}
    if shutting_down:
        found["shutdown"] = _shutting_down(**shutting_down)
    if (most := given.pop("pod_max_pids", -1)) > 0:
        found["pod_max_pids"] = most
    if "allowed_unsafe_sysctls" in given:
        found["allowed_unsafe_sysctls"] = options.split(given.pop("allowed_unsafe_sysctls"))
    if "pod_manifest_path" in given:
        found["pod_manifest_path"] = Path(given.pop("pod_manifest_path"))
    if given.pop("rotate_certificates", False):  # they are in the cluster's own process
        typer.echo("kubecore: without effect here: rotateCertificates", err=True)
    refused = [_THE_CLUSTERS[option] for option in given]
    if refused:
        told = f"{refused[0]} cannot be set for nodes of a whole cluster"
        raise typer.BadParameter(told, param_hint="'--kubelet-config'")
    return found


def check_shutdown(file: KubeletFile, shutdown: ShutdownConfig) -> None:
    """What the file says by priority, and no option can. Raises BadParameter where options say how long, too."""
    if "shutdown" in file.settings and shutdown.seconds > 0:
        told = "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
        raise typer.BadParameter(told, param_hint="'--shutdown-grace-period'")


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
