"""How an Ingress wants its backends to be spoken to: annotations by the names that users of ingress-nginx know.

`kubecore.dev/NAME` counts before `nginx.ingress.kubernetes.io/NAME`. TLS to backends encrypts and, as there, believes
any certificate unless `proxy-ssl-verify: "on"`: then it must be signed by `ca.crt` of the Secret `proxy-ssl-secret` and
be for `proxy-ssl-name`, which is the Service's own name (`service.namespace.svc`) by default. That name is also what is
asked for (SNI). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubecore.api import meta

Object = Mapping[str, Any]

_NGINX = "nginx.ingress.kubernetes.io/"
PREFIXES = ("kubecore.dev/", _NGINX)
_READ = (
    "backend-protocol",
    "proxy-connect-timeout",
    "proxy-read-timeout",
    "proxy-ssl-name",
    "proxy-ssl-secret",
    "proxy-ssl-verify",
)
# Nobody is redirected: who asks for just that has it.
_TRUE_ANYHOW = {"ssl-redirect": "false", "force-ssl-redirect": "false"}
_PROTOCOLS = {"HTTP": "http", "HTTPS": "https", "GRPC": "h2c", "GRPCS": "h2"}
_SWITCH = {"on": True, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`protocol`: http, https, h2c or h2; "" leaves it to the Service's appProtocol. Seconds: None for the proxy's own.
    `tls_secret` is the key of a Secret."""

    protocol: str = ""
    tls_name: str = ""
    tls_secret: str = ""
    tls_verify: bool = False
    connect_seconds: float | None = None
    read_seconds: float | None = None


DEFAULT = Terms()


def read(ingress: Object) -> tuple[Terms, list[str]]:
    """The terms, and what is wrong with annotations that are left out of account."""
    problems: list[str] = []
    annotations = dict(_ours(meta.annotations(ingress)))

    def choice(name: str, choices: Mapping[str, Any], default: Any) -> Any:
        text = annotations.get(name, "").strip()
        for one in (text, text.upper(), text.lower()):
            if one in choices:
                return choices[one]
        if text:
            problems.append(f"annotation {name} is {text!r}, expected one of: {', '.join(choices)}")
        return default

    def seconds(name: str) -> float | None:
        text = annotations.get(name, "").strip()
        if text.isdecimal() and int(text) > 0:
            return float(text)
        if text:
            problems.append(f"annotation {name} is {text!r}, expected a positive number of seconds")
        return None

    secret = annotations.get("proxy-ssl-secret", "").strip()
    space = meta.namespace(ingress)
    if secret and not (secret.count("/") == 1 and secret.startswith(f"{space}/")):
        problems.append(
            f"annotation proxy-ssl-secret is {secret!r}, expected {space}/NAME: a Secret beside the Ingress"
        )
        secret = ""
    made = Terms(
        protocol=choice("backend-protocol", _PROTOCOLS, ""),
        tls_name=annotations.get("proxy-ssl-name", "").strip(),
        tls_secret=secret,
        tls_verify=choice("proxy-ssl-verify", _SWITCH, False),
        connect_seconds=seconds("proxy-connect-timeout"),
        read_seconds=seconds("proxy-read-timeout"),
    )
    return made, problems


def without_effect(ingress: Object) -> list[str]:
    """Annotations of ingress-nginx by which something else is expected than what is done here, sorted."""
    given = {
        name.removeprefix(_NGINX): value for name, value in meta.annotations(ingress).items() if name.startswith(_NGINX)
    }
    return sorted(
        _NGINX + name for name, value in given.items() if name not in _READ and _TRUE_ANYHOW.get(name) != value.strip()
    )


def _ours(annotations: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for prefix in reversed(PREFIXES):
        for name, value in annotations.items():
            if name.startswith(prefix):
                yield name.removeprefix(prefix), value
