"""Reads an AuthenticationConfiguration, as `--authentication-config` takes it, and the `--oidc-*` flags as one.

After upstream pkg/kubeapiserver/options/authentication.go and k8s.io/apiserver pkg/apis/apiserver/validation.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubecore import _native
from kubecore.api.configuration_file import InvalidConfiguration, read
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.api.quoting import quoted
from kubecore.apiserver.authentication.claims import ClaimMapping, Rule, Source
from kubecore.apiserver.authentication.json_web_tokens import ALGORITHMS
from kubecore.apiserver.authentication.options import OIDCOptions
from kubecore.apiserver.registry.validation import names
from kubecore.server_trust import trusting

JSON = dict[str, Any]

KIND = "AuthenticationConfiguration"
API_VERSIONS = tuple(f"apiserver.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_MOST = 64
_MATCH_ANY = "MatchAny"
# What Go's url.Parse does not take.
_NOT_IN_HOSTS = " \\^`{|}"
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_RESERVED = ("kubernetes.io", "k8s.io")
_CLAIM = {"claim": str, "prefix": str, "expression": str}
_FIELDS = {
    "jwt": [
        {
            "issuer": {
                "url": str,
                "discoveryURL": str,
                "certificateAuthority": str,
                "audiences": [str],
                "audienceMatchPolicy": str,
                "egressSelectorType": str,
            },
            "claimValidationRules": [{"claim": str, "requiredValue": str, "expression": str, "message": str}],
            "claimMappings": {
                "username": _CLAIM,
                "groups": _CLAIM,
                "uid": {"claim": str, "expression": str},
                "extra": [{"key": str, "valueExpression": str}],
            },
            "userValidationRules": [{"expression": str, "message": str}],
        }
    ],
    "anonymous": {"enabled": bool, "conditions": [{"path": str}]},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTIssuer:
    """One issuer whose tokens are accepted; `ca` is PEM, empty for the system's."""

    url: str
    discovery_url: str
    ca: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]
    mapping: ClaimMapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    issuers: tuple[JWTIssuer, ...] = ()
    anonymous: tuple[bool, tuple[str, ...]] | None = None
    """Whether anybody may ask, and at which paths only; None where the file does not say."""


def load(text: str, *, disallowed: Sequence[str] = ()) -> Configured:
    """From YAML or JSON; `disallowed` are issuers that are somebody else's. Raises InvalidConfiguration."""
    given = read(text, KIND, dict.fromkeys(API_VERSIONS, _FIELDS))
    issuers = given.get("jwt") or []
    if len(issuers) > _MOST:
        _refuse([FieldError.too_many("jwt", len(issuers), _MOST)])
    checked = [_Authenticator(one, f"jwt[{index}]", disallowed) for index, one in enumerate(issuers)]
    causes = [cause for one in checked for cause in one.causes] + _duplicates(issuers)
    anonymous = given.get("anonymous")
    paths = tuple(one.get("path") or "" for one in (anonymous or {}).get("conditions") or [])
    if anonymous is not None and not anonymous.get("enabled") and paths:
        detail = "enabled should be set to true when conditions are defined"
        causes.append(FieldError.invalid("anonymous.conditions", list(paths), detail))
    _refuse(causes)
    return Configured(
        issuers=tuple(one.issuer(ALGORITHMS) for one in checked),
        anonymous=None if anonymous is None else (bool(anonymous.get("enabled")), paths),
    )


