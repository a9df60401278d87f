"""Who may ask and who may do what, composed of what the options say, and of files that may change while we run."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.authentication.bootstrap_tokens import BootstrapTokens
from kubecore.apiserver.authentication.modules import TokenModule, TokenModules
from kubecore.apiserver.authentication.token_file import read_tokens
from kubecore.apiserver.authentication.token_webhook import TokenWebhook
from kubecore.apiserver.authorization import abac, configuration
from kubecore.apiserver.authorization.authorizer import Authorizer
from kubecore.apiserver.authorization.node import NodeAuthorizer
from kubecore.apiserver.authorization.webhook import Webhook
from kubecore.apiserver.webhooks.reviewing import Reviewer
from kubecore.followed_file import FollowedFile

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.authentication.options import AuthenticationOptions
    from kubecore.apiserver.authorization.configuration import Configured
    from kubecore.apiserver.authorization.options import AuthorizationOptions
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

Changed = Callable[[], Awaitable[None]]


class Access:
    """`authorizer` and `tokens` are what the handlers ask; `followers` run as long as the server does."""

    def __init__(
        self,
        front: _native.Front,
        cacher: Cacher,
        clock: Clock,
        *,
        authority: bytes,
        audiences: Sequence[str],
        authentication: AuthenticationOptions,
        authorization: AuthorizationOptions,
        modes: Sequence[str],
    ) -> None:
        """`authority` is the PEM of the cluster's own CA. Raises OSError, ValueError for files that do not do."""
        self._clock = clock
        self._native = front.authenticator()
        self._own_ca = authority
        self._options = authentication
        self._authorization = authorization
        self._given: dict[Path, bytes] = {}
        self.trust_changed: Changed | None = None
        """Called when other CAs are trusted than before."""
        self._judge_certificates()
        self._native.set_anonymous(self._anonymous(modes))
        self._token_webhook: TokenWebhook | None = None
        self.tokens = TokenModules(self._native, clock, audiences, self._modules(cacher, audiences))
        self._keep_tokens()
        self._native_authorizer = front.authorizer()
        if authorization.policy_file is not None:
            policies = abac.read_policies(authorization.policy_file)
            self._native_authorizer.set_abac(orjson.dumps(policies))
        self._webhooks: list[Webhook] = []
        self._configured = self._configured_modes(modes)
        self.authorizer = Authorizer(self._native_authorizer, (), {"Node": NodeAuthorizer(cacher)})
        self._set_modes(self._configured)
        self._files = self._followed()

    # --- authentication

    def _anonymous(self, modes: Sequence[str]) -> bool:
        wanted = self._options.anonymous is not False
        if wanted and "AlwaysAllow" in modes:
            log.warning(
                "AnonymousAuth is not allowed with the AlwaysAllow authorizer. Resetting AnonymousAuth to false."
            )
            return False
        return wanted

    def _read(self, path: Path) -> bytes:
        """The file's content, which is followed from now on as what is known of it."""
        self._given[path] = path.read_bytes()
        return self._given[path]

    def _judge_certificates(self) -> None:
        given = self._options.client_ca_file
        self._native.set_client_ca(self._own_ca + (b"\n" + self._read(given) if given else b""))
        headers = self._options.request_header
        if headers.client_ca_file is not None:
            self._native.set_front_proxy(
                self._read(headers.client_ca_file),
                names=list(headers.allowed_names),
                user_headers=list(headers.username_headers),
                uid_headers=list(headers.uid_headers),
                group_headers=list(headers.group_headers),
                extra_prefixes=list(headers.extra_headers_prefix),
            )

    async def _certificates_changed(self, _: bytes) -> None:
        self._judge_certificates()
        if self.trust_changed is not None:
            await self.trust_changed()

    def trust(self) -> dict[str, str]:
        """What extension API servers need to trust us (ConfigMap extension-apiserver-authentication)."""
        given, headers = self._options.client_ca_file, self._options.request_header
        ours = self._own_ca + (self._given[given] if given else b"")
        data = {"client-ca-file": ours.decode()}
        if headers.client_ca_file is None:
            return data
        lists = {
            "requestheader-username-headers": headers.username_headers,
            "requestheader-group-headers": headers.group_headers,
            "requestheader-extra-headers-prefix": headers.extra_headers_prefix,
            "requestheader-allowed-names": headers.allowed_names,
        }
        if headers.uid_headers:
            lists["requestheader-uid-headers"] = headers.uid_headers
        data["requestheader-client-ca-file"] = self._given[headers.client_ca_file].decode()
        return {**data, **{name: orjson.dumps(values).decode() for name, values in lists.items()}}

    def _keep_tokens(self) -> None:
        if self._options.token_file is not None:
            for token, user in read_tokens(self._options.token_file).items():
                self._native.keep_token(token, user)

    def _modules(self, cacher: Cacher, audiences: Sequence[str]) -> list[TokenModule]:
        """In upstream's order."""
        options = self._options
        modules: list[TokenModule] = []
        if options.bootstrap_tokens:
            modules.append(BootstrapTokens(cacher, self._clock, audiences))
        if options.webhook.config_file is not None:
            reviewer = Reviewer(Kubeconfig.load(options.webhook.config_file), self._clock)
            self._token_webhook = TokenWebhook(
                reviewer,
                self._clock,
                version=options.webhook.version,
                seconds=options.webhook.cache_ttl,
                audiences=audiences,
            )
            modules.append(self._token_webhook)
        return modules

    # --- authorization

    def _configured_modes(self, modes: Sequence[str]) -> Configured:
        file = self._authorization.config_file
        if file is None:
            return configuration.of_flags(modes, self._authorization.webhook)
        return configuration.load(self._read(file).decode())

    def _set_modes(self, configured: Configured) -> None:
        self._webhooks = [
            Webhook(
                number,
                Reviewer(spec.connection, self._clock, timeout_seconds=spec.timeout),
                spec.terms,
                self._native_authorizer,
                self._clock,
            )
            for number, spec in enumerate(configured.webhooks)
        ]
        self.authorizer.set_modes(configured.modes, self._webhooks)

    async def _authorization_changed(self, content: bytes) -> None:
        required = [mode for mode in self._configured.modes if mode != "Webhook"]
        configured = configuration.load(content.decode(), required=required)
        before = self._webhooks
        self._set_modes(configured)
        for webhook in before:
            await webhook.close()

    # --- while it runs

    def _followed(self) -> list[FollowedFile]:
        headers = self._options.request_header
        followed: list[tuple[Path | None, Callable[[bytes], Awaitable[None]]]] = [
            (self._options.client_ca_file, self._certificates_changed),
            (headers.client_ca_file, self._certificates_changed),
            (self._authorization.config_file, self._authorization_changed),
        ]
        return [
            FollowedFile(path, self._clock, changed, known=self._given[path])
            for path, changed in followed
            if path is not None
        ]

    def followers(self) -> list[Coroutine[Any, Any, None]]:
        return [file.run() for file in self._files]

    async def look(self) -> None:
        """Takes notice of files that have changed now and not a moment later."""
        for file in self._files:
            await file.look()

    async def close(self) -> None:
        if self._token_webhook is not None:
            await self._token_webhook.close()
        for webhook in self._webhooks:
            await webhook.close()
