"""What a request to the API asks for, by the documentation of its paths alone; nothing of kubecore is asked.

kubernetes.io/docs/reference/access-authn-authz/authorization/#review-your-request-attributes.
"""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.rbac_rules import Asked

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
# In a namespace's path these are parts of the namespace itself.
_OF_NAMESPACES = ("status", "finalize")


def asked_by(method: str, target: str) -> Asked:
    """`target` is the path, escaped, with its query."""
    url = urlsplit(target)
    path = unquote(url.path)
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 3:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 4:
        group, rest = parts[1], parts[3:]
    else:
        return Asked(method.lower(), path=path)
    watches = rest[0] == "watch"
    rest = rest[1:] if watches else rest
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _OF_NAMESPACES:
            rest = rest[2:]
    resource, name, subresource = [*rest[:3], "", ""][:3]
    query = parse_qs(url.query, keep_blank_values=True)
    return Asked(_verb(method, name, query, watches=watches), group, resource, subresource, namespace, name)


def _verb(method: str, name: str, query: dict[str, list[str]], *, watches: bool) -> str:
    if watches:
        return "watch"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    if method in _VERBS:
        return _VERBS[method]
    if name:
        return "get"
    # Any value but these is a yes, none at all too.
    wanted = query.get("watch", ["false"])[0]
    return "list" if wanted.lower() in ("false", "0") else "watch"
