"""What of a pod depends on its operating system.

After kubernetes `pkg/apis/core/validation/validation.go`, validateOS, validateLinux, validateWindows,
validateWindowsSecurityContextOptions and validateWindowsHostProcessPod.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_CREDENTIAL_KIB = 64
_DOMAIN, _USER = 256, 104
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$')
_DNS_DOMAIN = re.compile(
    r"^[a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?)*$"
)
_ONLY_DOTS = re.compile(r"^[\. ]+$")
_BAD_USER = '"/\\:;|=,+*?<>@[]'

# Fields of the pod's security context that Windows has not, and of the pod; of a container's.
_POD_CONTEXT = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)
_POD = ("hostUsers", "shareProcessNamespace")
_POD_WHEN_TRUE = ("hostPID", "hostIPC")
_CONTAINER_CONTEXT = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)
_NOT_WINDOWS = "cannot be set for a windows pod"


def containers_with_paths(spec: JSON, path: str) -> Iterator[tuple[JSON, str]]:
    """Every container of a pod spec and where it is."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            yield container, f"{path}.{kind}[{index}]"


def validate_system(problems: Problems, spec: JSON, path: str) -> None:
    """The operating system a pod says it is for, and what it may not set then."""
    name = (spec.get("os") or {}).get("name")
    if not name:
        problems.required(f"{path}.os.name")
    elif name == "linux":
        _linux(problems, spec, path)
    elif name == "windows":
        _windows(problems, spec, path)
    else:
        problems.unsupported(f"{path}.os", name, ("linux", "windows"))


def _linux(problems: Problems, spec: JSON, path: str) -> None:
    detail = "windows options cannot be set for a linux pod"
    if (spec.get("securityContext") or {}).get("windowsOptions") is not None:
        problems.forbidden(f"{path}.securityContext.windowsOptions", detail)
    for container, where in containers_with_paths(spec, path):
        if (container.get("securityContext") or {}).get("windowsOptions") is not None:
            problems.forbidden(f"{where}.securityContext.windowsOptions", detail)


def _windows(problems: Problems, spec: JSON, path: str) -> None:
    context = spec.get("securityContext") or {}
    for field in _POD_CONTEXT:
        if context.get(field) is not None:
            problems.forbidden(f"{path}.securityContext.{field}", _NOT_WINDOWS)
    for field in _POD:
        if spec.get(field) is not None:
            problems.forbidden(f"{path}.{field}", _NOT_WINDOWS)
    for field in _POD_WHEN_TRUE:
        if spec.get(field):
            problems.forbidden(f"{path}.{field}", _NOT_WINDOWS)
    for container, where in containers_with_paths(spec, path):
        context = container.get("securityContext") or {}
        for field in _CONTAINER_CONTEXT:
            if context.get(field) is not None:
                problems.forbidden(f"{where}.securityContext.{field}", _NOT_WINDOWS)


def validate_host_process(problems: Problems, spec: JSON, path: str) -> None:
    """Containers that are processes of the host: all of a pod or none."""
    whole = _host_process(spec.get("securityContext"))
    total = hosted = 0
    for container, where in containers_with_paths(spec, path):
        total += 1
        own = _host_process(container.get("securityContext"))
        if whole is not None and own is not None and own != whole:
            shown = "true" if whole else "false"
            detail = f"pod hostProcess value must be identical if both are specified, was {shown}"
            problems.invalid(f"{where}.securityContext.windowsOptions.hostProcess", own, detail)
        hosted += bool(whole if own is None else own)
    if not hosted:
        return
    if hosted != total:
        detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        problems.invalid(path, "", detail)
    if not spec.get("hostNetwork"):
        detail = "hostNetwork must be true if pod contains any hostProcess containers"
        problems.invalid(f"{path}.hostNetwork", False, detail)


def _host_process(context: JSON | None) -> bool | None:
    return ((context or {}).get("windowsOptions") or {}).get("hostProcess")


def validate_windows_options(problems: Problems, options: JSON | None, path: str) -> None:
    if options is None:
        return
    name, credential = options.get("gmsaCredentialSpecName"), options.get("gmsaCredentialSpec")
    if name is not None:
        problems.check(f"{path}.gmsaCredentialSpecName", name, names.dns_subdomain)
    if credential is not None:
        where = f"{path}.gmsaCredentialSpec"
        if not credential:
            problems.invalid(where, credential, "gmsaCredentialSpec cannot be an empty string")
        elif len(credential) > _CREDENTIAL_KIB * 1024:
            problems.invalid(where, credential, f"gmsaCredentialSpec size must be under {_CREDENTIAL_KIB} KiB")
    if options.get("runAsUserName") is not None:
        for error in _user_errors(options["runAsUserName"]):
            problems.invalid(f"{path}.runAsUserName", options["runAsUserName"], f"runAsUserName{error}")


def _user_errors(text: str) -> Iterator[str]:
    if not text:
        yield " cannot be an empty string"
        return
    if _CONTROL.search(text):
        yield " cannot contain control characters"
        return
    domain, backslash, user = text.rpartition("\\")
    if "\\" in domain:
        yield " cannot contain more than one backslash"
        return
    if len(domain) >= _DOMAIN:
        yield f"'s Domain length must be under {_DOMAIN} characters"
    if backslash and not (_NETBIOS.match(domain) or _DNS_DOMAIN.match(domain)):
        yield "'s Domain doesn't match the NetBios nor the DNS format"
    if not user:
        yield "'s User cannot be empty"
    elif len(user) > _USER:
        yield f"'s User length must not be longer than {_USER} characters"
    if _ONLY_DOTS.match(user):
        yield "'s User cannot contain only periods or spaces"
    if any(char in _BAD_USER for char in user):
        yield f"'s User cannot contain the following characters: {_BAD_USER}"
