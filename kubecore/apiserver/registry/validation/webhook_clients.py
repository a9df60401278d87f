"""Where a webhook is: a URL or a Service. After k8s.io/apiserver `pkg/util/webhook/validation.go`."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names, urls
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_FORM = "; desired format: https://host[/path]"


def validate_client_config(problems: Problems, config: JSON, path: str) -> None:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        problems.required(path, "exactly one of url or service is required")
    elif url is not None:
        _url(problems, url, f"{path}.url")
    elif service is not None:
        _service(problems, service, f"{path}.service")


def _url(problems: Problems, given: str, path: str) -> None:
    try:
        url = urls.parse(given)
    except urls.BadURL as error:
        problems.required(path, f"url must be a valid URL: {error}{_FORM}")
        return
    if url.scheme != "https":
        problems.invalid(path, url.scheme, f"'https' is the only allowed URL scheme{_FORM}")
    if not url.host:
        problems.invalid(path, url.host, f"host must be specified{_FORM}")
    if url.user is not None:
        problems.invalid(path, url.user, "user information is not permitted in the URL")
    if url.fragment:
        problems.invalid(path, url.fragment, "fragments are not permitted in the URL")
    if url.query:
        problems.invalid(path, url.query, "query parameters are not permitted in the URL")


def _service(problems: Problems, service: JSON, path: str) -> None:
    # Upstream hands the two to its check in the wrong order.
    for field, told in (("name", "namespace"), ("namespace", "name")):
        if not service.get(field):
            problems.required(f"{path}.{told}")
    port = service.get("port")
    if port is not None and (errors := names.port_number(port)):
        problems.invalid(f"{path}.port", port, f"port is not valid: {', '.join(errors)}")
    if service.get("path"):
        _path(problems, service["path"], f"{path}.path")


def _path(problems: Problems, given: str, path: str) -> None:
    if given == "/":
        return
    if given == "//":
        problems.invalid(path, given, "segment[0] may not be empty")
        return
    if not given.startswith("/"):
        problems.invalid(path, given, "must start with a '/'")
    for index, step in enumerate(given[1:].removesuffix("/").split("/")):
        if not step:
            problems.invalid(path, given, f"segment[{index}] may not be empty")
        else:
            for error in names.dns_subdomain(step):
                problems.invalid(path, given, f"segment[{index}]: {error}")