def of_flags(options: OIDCOptions, *, disallowed: Sequence[str] = ()) -> Configured:
    """Raises InvalidConfiguration, OSError."""
    if not options.issuer_url:
        return Configured()
    for algorithm in options.signing_algs:
        if algorithm not in ALGORITHMS:
            raise InvalidConfiguration(f'oidc: unsupported signing alg: "{algorithm}"')
    prefix = options.username_prefix
    if not prefix and options.username_claim != "email":
        prefix = f"{options.issuer_url}#"
    mappings: JSON = {"username": {"claim": options.username_claim, "prefix": "" if prefix == "-" else prefix}}
    if options.groups_claim:
        mappings["groups"] = {"claim": options.groups_claim, "prefix": options.groups_prefix}
    authority = options.ca_file.read_text() if options.ca_file is not None else ""
    given = {
        "issuer": {
            "url": options.issuer_url,
            "audiences": [options.client_id],
            "certificateAuthority": authority,
        },
        "claimMappings": mappings,
        "claimValidationRules": [{"claim": key, "requiredValue": value} for key, value in options.required_claims],
    }
    checked = _Authenticator(given, "jwt[0]", disallowed)
    _refuse(checked.causes)
    return Configured(issuers=(checked.issuer(options.signing_algs),))


def _refuse(causes: Sequence[Cause]) -> None:
    if causes:
        told = [str(cause) for cause in causes]
        raise InvalidConfiguration(aggregated(told))


def _duplicates(issuers: Sequence[JSON]) -> list[Cause]:
    causes = []
    for field in ("url", "discoveryURL"):
        seen: set[str] = set()
        for index, one in enumerate(issuers):
            url = (one.get("issuer") or {}).get(field) or ""
            if url and url in seen:
                causes.append(FieldError.duplicate(f"jwt[{index}].issuer.{field}", url))
            seen.add(url)
    return causes


