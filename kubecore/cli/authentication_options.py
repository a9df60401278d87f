"""Who may ask: kube-apiserver's flags, which `kubecore up` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubecore.api import durations
from kubecore.apiserver.authentication.options import (
    AuthenticationOptions,
    OIDCOptions,
    RequestHeaderOptions,
    ServiceAccountOptions,
    TokenWebhookOptions,
)
from kubecore.cli import options
from kubecore.cli.oidc_options import oidc_options
from kubecore.cli.option_groups import stands_for
from kubecore.cli.service_account_options import service_account_options


def _headers(text: str) -> str:
    """Comma separated; an empty one is none."""
    if text and not all(part.strip() for part in text.split(",")):
        raise typer.BadParameter("empty value in the list")
    return text


AnonymousAuth = Annotated[
    bool | None,
    typer.Option(
        "--anonymous-auth/--no-anonymous-auth",
        help="Whether requests without credentials are system:anonymous's.",
        show_default="anonymous-auth",
    ),
]
ClientCA = Annotated[Path | None, options.file("CAs of client certificates, besides the cluster's own.")]
TokenFile = Annotated[
    Path | None, options.file("Tokens that are accepted, as CSV: token,user,uid and maybe a quoted list of groups.")
]
BootstrapTokens = Annotated[
    bool,
    typer.Option(
        "--enable-bootstrap-token-auth/--no-enable-bootstrap-token-auth",
        help="Accept the tokens of Secrets of type bootstrap.kubernetes.io/token in kube-system.",
    ),
]
ProxyCA = Annotated[Path | None, options.file("CAs of proxies in front, whose word about users in headers is taken.")]
ProxyNames = Annotated[str, typer.Option(callback=_headers, help="Common names of these proxies; none: any.")]
UserHeaders = Annotated[str, typer.Option(callback=_headers, help="Headers that name the user: X-Remote-User.")]
UidHeaders = Annotated[str, typer.Option(callback=_headers, help="Headers with its uid: X-Remote-Uid.")]
GroupHeaders = Annotated[str, typer.Option(callback=_headers, help="Headers with its groups: X-Remote-Group.")]
ExtraPrefix = Annotated[
    str, typer.Option(callback=_headers, help="What headers with more begin with: X-Remote-Extra-.")
]
WebhookConfigFile = Annotated[Path | None, options.file("A kubeconfig: who is asked about tokens nobody here knows.")]
WebhookVersion = Annotated[
    str,
    typer.Option(
        callback=options.one_of(["v1", "v1beta1"]), help="Version of the TokenReviews that the webhook is sent."
    ),
]
WebhookTTL = Annotated[
    str, typer.Option(callback=options.lasting, help="How long the webhook's answers are remembered.")
]
AuthenticationConfig = Annotated[
    Path | None,
    options.file("An AuthenticationConfiguration: OpenID issuers with their mappings, and who may be anonymous."),
]


@oidc_options
@service_account_options
def _asked(
    *,
    oidc: OIDCOptions,
    service_accounts: ServiceAccountOptions,
    anonymous_auth: AnonymousAuth = None,
    client_ca_file: ClientCA = None,
    token_auth_file: TokenFile = None,
    enable_bootstrap_token_auth: BootstrapTokens = False,
    requestheader_client_ca_file: ProxyCA = None,
    requestheader_allowed_names: ProxyNames = "",
    requestheader_username_headers: UserHeaders = "",
    requestheader_uid_headers: UidHeaders = "",
    requestheader_group_headers: GroupHeaders = "",
    requestheader_extra_headers_prefix: ExtraPrefix = "",
    authentication_token_webhook_config_file: WebhookConfigFile = None,
    authentication_token_webhook_version: WebhookVersion = "v1beta1",
    authentication_token_webhook_cache_ttl: WebhookTTL = "2m0s",
    authentication_config: AuthenticationConfig = None,
) -> AuthenticationOptions:
    if authentication_config is not None and oidc != OIDCOptions():
        raise typer.BadParameter("authentication-config file and oidc-* flags are mutually exclusive")
    return AuthenticationOptions(
        anonymous=anonymous_auth,
        client_ca_file=client_ca_file,
        token_file=token_auth_file,
        bootstrap_tokens=enable_bootstrap_token_auth,
        request_header=_request_header(
            client_ca_file,
            RequestHeaderOptions(
                client_ca_file=requestheader_client_ca_file,
                allowed_names=options.split(requestheader_allowed_names),
                username_headers=options.split(requestheader_username_headers),
                uid_headers=options.split(requestheader_uid_headers),
                group_headers=options.split(requestheader_group_headers),
                extra_headers_prefix=options.split(requestheader_extra_headers_prefix),
            ),
        ),
        webhook=TokenWebhookOptions(
            config_file=authentication_token_webhook_config_file,
            version=authentication_token_webhook_version,
            cache_ttl=durations.seconds(authentication_token_webhook_cache_ttl),
        ),
        oidc=oidc,
        service_accounts=service_accounts,
        config_file=authentication_config,
    )


def _request_header(client_ca_file: Path | None, asked: RequestHeaderOptions) -> RequestHeaderOptions:
    """Raises BadParameter in kube-apiserver's words."""
    if asked.uid_headers and "x-remote-uid" not in (name.lower() for name in asked.uid_headers):
        raise typer.BadParameter(
            "--requestheader-uid-headers is set without specifying the standard X-Remote-Uid header - API aggregation "
            "will not work"
        )
    if client_ca_file and asked.client_ca_file and not asked.allowed_names and _overlap(client_ca_file, asked):
        raise typer.BadParameter(
            "--requestheader-client-ca-file and --client-ca-file contain overlapping certificates; "
            "--requestheader-allowed-names must be specified to ensure regular client certificates cannot set "
            "authenticating proxy headers for arbitrary users"
        )
    return asked


def _overlap(client_ca_file: Path, asked: RequestHeaderOptions) -> bool:
    from kubecore.apiserver.authentication.pki import have_in_common

    assert asked.client_ca_file is not None
    try:
        return have_in_common(client_ca_file.read_bytes(), asked.client_ca_file.read_bytes())
    except OSError:
        # Whoever uses the files will tell.
        return False


authentication_options = stands_for("authentication", _asked, "Authentication options")
