"""Tokens of service accounts: kube-apiserver's flags, which `kubecore up` has too.

kube-apiserver must be told issuer and keys; here the cluster has its own, which each flag puts another in the place of.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from kubecore.api import durations
from kubecore.api.quoting import quoted
from kubecore.apiserver.authentication.options import ServiceAccountOptions
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

log = logging.getLogger("kubecore.apiserver")

_LEAST_SECONDS, _MOST_SECONDS = 3600, 1 << 32
_HELD_SECONDS, _EXTENDED_SECONDS = 3607, 365 * 24 * 3600

Issuers = Annotated[
    list[str] | None,
    typer.Option(help="Who issues tokens, best an https URL; may be given more than once: the first one issues."),
]
KeyFiles = Annotated[
    list[Path] | None,
    options.file("PEM of keys that tokens are checked with, private ones and certificates too; more than once."),
]
SigningKeyFile = Annotated[
    Path | None, options.file("The private key that tokens are signed with; by default one in the data directory.")
]
KeySetURI = Annotated[str, typer.Option(help="Where others are told to find the keys that tokens are checked with.")]
MaxExpiration = Annotated[
    str, typer.Option(callback=options.lasting, help="Longest that tokens last, of 1h at least; 0s: as asked for.")
]
Extends = Annotated[
    bool,
    typer.Option(
        "--service-account-extend-token-expiration/--no-service-account-extend-token-expiration",
        help="Pods' tokens last a year, for those who never read them again.",
    ),
]
Audiences = Annotated[
    list[str] | None,
    typer.Option(help="Whom tokens must be meant for, comma separated, or more than once; by default the issuers."),
]


def _asked(
    service_account_issuer: Issuers = None,
    service_account_key_file: KeyFiles = None,
    service_account_signing_key_file: SigningKeyFile = None,
    service_account_jwks_uri: KeySetURI = "",
    service_account_max_token_expiration: MaxExpiration = "0s",
    service_account_extend_token_expiration: Extends = True,
    api_audiences: Audiences = None,
) -> ServiceAccountOptions:
    issuers = tuple(service_account_issuer or ())
    _check_issuers(issuers)
    if service_account_jwks_uri:
        _check_key_set(service_account_jwks_uri)
    seconds = durations.seconds(service_account_max_token_expiration)
    if seconds:
        _check_expiration(
            seconds, service_account_max_token_expiration, extends=service_account_extend_token_expiration
        )
    return ServiceAccountOptions(
        issuers=issuers,
        audiences=tuple(one for given in api_audiences or () for one in options.split(given)),
        signing_key_file=service_account_signing_key_file,
        key_files=tuple(service_account_key_file or ()),
        jwks_uri=service_account_jwks_uri,
        max_seconds=int(seconds),
        extends=service_account_extend_token_expiration,
    )


def _check_issuers(issuers: tuple[str, ...]) -> None:
    """Raises BadParameter in kube-apiserver's words."""
    for place, issuer in enumerate(issuers):
        if ":" in issuer and (wrong := _no_url(issuer)):
            told = f"service-account-issuer {quoted(issuer)} contained a ':' but was not a valid URL: {wrong}"
            raise typer.BadParameter(told)
        if not issuer:
            raise typer.BadParameter("service-account-issuer should not be an empty string")
        if issuer in issuers[:place]:
            raise typer.BadParameter(f"service-account-issuer {quoted(issuer)} is already specified")


def _no_url(text: str) -> str:
    """Why it is none, as Go's net/url says it."""
    if text.startswith(":"):
        return f"parse {quoted(text)}: missing protocol scheme"
    try:
        urlsplit(text)
    except ValueError as error:
        return f"parse {quoted(text)}: {error}"
    return ""


def _check_key_set(uri: str) -> None:
    """Likewise."""
    if wrong := _no_url(uri):
        raise typer.BadParameter(f"service-account-jwks-uri must be a valid URL: {wrong}")
    if urlsplit(uri).scheme != "https":
        raise typer.BadParameter(f"service-account-jwks-uri requires https scheme, parsed as: {uri}")


def _check_expiration(seconds: float, given: str, *, extends: bool) -> None:
    """Likewise; warns of tokens that last longer all the same."""
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        raise typer.BadParameter("the service-account-max-token-expiration must be between 1 hour and 2^32 seconds")
    told = "service-account-extend-token-expiration is true"
    if extends and seconds < _HELD_SECONDS:
        log.warning(
            "%s, in order to correctly trigger safe transition logic, service-account-max-token-expiration must be set "
            "longer than %d seconds (currently %s)",
            told,
            _HELD_SECONDS,
            given,
        )
    if extends and seconds < _EXTENDED_SECONDS:
        log.warning(
            "%s, enabling tokens valid up to %d seconds, which is longer than service-account-max-token-expiration set "
            "to %s",
            told,
            _EXTENDED_SECONDS,
            given,
        )


service_account_options = stands_for("service_accounts", _asked, "Service account options")