class _Authenticator:
    """One entry of `jwt`: what is wrong with it, and what it comes to."""

    def __init__(self, given: JSON, path: str, disallowed: Sequence[str]) -> None:
        self._path = path
        self._issuer = given.get("issuer") or {}
        self.causes: list[Cause] = []
        self._check_issuer(f"{path}.issuer", disallowed)
        rules = self._claim_rules(given.get("claimValidationRules") or [])
        self._mapped = self._mappings(given.get("claimMappings") or {}, rules)
        self._user_rules = self._rules(given.get("userValidationRules") or [], "user", "userValidationRules")
        self._required = {
            one["claim"]: one.get("requiredValue") or ""
            for one in given.get("claimValidationRules") or []
            if one.get("claim")
        }
        self._claims = rules

    def issuer(self, algorithms: Sequence[str]) -> JWTIssuer:
        """Of an entry nothing is wrong with."""
        username, groups, uid, extra = self._mapped
        return JWTIssuer(
            url=self._issuer["url"],
            discovery_url=self._issuer.get("discoveryURL") or "",
            ca=self._issuer.get("certificateAuthority") or "",
            audiences=tuple(self._issuer["audiences"]),
            algorithms=tuple(algorithms),
            mapping=ClaimMapping(
                username=username,
                groups=groups,
                uid=uid,
                extra=extra,
                required=self._required,
                claim_rules=self._claims,
                user_rules=self._user_rules,
            ),
        )

    # --- the issuer

    def _check_issuer(self, path: str, disallowed: Sequence[str]) -> None:
        issuer, found = self._issuer, self.causes
        url, discovery = issuer.get("url") or "", issuer.get("discoveryURL") or ""
        found += _url_problems(url, disallowed, f"{path}.url") if url else [FieldError.required(f"{path}.url")]
        if discovery:
            if url and url.rstrip("/") == discovery.rstrip("/"):
                found.append(
                    FieldError.invalid(f"{path}.discoveryURL", discovery, "discoveryURL must be different from URL")
                )
            found += _url_problems(discovery, (), f"{path}.discoveryURL")
        found += _audience_problems(issuer, path)
        authority = issuer.get("certificateAuthority") or ""
        if authority:
            try:
                trusting(authority)
            except ssl.SSLError:
                detail = "data does not contain any valid RSA or ECDSA certificates"
                found.append(FieldError.invalid(f"{path}.certificateAuthority", "<omitted>", detail))
        if issuer.get("egressSelectorType"):
            detail = "there are no egress selectors here"
            found.append(FieldError.invalid(f"{path}.egressSelectorType", issuer["egressSelectorType"], detail))

    # --- expressions

    def _compiled(self, about: str, source: str, path: str, *, condition: bool) -> _native.IdentityExpression | None:
        try:
            return _native.IdentityExpression(about, source, condition=condition)
        except ValueError as error:
            self.causes.append(FieldError.invalid(path, source, str(error)))
            return None

    def _rules(self, given: Sequence[JSON], about: str, field: str) -> list[Rule]:
        """Those that are expressions."""
        rules: list[Rule] = []
        for index, one in enumerate(given):
            source, path = one.get("expression") or "", f"{self._path}.{field}[{index}].expression"
            if not source:
                if about == "user":
                    self.causes.append(FieldError.required(path))
            elif any(rule.source == source for rule in rules):
                self.causes.append(FieldError.duplicate(path, source))
            elif (expression := self._compiled(about, source, path, condition=True)) is not None:
                rules.append(Rule(source, expression, one.get("message") or ""))
        return rules

    def _claim_rules(self, given: Sequence[JSON]) -> list[Rule]:
        seen: set[str] = set()
        for index, one in enumerate(given):
            path, claim, source = f"{self._path}.claimValidationRules[{index}]", one.get("claim"), one.get("expression")
            if claim and source:
                detail = "claim and expression can't both be set"
                self.causes.append(FieldError.invalid(path, claim, detail))
            elif not claim and not source:
                self.causes.append(FieldError.required(path, "claim or expression is required"))
            elif claim:
                if one.get("message"):
                    detail = "may not be specified when claim is set"
                    self.causes.append(FieldError.invalid(f"{path}.message", one["message"], detail))
                if claim in seen:
                    self.causes.append(FieldError.duplicate(f"{path}.claim", claim))
                seen.add(claim)
            elif one.get("requiredValue"):
                detail = "may not be specified when expression is set"
                self.causes.append(FieldError.invalid(f"{path}.requiredValue", one["requiredValue"], detail))
        return self._rules(given, "claims", "claimValidationRules")

    # --- mappings

    def _mappings(
        self, given: JSON, rules: Sequence[Rule]
    ) -> tuple[Source, Source, Source, list[tuple[str, _native.IdentityExpression]]]:
        path = f"{self._path}.claimMappings"
        username = self._prefixed(given.get("username") or {}, f"{path}.username", needed=True)
        groups = self._prefixed(given.get("groups") or {}, f"{path}.groups", needed=False)
        uid = self._source(given.get("uid") or {}, f"{path}.uid")
        extra = self._extra(given.get("extra") or [], f"{path}.extra")
        looks_at_email = username.expression is not None and username.expression.selects("email")
        lookers = [username.expression, *(one for _, one in extra), *(rule.expression for rule in rules)]
        if looks_at_email and not any(one is not None and one.selects("email_verified") for one in lookers):
            detail = (
                "claims.email_verified must be used in claimMappings.username.expression or "
                "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is "
                "used in claimMappings.username.expression"
            )
            source = given["username"]["expression"]
            self.causes.append(FieldError.invalid(f"{path}.username.expression", source, detail))
        return username, groups, uid, extra

    def _prefixed(self, given: JSON, path: str, *, needed: bool) -> Source:
        prefix = given.get("prefix")
        if given.get("claim") and given.get("expression"):
            # No word of a prefix then.
            return self._source(given, path)
        if needed and not given.get("claim") and not given.get("expression"):
            self.causes.append(FieldError.required(path, "claim or expression is required"))
        elif given.get("expression") and prefix is not None:
            detail = "may not be specified when expression is set"
            self.causes.append(FieldError.invalid(f"{path}.prefix", prefix, detail))
        elif given.get("claim") and prefix is None:
            detail = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            self.causes.append(FieldError.required(f"{path}.prefix", detail))
        source = self._source(given, path)
        return Source(claim=source.claim, prefix=prefix or "", expression=source.expression)

    def _source(self, given: JSON, path: str) -> Source:
        claim, source = given.get("claim") or "", given.get("expression") or ""
        if claim and source:
            self.causes.append(FieldError.invalid(path, "", "claim and expression can't both be set"))
            return Source()
        if not source:
            return Source(claim=claim)
        return Source(expression=self._compiled("claims", source, f"{path}.expression", condition=False))

    def _extra(self, given: Sequence[JSON], path: str) -> list[tuple[str, _native.IdentityExpression]]:
        made: list[tuple[str, _native.IdentityExpression]] = []
        seen: set[str] = set()
        for index, one in enumerate(given):
            where, key, source = f"{path}[{index}]", one.get("key") or "", one.get("valueExpression") or ""
            self.causes += _key_problems(key, f"{where}.key")
            if key in seen:
                self.causes.append(FieldError.duplicate(f"{where}.key", key))
            elif not source:
                self.causes.append(FieldError.required(f"{where}.valueExpression"))
            elif (found := self._compiled("claims", source, f"{where}.valueExpression", condition=False)) is not None:
                made.append((key, found))
            seen.add(key)
        return made


