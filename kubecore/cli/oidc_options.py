"""Tokens of OpenID Connect issuers: kube-apiserver's flags, which `kubecore up` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubecore.apiserver.authentication.options import OIDCOptions
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for


def _claims(given: list[str] | None) -> list[str] | None:
    for one in given or ():
        if not one.partition("=")[1]:
            raise typer.BadParameter(f"{one!r} is not KEY=VALUE")
    return given


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


IssuerURL = Annotated[str, typer.Option(help="URL of an OpenID issuer, https only, whose ID tokens are accepted.")]
ClientID = Annotated[str, typer.Option(help="The audience that its tokens must be meant for.")]
CAFile = Annotated[Path | None, options.file("CAs of the issuer's server; by default the host's.")]
UsernameClaim = Annotated[str, typer.Option(help="Claim that is the user's name.")]
UsernamePrefix = Annotated[
    str, typer.Option(help="Before names; by default the issuer and #, but for the claim email. - for none.")
]
GroupsClaim = Annotated[str, typer.Option(help="Claim that lists groups, or is one.")]
GroupsPrefix = Annotated[str, typer.Option(help="Before groups.")]
SigningAlgs = Annotated[str, typer.Option(help="Algorithms its tokens may be signed with, comma separated.")]
RequiredClaims = Annotated[
    list[str] | None,
    typer.Option(callback=_claims, help="KEY=VALUE that must be among the claims; may be given more than once."),
]


def _asked(
    oidc_issuer_url: IssuerURL = "",
    oidc_client_id: ClientID = "",
    oidc_ca_file: CAFile = None,
    oidc_username_claim: UsernameClaim = "sub",
    oidc_username_prefix: UsernamePrefix = "",
    oidc_groups_claim: GroupsClaim = "",
    oidc_groups_prefix: GroupsPrefix = "",
    oidc_signing_algs: SigningAlgs = "RS256",
    oidc_required_claim: RequiredClaims = None,
) -> OIDCOptions:
    asked = OIDCOptions(
        issuer_url=oidc_issuer_url,
        client_id=oidc_client_id,
        ca_file=oidc_ca_file,
        username_claim=oidc_username_claim,
        username_prefix=oidc_username_prefix,
        groups_claim=oidc_groups_claim,
        groups_prefix=oidc_groups_prefix,
        signing_algs=options.split(oidc_signing_algs),
        required_claims=tuple(_pair(one) for one in oidc_required_claim or ()),
    )
    if asked != OIDCOptions() and not (asked.issuer_url and asked.client_id):
        raise typer.BadParameter(
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
        )
    return asked


oidc_options = stands_for("oidc", _asked, "OpenID Connect options")
