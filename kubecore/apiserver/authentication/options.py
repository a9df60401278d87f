"""Who may ask, as kube-apiserver's flags say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OIDCOptions:
    """The `--oidc-*` flags."""

    issuer_url: str = ""
    client_id: str = ""
    ca_file: Path | None = None
    username_claim: str = "sub"
    username_prefix: str = ""
    """Empty: the issuer and `#`, but for the claim email; `-` for none."""
    groups_claim: str = ""
    groups_prefix: str = ""
    signing_algs: tuple[str, ...] = ("RS256",)
    required_claims: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeaderOptions:
    """The `--requestheader-*` flags: whose word about users in headers is taken."""

    client_ca_file: Path | None = None
    allowed_names: tuple[str, ...] = ()
    username_headers: tuple[str, ...] = ()
    uid_headers: tuple[str, ...] = ()
    group_headers: tuple[str, ...] = ()
    extra_headers_prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWebhookOptions:
    """The `--authentication-token-webhook-*` flags; seconds."""

    config_file: Path | None = None
    version: str = "v1beta1"
    cache_ttl: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountOptions:
    """The `--service-account-*` flags, and `--api-audiences`."""

    issuers: tuple[str, ...] = ()
    """The first one issues, all are accepted; none: the cluster's own."""
    audiences: tuple[str, ...] = ()
    """Of the API, which tokens must be meant for; none: the issuers."""
    signing_key_file: Path | None = None
    key_files: tuple[Path, ...] = ()
    """Tokens are checked with the keys in these; without a signing key of one's own, with the cluster's, too."""
    jwks_uri: str = ""
    max_seconds: int = 0
    """How long tokens may last; 0: as long as they were asked for."""
    extends: bool = True
    """Pods' tokens last a year, so that who never reads them again goes on working."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationOptions:
    """What stands beside the cluster's own certificates and service accounts, which are always accepted."""

    anonymous: bool | None = None
    """None: as the configuration file says, else yes."""
    client_ca_file: Path | None = None
    token_file: Path | None = None
    bootstrap_tokens: bool = False
    request_header: RequestHeaderOptions = field(default_factory=RequestHeaderOptions)
    webhook: TokenWebhookOptions = field(default_factory=TokenWebhookOptions)
    oidc: OIDCOptions = field(default_factory=OIDCOptions)
    service_accounts: ServiceAccountOptions = field(default_factory=ServiceAccountOptions)
    config_file: Path | None = None
    """An AuthenticationConfiguration."""
