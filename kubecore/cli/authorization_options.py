"""Who may do what: kube-apiserver's flags, which `kubecore up` has too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from kubecore.api import durations
from kubecore.apiserver.authorization.options import AuthorizationOptions, WebhookOptions
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

_DEFAULT_MODES = "Node,RBAC"

AuthorizationMode = Annotated[
    str,
    typer.Option(
        callback=options.authorization_modes,
        help=f"Authorizers in turn, comma separated: {', '.join(options.AUTHORIZATION_MODES)}.",
    ),
]
PolicyFile = Annotated[Path | None, options.file("Policies of mode ABAC, a JSON object a line.")]
WebhookConfigFile = Annotated[Path | None, options.file("A kubeconfig: whom mode Webhook asks.")]
WebhookVersion = Annotated[
    str,
    typer.Option(
        callback=options.one_of(["v1", "v1beta1"]), help="Version of the SubjectAccessReviews that the webhook is sent."
    ),
]
AuthorizedTTL = Annotated[str, typer.Option(callback=options.lasting, help="How long the webhook's yes is remembered.")]
UnauthorizedTTL = Annotated[
    str, typer.Option(callback=options.lasting, help="How long the webhook's no is remembered.")
]
ConfigFile = Annotated[
    Path | None,
    options.file("An AuthorizationConfiguration: authorizers in turn, instead of --authorization-mode."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationFlags:
    """What was asked for, checked."""

    modes: tuple[str, ...]
    options: AuthorizationOptions


def _asked(
    authorization_mode: AuthorizationMode = _DEFAULT_MODES,
    authorization_policy_file: PolicyFile = None,
    authorization_webhook_config_file: WebhookConfigFile = None,
    authorization_webhook_version: WebhookVersion = "v1beta1",
    authorization_webhook_cache_authorized_ttl: AuthorizedTTL = "5m0s",
    authorization_webhook_cache_unauthorized_ttl: UnauthorizedTTL = "30s",
    authorization_config: ConfigFile = None,
) -> AuthorizationFlags:
    modes = options.split(authorization_mode)
    asked = AuthorizationOptions(
        policy_file=authorization_policy_file,
        webhook=WebhookOptions(
            config_file=authorization_webhook_config_file,
            version=authorization_webhook_version,
            authorized_ttl=durations.seconds(authorization_webhook_cache_authorized_ttl),
            unauthorized_ttl=durations.seconds(authorization_webhook_cache_unauthorized_ttl),
        ),
        config_file=authorization_config,
    )
    _check(modes, asked)
    return AuthorizationFlags(modes=modes, options=asked)


def _check(modes: tuple[str, ...], asked: AuthorizationOptions) -> None:
    """Raises BadParameter in kube-apiserver's words for what does not fit together."""
    if asked.config_file is not None:
        if modes != options.split(_DEFAULT_MODES) or asked.webhook != WebhookOptions():
            raise typer.BadParameter(
                "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* "
                "flags are defined"
            )
        return
    if "ABAC" in modes and asked.policy_file is None:
        raise typer.BadParameter("authorization-mode ABAC's authorization policy file not passed")
    if "Webhook" in modes and asked.webhook.config_file is None:
        raise typer.BadParameter("authorization-mode Webhook's authorization config file not passed")
    if asked.policy_file is not None and "ABAC" not in modes:
        raise typer.BadParameter("cannot specify --authorization-policy-file without mode ABAC")
    if asked.webhook.config_file is not None and "Webhook" not in modes:
        raise typer.BadParameter("cannot specify --authorization-webhook-config-file without mode Webhook")


authorization_options = stands_for("authorization", _asked, "Authorization options")
