"""Values worth trying in fields of a name, besides what the base objects have there."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

_EXPRESSIONS = (
    " ",
    "object.metadata.labels['a'] == 'b' && oldObject == null",
    "request.userInfo.groups.exists(g, g == 'system:masters') && !request.dryRun",
    "request.color == 'red'",
    "namespaceObject.metadata.labels.size() > 0 && namespaceObject.metadata.UID != ''",
    "namespaceObject.spec.finalizers.map(f, f.size()).sum() > 1",
    "authorizer.group('').resource('pods').namespace('a').name('b').check('get').allowed()",
    "authorizer.serviceAccount('a', 'b').path('/healthz').check('get').reason() == ''",
    "authorizer.requestResource.fieldSelector('a=b').check('list').errored()",
    "authorizer.requestResource == authorizer",
    "params.a.b == 1",
    "variables.v + 1 > 0",
    "variables.w",
    "'text'",
    "null",
    "1 + 'a'",
    "[1, 'a']",
    "{'a': timestamp('2026-01-01T00:00:00Z')}",
    "duration('1x') < duration('1h')",
    "object.x.matches('(')",
    "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: Object.spec{x: 1}}]",
    "[JSONPatch{op: 1}]",
    "Object{spec: Object.spec{?x: optional.of(1)}, metadata: 'any'}",
    "Object{}.a.b == Object.spec{}",
    "Other{}",
    "device.attributes['a.example.com'].model == 'x' || device.capacity['a.example.com'].memory > quantity('1Gi')",
    "device.capacity['a.example.com'].memory.isGreaterThan(quantity('1Gi'))",
    "device.color",
    "object\n  .metadata\n  .name == nothing",
)
_ODD: dict[str, tuple[Any, ...]] = {
    "expression": _EXPRESSIONS,
    "messageExpression": _EXPRESSIONS,
    "valueExpression": _EXPRESSIONS,
    "url": (
        "http://example.com",
        "https://me:secret@example.com/",
        "https://example.com/#top",
        "https://example.com/?a=b",
        "https://example.com:http/",
        "https://[::1",
        "https://exa mple.com/",
        "https://example.com/%zz",
        ":443",
        "a:443/x",
        "https:example.com",
        "//example.com",
    ),
    "addresses": ("10.0.0.01", "FD00::1", "::ffff:10.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "a.example.com."),
    "signerName": ("local/x", "example.com/a/b", "Example.com/x", "example.com/X", "kubernetes.io/legacy-unknown"),
    "nonResourceURLs": ("/", "/a b", "/a//b", "/a*", "/a/*", "/*/b/*"),
    "handSize": (11, 17),
    "verbs": ("*", "eat"),
}


def odd_values(*, certificate: str, request: str) -> Mapping[str, tuple[Any, ...]]:
    """`certificate` is PEM, `request` base64 of PEM."""
    encoded = base64.b64encode(certificate.encode()).decode()
    return {
        **_ODD,
        "certificate": (encoded, request),
        "trustBundle": ("nothing", certificate * 2, base64.b64decode(request).decode()),
    }
