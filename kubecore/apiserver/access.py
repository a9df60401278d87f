"""Who may ask and who may do what, composed of what the options say, and of files that may change while we run."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import orjson

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.authentication import configuration as issuers
from kubecore.apiserver.authentication.bootstrap_tokens import BootstrapTokens
from kubecore.apiserver.authentication.issuer_metrics import IssuerMetrics
from kubecore.apiserver.authentication.legacy_tokens import LegacyTokens
from kubecore.apiserver.authentication.modules import TokenModule, TokenModules
from kubecore.apiserver.authentication.oidc import Issuer, OIDCAuthenticator, Unreachable
from kubecore.apiserver.authentication.pki import have_in_common, holds_certificates
from kubecore.apiserver.authentication.token_file import read_tokens
from kubecore.apiserver.authentication.token_webhook import TokenWebhook
from kubecore.apiserver.authorization import abac, configuration
from kubecore.apiserver.authorization.authorizer import Authorizer
from kubecore.apiserver.authorization.metrics import WebhookMetrics
from kubecore.apiserver.authorization.node import NodeAuthorizer
from kubecore.apiserver.authorization.webhook import Webhook
from kubecore.apiserver.reload_metrics import ReloadMetrics
from kubecore.apiserver.webhooks.reviewing import Reviewer
from kubecore.followed_file import FollowedFile, NotYet

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.authentication.options import AuthenticationOptions
    from kubecore.apiserver.authorization.configuration import Configured
    from kubecore.apiserver.authorization.options import AuthorizationOptions
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

Changed = Callable[[], Awaitable[None]]
_T = TypeVar("_T")


class Access:
    """`authorizer` and `tokens` are what the handlers ask; `followers` run as long as the server does."""

    def __init__(
        self,
        front: _native.Front,
        cacher: Cacher,
        clock: Clock,
        *,
        authority: bytes,
        issuers_of_accounts: Sequence[str],
        audiences: Sequence[str],
        authentication: AuthenticationOptions,
        authorization: AuthorizationOptions,
        modes: Sequence[str],
        kept: LegacyTokens,
        own_files: Collection[Path] = (),
    ) -> None:
        """`authority` is the PEM of the cluster's own CA, `issuers_of_accounts` are those of service accounts' tokens,
        `kept` know those in Secrets; `own_files` change by nobody's hand. Raises OSError, ValueError for files that do
        not do."""
        self._kept = kept
        self._own_files = own_files
        self._clock = clock
        self._native = front.authenticator()
        self._own_ca = authority
        self._options = authentication
        self._authorization = authorization
        self._given: dict[Path, bytes] = {}
        self._reloads = tuple(ReloadMetrics(kind, "BETA", clock) for kind in ("authentication", "authorization"))
        self._of_issuers, self._of_webhooks = IssuerMetrics(clock), WebhookMetrics()
        self.metrics = [metric for one in self._reloads for metric in one.metrics]
        self.metrics += (*self._of_issuers.metrics, *self._of_webhooks.metrics)
        self.trust_changed: Changed | None = None
        """Called when other CAs are trusted than before."""
        self._judge_certificates()
        self._own_issuers, self._audiences = list(issuers_of_accounts), tuple(audiences)
        self._configured_issuers = self._read_issuers()
        self._let_anybody_in(modes)
        self._bootstrap = BootstrapTokens(cacher, clock, audiences) if authentication.bootstrap_tokens else None
        self._oidc = self._authenticators(self._configured_issuers)
        self._token_webhook = self._webhook_of_tokens()
        self.tokens = TokenModules(self._native, clock, audiences, self._modules())
        kept.changed = lambda: self.tokens.replace(self._modules())
        self._keep_tokens()
        self._native_authorizer = front.authorizer()
        if authorization.policy_file is not None:
            policies = abac.read_policies(authorization.policy_file)
            self._native_authorizer.set_abac(orjson.dumps(policies))
        self._webhooks: list[Webhook] = []
        self._configured = self._configured_modes(modes)
        self.authorizer = Authorizer(self._native_authorizer, (), {"Node": NodeAuthorizer(cacher)})
        self._set_modes(self._configured)

    # --- authentication

    def _let_anybody_in(self, modes: Sequence[str]) -> None:
        """Raises ValueError where flag and file both say it."""
        wanted, configured = self._options.anonymous, self._configured_issuers.anonymous
        if configured is not None and wanted is not None:
            raise ValueError(
                "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in "
                "authentication configuration file"
            )
        enabled, paths = configured or (wanted is not False, ())
        if enabled and "AlwaysAllow" in modes:
            log.warning("AnonymousAuth is not allowed with the AlwaysAllow authorizer. Resetting it to false.")
            enabled = False
        self._native.set_anonymous(enabled, paths)

    def _read(self, path: Path) -> bytes:
        """The file's content, which is followed from now on as what is known of it."""
        self._given[path] = path.read_bytes()
        return self._given[path]

    def _judge_certificates(self) -> None:
        given, headers = self._options.client_ca_file, self._options.request_header
        files = {file: file.read_bytes() for file in (given, headers.client_ca_file) if file is not None}
        for file, bundle in files.items():
            if not holds_certificates(bundle):
                raise ValueError(
                    f"unable to load client CA file {file}: data does not contain any valid RSA or ECDSA certificates"
                )
        of_clients = self._own_ca + (b"\n" + files[given] if given is not None else b"")
        of_proxies = files[headers.client_ca_file] if headers.client_ca_file is not None else b""
        if not headers.allowed_names and have_in_common(of_clients, of_proxies):
            # Not the flag's file alone, as upstream: the cluster's own CA signs certificates of clients, too.
            raise ValueError(
                "--requestheader-client-ca-file and --client-ca-file, or the cluster's own CA, contain overlapping "
                "certificates; --requestheader-allowed-names must be specified to ensure regular client certificates "
                "cannot set authenticating proxy headers for arbitrary users"
            )
        self._native.set_client_ca(of_clients)
        if of_proxies:
            self._native.set_front_proxy(
                of_proxies,
                names=list(headers.allowed_names),
                user_headers=list(headers.username_headers),
                uid_headers=list(headers.uid_headers),
                group_headers=list(headers.group_headers),
                extra_prefixes=list(headers.extra_headers_prefix),
            )
        # What they say is told to others, and followed from now on.
        self._given |= files

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

    def _modules(self) -> list[TokenModule]:
        """In upstream's order."""
        kept = self._kept if self._kept.are_any else None
        modules: list[TokenModule | None] = [kept, self._bootstrap, *self._oidc, self._token_webhook]
        return [one for one in modules if one is not None]

    def _webhook_of_tokens(self) -> TokenWebhook | None:
        webhook = self._options.webhook
        if webhook.config_file is None:
            return None
        return TokenWebhook(
            Reviewer(Kubeconfig.load(webhook.config_file), self._clock),
            self._clock,
            version=webhook.version,
            seconds=webhook.cache_ttl,
            audiences=self._audiences,
        )

    def _read_issuers(self) -> issuers.Configured:
        file = self._options.config_file
        if file is None:
            try:
                return issuers.of_flags(self._options.oidc, disallowed=self._own_issuers)
            except InvalidConfiguration as error:
                raise InvalidConfiguration(f"--oidc-* flags: {error}") from error
        load = partial(issuers.load, disallowed=self._own_issuers)
        configured = _loaded("authentication", file, self._read(file), load)
        self._reloads[0].applied(self._given[file])
        return configured

    def _authenticators(self, configured: issuers.Configured) -> list[OIDCAuthenticator]:
        return [
            OIDCAuthenticator(
                Issuer(one.url, self._clock, self._of_issuers, discovery_url=one.discovery_url, ca=one.ca),
                one.mapping,
                self._clock,
                audiences=one.audiences,
                algorithms=one.algorithms,
                api_audiences=self._audiences,
            )
            for one in configured.issuers
        ]

    async def _issuers_changed(self, content: bytes) -> None:
        configured = issuers.load(content.decode(), disallowed=self._own_issuers)
        if configured.anonymous != self._configured_issuers.anonymous:
            raise ValueError("anonymous: Forbidden: changed from initial configuration file")
        made = self._authenticators(configured)
        try:
            # As upstream: nobody is locked out for issuers that cannot be reached.
            for one in made:
                await one.issuer.fetch()
        except Unreachable as error:
            for one in made:
                await one.issuer.close()
            raise NotYet(str(error)) from None
        before, self._oidc = self._oidc, made
        self._reloads[0].applied(content)
        self._of_issuers.keep([one.issuer.url for one in made])
        self.tokens.replace(self._modules())
        for one in before:
            await one.issuer.close()

    # --- authorization

    def _configured_modes(self, modes: Sequence[str]) -> Configured:
        file = self._authorization.config_file
        if file is None:
            return configuration.of_flags(modes, self._authorization.webhook)
        configured = _loaded("authorization", file, self._read(file), configuration.load)
        self._reloads[1].applied(self._given[file])
        return configured

    def _set_modes(self, configured: Configured) -> None:
        self._webhooks = [
            Webhook(
                number,
                Reviewer(spec.connection, self._clock, timeout_seconds=spec.timeout),
                spec.terms,
                self._native_authorizer,
                self._clock,
                self._of_webhooks,
            )
            for number, spec in enumerate(configured.webhooks)
        ]
        self.authorizer.set_modes(configured.modes, self._webhooks, names=configured.names)

    async def _authorization_changed(self, content: bytes) -> None:
        required = [mode for mode in self._configured.modes if mode != "Webhook"]
        configured = configuration.load(content.decode(), required=required)
        before = self._webhooks
        self._set_modes(configured)
        self._reloads[1].applied(content)
        for webhook in before:
            await webhook.close()

    # --- while it runs

    def follow(self) -> list[FollowedFile]:
        headers, (of_issuers, of_modes) = self._options.request_header, self._reloads
        followed: list[tuple[Path | None, Callable[[bytes], Awaitable[None]], ReloadMetrics | None]] = [
            (self._options.client_ca_file, self._certificates_changed, None),
            (headers.client_ca_file, self._certificates_changed, None),
            (self._options.config_file, self._issuers_changed, of_issuers),
            (self._authorization.config_file, self._authorization_changed, of_modes),
        ]
        return [
            FollowedFile(path, self._clock, changed, known=self._given[path], told=told)
            for path, changed, told in followed
            if path is not None and path not in self._own_files
        ]

    async def close(self) -> None:
        if self._token_webhook is not None:
            await self._token_webhook.close()
        for webhook in self._webhooks:
            await webhook.close()
        for one in self._oidc:
            await one.issuer.close()


def _loaded(what: str, file: Path, content: bytes, load: Callable[[str], _T]) -> _T:
    """At the start, where nobody else says which file it is."""
    try:
        return load(content.decode())
    except (InvalidConfiguration, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f'{what} configuration file "{file}": {error}') from error
