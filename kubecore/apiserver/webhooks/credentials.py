"""Who the API server is to webhooks: to those of admission, users of a kubeconfig that are named for the hosts they are
shown to; to others, the user of its context.

After upstream k8s.io/apiserver pkg/util/webhook/authentication.go and pkg/admission/plugin/webhook/config.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubecore.api import configuration_file
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.kubeconfig import Kubeconfig, KubeconfigError, pem_of
from kubecore.apiserver.webhooks.token_files import TokenFile
from kubecore.clock import Clock

JSON = dict[str, Any]

_FIELDS = {"kubeConfigFile": str}
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "WebhookAdmissionConfiguration": {"apiserver.config.k8s.io/v1": _FIELDS},
    "WebhookAdmission": {"apiserver.config.k8s.io/v1alpha1": _FIELDS},
}
_UNSUPPORTED = ("exec", "auth-provider")


@dataclass(frozen=True, slots=True)
class Credential:
    """Certificate and key are PEM. A token's file counts where there is no token."""

    authorization: str = ""
    token_file: TokenFile | None = None
    certificate: bytes = b""
    key: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    async def shown(self, clock: Clock) -> list[tuple[str, str]]:
        """Headers of a request. Raises OSError."""
        said = self.authorization
        if self.token_file is not None:
            said = f"Bearer {await self.token_file.token(clock)}"
        return [*([("Authorization", said)] if said else []), *self.headers]

    def refused(self, since: float) -> None:
        """Whoever was shown it at that time did not know us."""
        if self.token_file is not None:
            self.token_file.refused(since)


NOBODY = Credential()


@dataclass(frozen=True, slots=True)
class Credentials:
    by_name: Mapping[str, Credential] = field(default_factory=dict)
    otherwise: Credential = NOBODY
    """The current context's."""

    def of(self, host: str, port: int) -> Credential:
        """The first that is named for the host: by name, by `*.` and what the name ends with, or `*`."""
        # Most of the time there are none.
        for name in _names(host, port) if self.by_name else ():
            if (found := self.by_name.get(name)) is not None:
                return found
        return self.otherwise


def _names(host: str, port: int) -> Iterator[str]:
    for target in (f"{host}:{port}", *([host] if port == 443 else [])):
        yield target
        steps = target.split(".")
        yield from (f"*.{'.'.join(steps[place:])}" for place in range(1, len(steps)))
    yield "*"


def load(text: str) -> Credentials:
    """From the configuration of MutatingAdmissionWebhook or ValidatingAdmissionWebhook. Raises InvalidConfiguration."""
    if not text.strip():
        return Credentials()
    file = configuration_file.read_any(text, _KINDS).get("kubeConfigFile") or ""
    if not Path(file).is_absolute():
        raise InvalidConfiguration(f'kubeConfigFile: Invalid value: "{file}": must be an absolute file path')
    try:
        return _read(Path(file))
    except OSError as error:
        raise InvalidConfiguration(configuration_file.unread(error)) from None
    except KubeconfigError as error:
        raise InvalidConfiguration(str(error)) from None


def _read(file: Path) -> Credentials:
    """Raises InvalidConfiguration, KubeconfigError, OSError."""
    document = configuration_file.parsed(file.read_text())
    if not isinstance(document, dict):
        raise KubeconfigError(f"{file}: not a kubeconfig")
    users = {one.get("name") or "": _credential(one.get("user") or {}, file) for one in document.get("users") or ()}
    contexts = {one.get("name"): one.get("context") or {} for one in document.get("contexts") or ()}
    current = contexts.get(document.get("current-context")) or {}
    return Credentials(users, users.get(current.get("user") or "", NOBODY))


def _credential(user: JSON, file: Path) -> Credential:
    for field_name in _UNSUPPORTED:
        if user.get(field_name):
            raise KubeconfigError(f"{file}: credentials by {field_name} are not supported for webhooks")
    authorization, token_file = "", None
    if user.get("token"):
        authorization = f"Bearer {user['token']}"
    elif user.get("tokenFile"):
        token_file = TokenFile(file.parent / user["tokenFile"])
    else:
        authorization = _basic(user.get("username") or "", user.get("password") or "")
    return Credential(
        authorization,
        token_file,
        pem_of(user, "client-certificate", file),
        pem_of(user, "client-key", file),
        tuple(_impersonation(user)),
    )


def of_context(config: Kubeconfig) -> Credential:
    """All but the certificate. Raises KubeconfigError."""
    if config.other_credentials:
        raise KubeconfigError(f"credentials by {config.other_credentials} are not supported for webhooks")
    if config.token_file is not None:
        return Credential(token_file=TokenFile(config.token_file))
    return Credential(f"Bearer {config.token}" if config.token else _basic(config.username, config.password))


def _basic(username: str, password: str) -> str:
    """Empty for nobody."""
    if not (username or password):
        return ""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def _impersonation(user: JSON) -> Iterator[tuple[str, str]]:
    if not user.get("as"):
        return
    yield "Impersonate-User", user["as"]
    for group in user.get("as-groups") or ():
        yield "Impersonate-Group", group
    for key, values in (user.get("as-user-extra") or {}).items():
        for value in values:
            yield f"Impersonate-Extra-{key}", value
