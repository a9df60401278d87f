"""Who may do what, as kube-apiserver's flags say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOptions:
    """The `--authorization-webhook-*` flags; seconds."""

    config_file: Path | None = None
    version: str = "v1beta1"
    authorized_ttl: float = 300.0
    unauthorized_ttl: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationOptions:
    """What stands beside `--authorization-mode`."""

    policy_file: Path | None = None
    """Of mode ABAC."""
    webhook: WebhookOptions = field(default_factory=WebhookOptions)
    config_file: Path | None = None
    """An AuthorizationConfiguration, which says the modes too."""
