"""`kubecore controller-manager`, with kube-controller-manager's own flag names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kubecore.cli import logs, options
from kubecore.cli.component import Kubeconfig, run_component
from kubecore.cli.controller_options import (
    AutoscalerInitialization,
    AutoscalerReadinessDelay,
    AutoscalerStabilization,
    AutoscalerSyncPeriod,
    AutoscalerTolerance,
    LocalVolumeDir,
    QuotaSyncPeriod,
    RootCAFile,
    ServiceAccountCredentials,
    ServiceAccountKeyFile,
    SigningCertFile,
    SigningKeyFile,
    UnusedTokenPeriod,
    node_options,
)
from kubecore.cli.leading import Leading, leads, seconds
from kubecore.cli.proxy_options import LoadBalancerCIDR
from kubecore.cli.serving_options import Serving, serves
from kubecore.cli.up import Verbosity

if TYPE_CHECKING:
    from kubecore.client import kubeconfig as credentials
    from kubecore.client.client import Client
    from kubecore.cluster import Component
    from kubecore.controllers.identities.account_tokens import TokenSource
    from kubecore.controllers.manager import ControllerManagerConfig


@serves
@leads("kube-controller-manager")
@node_options
def controller_manager(
    kubeconfig: Kubeconfig,
    root_ca_file: RootCAFile = None,
    local_volume_dir: LocalVolumeDir = None,
    load_balancer_cidr: LoadBalancerCIDR = "",
    cluster_signing_cert_file: SigningCertFile = None,
    cluster_signing_key_file: SigningKeyFile = None,
    service_account_private_key_file: ServiceAccountKeyFile = None,
    use_service_account_credentials: ServiceAccountCredentials = False,
    *,
    leading: Leading,
    serving: Serving,
    nodes: dict[str, Any],
    autoscaler_sync_period: AutoscalerSyncPeriod = "15s",
    autoscaler_tolerance: AutoscalerTolerance = 0.1,
    autoscaler_stabilization: AutoscalerStabilization = "5m",
    autoscaler_initialization: AutoscalerInitialization = "5m",
    autoscaler_readiness_delay: AutoscalerReadinessDelay = "30s",
    resource_quota_sync_period: QuotaSyncPeriod = "5m",
    legacy_service_account_token_clean_up_period: UnusedTokenPeriod = "8760h",
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """The controllers alone."""
    from kubecore.client import kubeconfig as credentials
    from kubecore.controllers.autoscaling.autoscaler import AutoscalerConfig
    from kubecore.controllers.manager import ControllerManagerConfig

    logs.configure(verbosity=verbosity, file=None, form=logging_format)
    leading.check()
    autoscaler = AutoscalerConfig(
        sync_period=seconds(autoscaler_sync_period),
        tolerance=autoscaler_tolerance,
        downscale_stabilization=seconds(autoscaler_stabilization),
        cpu_initialization_period=seconds(autoscaler_initialization),
        initial_readiness_delay=seconds(autoscaler_readiness_delay),
    )
    settings = ControllerManagerConfig(
        **nodes,
        autoscaler=autoscaler,
        resource_quota_sync_seconds=seconds(resource_quota_sync_period),
        unused_token_seconds=seconds(legacy_service_account_token_clean_up_period),
        local_volumes=local_volume_dir,
        load_balancer_ranges=options.split(load_balancer_cidr),
        signing_certificate=cluster_signing_cert_file.read_bytes() if cluster_signing_cert_file else b"",
        signing_key=cluster_signing_key_file.read_bytes() if cluster_signing_key_file else b"",
        account_tokens=_account_tokens(service_account_private_key_file),
    )

    def make(client: Client) -> Component:
        given = credentials.Kubeconfig.load(kubeconfig)
        root_ca = given.certificate_authority if root_ca_file is None else root_ca_file.read_bytes()
        client_for = _client_of_account(client, given) if use_service_account_credentials else None
        return _manager(client, replace(settings, root_ca=root_ca), client_for)

    run_component(kubeconfig, "kube-controller-manager", make, leading, serving=serving)


def _manager(
    client: Client, settings: ControllerManagerConfig, client_for: Callable[[str], Client] | None
) -> Component:
    """Raises BadParameter."""
    from kubecore.clock import RealClock
    from kubecore.controllers.manager import ControllerManager

    try:
        return ControllerManager(client, RealClock(), settings, client_for=client_for)
    except ValueError as error:
        raise typer.BadParameter(f"--cluster-signing-cert-file or its key is unusable: {error}") from error


def _account_tokens(key_file: Path | None) -> TokenSource | None:
    """Raises BadParameter for what is no key."""
    from kubecore.apiserver.authentication.pki import PKIError
    from kubecore.apiserver.authentication.tokens import TokenIssuer
    from kubecore.clock import RealClock

    if key_file is None:
        return None
    try:
        return TokenIssuer(key_file.parent, RealClock(), issuer="", file=key_file.name).issue_legacy
    except PKIError as error:
        raise typer.BadParameter(f"--service-account-private-key-file: {error}") from error


def _client_of_account(client: Client, config: credentials.Kubeconfig) -> Callable[[str], Client]:
    """Clients of service accounts in kube-system, whose tokens `client` requests."""
    from kubecore.client.client import Client as Made
    from kubecore.client.http import HTTPTransport
    from kubecore.client.service_account import ServiceAccountToken
    from kubecore.clock import RealClock

    anonymous = replace(config, client_certificate=b"", client_key=b"", token="")

    def client_for(account: str) -> Client:
        transport = HTTPTransport(anonymous, token=ServiceAccountToken(client, RealClock(), account))
        return Made(transport, field_manager=client.field_manager)

    return client_for
