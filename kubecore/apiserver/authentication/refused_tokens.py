"""What is wrong with a service account's token that nobody knows: the words of a TokenReview.

Who comes with such a token hears 401 and no more. (kubernetes `pkg/serviceaccount/{jwt,claims}.go`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kubecore.api import meta
from kubecore.api.quoting import quoted
from kubecore.apiserver.authentication.json_web_tokens import ALGORITHMS, BadToken, check_algorithm, is_signed_by, parse
from kubecore.apiserver.authentication.tokens import LEGACY_ISSUER

if TYPE_CHECKING:
    from kubecore.apiserver.authentication.json_web_tokens import Token
    from kubecore.apiserver.authentication.tokens import TokenIssuer

JSON = dict[str, Any]
# By resource, namespace and name.
Get = Callable[[str, str, str], JSON | None]

_LEEWAY_SECONDS = 60
_INVALIDATED = "service account token has been invalidated"
# What else a token may be bound to: by the claim, what is found and whether it is a namespace's.
_BOUND = {"secret": ("secrets", True), "pod": ("pods", True), "node": ("nodes", False)}


def why_refused(token: str, audiences: Sequence[str], issuer: TokenIssuer, get: Get, now: float) -> str:
    """`audiences` are those that it was to be meant for, `now` in seconds since the epoch. Empty for a token that is
    not from one of our issuers."""
    try:
        read = parse(token)
    except BadToken:
        return ""
    of_secret = read.claims.get("iss") == LEGACY_ISSUER
    if not of_secret and read.claims.get("iss") not in issuer.issuers:
        return ""
    if unsigned := _why_unsigned(read, issuer):
        return unsigned
    if of_secret:
        # One that is still in its Secret is judged by who knows those.
        return "Token has been invalidated"
    meant_for = read.claims.get("aud") or issuer.audiences
    meant_for = [meant_for] if isinstance(meant_for, str) else list(meant_for)
    if not set(meant_for) & set(audiences):
        return f"token audiences {_listed(meant_for)} is invalid for the target audiences {_listed(audiences)}"
    return _out_of_time(read.claims, now) or next(_unbound(read.claims.get("kubernetes.io") or {}, get, now), "")


def _why_unsigned(read: Token, issuer: TokenIssuer) -> str:
    keys = [key.for_tokens for key in issuer.keys]
    name = read.header.get("kid") or ""
    if name and all(key.name != name for key in keys):
        return "invalid signature, no keys found"
    try:
        signed = is_signed_by(read, check_algorithm(read, ALGORITHMS), keys)
    except BadToken:
        signed = False
    return "" if signed else "go-jose/go-jose: error in cryptographic primitive"


def _out_of_time(claims: JSON, now: float) -> str:
    begins, ends, issued = (claims.get(name) for name in ("nbf", "exp", "iat"))
    if begins is not None and now + _LEEWAY_SECONDS < begins:
        return "service account token is not valid yet"
    if ends is not None and now - _LEEWAY_SECONDS > ends:
        return "service account token has expired"
    if issued is not None and now + _LEEWAY_SECONDS < issued:
        return "service account token is issued in the future"
    return ""


def _unbound(private: JSON, get: Get, now: float) -> Iterator[str]:
    """What is gone, or another one, of what the token lives and dies with."""
    namespace = private.get("namespace") or ""
    reference = private.get("serviceaccount") or {}
    name, uid = reference.get("name") or "", reference.get("uid") or ""
    account = get("serviceaccounts", namespace, name)
    if account is None:
        yield f"serviceaccounts {quoted(name)} not found"
    elif meta.uid(account) != uid:
        yield f"service account UID ({meta.uid(account)}) does not match claim ({uid})"
    elif _is_gone(account, now):
        yield f"service account {namespace}/{name} has been deleted"
    for claim, (resource, namespaced) in _BOUND.items():
        bound = private.get(claim)
        if not bound or (claim == "node" and private.get("pod")):
            # A pod's token names its node, and is not bound to it.
            continue
        found = get(resource, namespace if namespaced else "", bound.get("name") or "")
        uid = bound.get("uid") or ""
        if found is None or (meta.uid(found) == uid and _is_gone(found, now)):
            yield _INVALIDATED
        elif meta.uid(found) != uid:
            yield f"{claim} UID ({meta.uid(found)}) does not match service account {claim} ref claim ({uid})"


def _is_gone(obj: JSON, now: float) -> bool:
    since = meta.deletion_timestamp(obj)
    return bool(since) and meta.parse_time(since).timestamp() < now - _LEEWAY_SECONDS


def _listed(names: Sequence[str]) -> str:
    return f"[{' '.join(map(quoted, names))}]"