def _url_problems(url: str, disallowed: Sequence[str], path: str) -> list[Cause]:
    causes = []
    if url in disallowed:
        told = f"URL must not overlap with disallowed issuers: [{' '.join(sorted(disallowed))}]"
        causes.append(FieldError.invalid(path, url, told))
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [*causes, FieldError.invalid(path, url, str(error))]
    if (odd := next((one for one in parts.netloc.rpartition("@")[2] if one in _NOT_IN_HOSTS), None)) is not None:
        told = f"parse {quoted(url)}: invalid character {quoted(odd)} in host name"
        return [*causes, FieldError.invalid(path, url, told)]
    for wrong, detail in (
        (parts.scheme != "https", "URL scheme must be https"),
        ("@" in parts.netloc, "URL must not contain a username or password"),
        (bool(parts.query), "URL must not contain a query"),
        (bool(parts.fragment), "URL must not contain a fragment"),
    ):
        if wrong:
            causes.append(FieldError.invalid(path, url, detail))
    return causes


def _audience_problems(issuer: JSON, path: str) -> list[Cause]:
    audiences, policy = issuer.get("audiences") or [], issuer.get("audienceMatchPolicy") or ""
    if not audiences:
        return [FieldError.required(f"{path}.audiences", f"at least one {path}.audiences is required")]
    causes: list[Cause] = []
    for index, one in enumerate(audiences):
        if not one:
            causes.append(FieldError.required(f"{path}.audiences[{index}]"))
        if one in audiences[:index]:
            causes.append(FieldError.duplicate(f"{path}.audiences[{index}]", one))
    policy_path = f"{path}.audienceMatchPolicy"
    if len(audiences) > 1 and policy != _MATCH_ANY:
        detail = "audienceMatchPolicy must be MatchAny for multiple audiences"
        causes.append(FieldError.invalid(policy_path, policy, detail))
    if len(audiences) == 1 and policy not in ("", _MATCH_ANY):
        detail = "audienceMatchPolicy must be empty or MatchAny for single audience"
        causes.append(FieldError.invalid(policy_path, policy, detail))
    return causes


def _key_problems(key: str, path: str) -> list[Cause]:
    if not key:
        return [FieldError.required(path)]
    host, _, rest = key.partition("/")
    if not host or not rest:
        return [FieldError.invalid(path, key, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    causes = [FieldError.invalid(path, host, problem) for problem in names.dns_subdomain(host)]
    if not _PATH.fullmatch(rest):
        causes.append(FieldError.invalid(path, rest, "Invalid path"))
    if key != key.lower():
        causes.append(FieldError.invalid(path, key, "must be lowercase"))
    if host in _RESERVED or host.endswith(tuple(f".{one}" for one in _RESERVED)):
        detail = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
        causes.append(FieldError.invalid(path, key, detail))
    return causes
