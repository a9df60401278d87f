"""From the claims of a token to a user: mappings and rules, by name or in CEL.

After upstream k8s.io/apiserver plugin/pkg/authenticator/token/oidc/oidc.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubecore import _native

JSON = dict[str, Any]
Expression = _native.IdentityExpression

_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


class ClaimError(ValueError):
    """The claims make no user; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where something comes from: the claim of this name, after a prefix, or an expression."""

    claim: str = ""
    prefix: str = ""
    expression: Expression | None = None

    @property
    def named(self) -> bool:
        return bool(self.claim) or self.expression is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold, and what is said where it does not."""

    source: str
    expression: Expression
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMapping:
    username: Source
    groups: Source = Source()
    uid: Source = Source()
    extra: Sequence[tuple[str, Expression]] = ()
    required: Mapping[str, str] = field(default_factory=dict)
    claim_rules: Sequence[Rule] = ()
    user_rules: Sequence[Rule] = ()

    def user(self, claims: JSON) -> _native.UserInfo:
        """Raises ClaimError."""
        try:
            seen = orjson.dumps(claims)
        except orjson.JSONEncodeError as error:
            # What can be read may be nested deeper than what can be shown to expressions.
            raise ClaimError(f"the claims are nothing to judge: {error}") from None
        username = self._username(claims, seen)
        groups = self._groups(claims, seen)
        uid = self._uid(claims, seen)
        extra = self._extra(claims, seen)
        for name, wanted in self.required.items():
            if name not in claims:
                raise ClaimError(f"required claim {name} not present in ID token")
            if claims[name] != wanted:
                raise ClaimError(f"required claim {name} value does not match. Got = {claims[name]}, want = {wanted}")
        _check(self.claim_rules, seen, "claim validation expression")
        if self.user_rules:
            user = {"username": username, "uid": uid, "groups": groups, "extra": extra}
            _check(self.user_rules, orjson.dumps(user), "user info validation rule")
        return _native.UserInfo(username, uid, groups, extra)

    def _username(self, claims: JSON, seen: bytes) -> str:
        source = self.username
        if source.expression is not None:
            found = _evaluated(source.expression, seen, "username claim expression")
            if not isinstance(found, str):
                raise ClaimError(
                    "error evaluating username claim expression: username claim expression must return a string"
                )
            if not found:
                raise ClaimError("empty username via CEL expression is not allowed")
            return found
        found = _text(claims, source.claim, f'parse username claims "{source.claim}"')
        if source.claim == "email" and "email_verified" in claims:
            verified = claims["email_verified"]
            if not isinstance(verified, bool):
                raise ClaimError("parse 'email_verified' claim: it is neither true nor false")
            if not verified:
                raise ClaimError("email not verified")
        return source.prefix + found

    def _groups(self, claims: JSON, seen: bytes) -> list[str]:
        source = self.groups
        if source.expression is not None:
            return _texts(_evaluated(source.expression, seen, "group claim expression"), "group claim expression")
        found = claims.get(source.claim) if source.claim else None
        if found is None:
            return []
        listed = [found] if isinstance(found, str) else found
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise ClaimError(f'parse groups claim "{source.claim}": it is neither a string nor a list of strings')
        return [source.prefix + one for one in listed]

    def _uid(self, claims: JSON, seen: bytes) -> str:
        source = self.uid
        if source.claim:
            return _text(claims, source.claim, f'parse uid claim "{source.claim}"')
        if source.expression is None:
            return ""
        found = _evaluated(source.expression, seen, "uid claim expression")
        if not isinstance(found, str):
            raise ClaimError("error evaluating uid claim expression: uid claim expression must return a string")
        return found

    def _extra(self, claims: JSON, seen: bytes) -> dict[str, list[str]]:
        extra = {}
        if isinstance(claims.get("jti"), str) and claims["jti"]:
            extra[_CREDENTIAL_ID] = [f"JTI={claims['jti']}"]
        for key, expression in self.extra:
            values = _texts(_evaluated(expression, seen, "extra claim expression"), "extra claim expression")
            if values:
                extra[key] = values
        return extra


def _text(claims: JSON, name: str, doing: str) -> str:
    if name not in claims:
        raise ClaimError(f"{doing}: claim not present")
    if not isinstance(claims[name], str):
        raise ClaimError(f"{doing}: it is no string")
    text: str = claims[name]
    return text


def _evaluated(expression: Expression, seen: bytes, what: str) -> Any:
    try:
        return expression.evaluate(seen)
    except ValueError as error:
        raise ClaimError(f"error evaluating {what}: {error}") from None


def _texts(found: Any, what: str) -> list[str]:
    """Empty ones are none."""
    listed = [found] if isinstance(found, str) else [] if found is None else found
    if not isinstance(listed, list):
        raise ClaimError(f"error evaluating {what}: expression must return a string or a list of strings")
    return [one for one in listed if one]


def _check(rules: Sequence[Rule], seen: bytes, what: str) -> None:
    for rule in rules:
        found = _evaluated(rule.expression, seen, what)
        if found is not True:
            raise ClaimError(f"error evaluating {what}: validation expression '{rule.source}' failed: {rule.message}")
