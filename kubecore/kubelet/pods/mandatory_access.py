"""What pods ask of AppArmor and SELinux, and whether this kernel has them.

(kubernetes `pkg/security/apparmor`, `pkg/securitycontext/util.go`.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kubecore.api import meta

Object = dict[str, Any]

_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_LOCALHOST = "localhost/"


class SELinuxOptions(NamedTuple):
    """Each "" for what the runtime has."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


def app_armor_lack(kernel: Path = Path("/sys")) -> str:
    """Why no profile can be enforced here, "" if it can."""
    try:
        is_there = (kernel / "kernel/security/apparmor").exists()
        is_on = (kernel / "module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        is_there = is_on = False
    return "" if is_there and is_on else "AppArmor is not enabled on the host"


def app_armor_refusal(pod: Object, lack: str) -> str:
    """Why a pod cannot be confined as it wants, "" if it can or wants nothing. `lack`: that of the machine."""
    if not _wants_app_armor(pod):
        return ""
    if lack:
        return lack
    named = (_profile(pod, container) for container in _containers(pod))
    if any(one.get("type") == "Localhost" and not one.get("localhostProfile", "").strip() for one in named):
        return "invalid empty AppArmor profile name"
    return ""


def app_armor_profile(pod: Object, container: Object) -> str:
    """Empty where none is asked for; "unconfined", "runtime-default", or "localhost/" and the name of a profile."""
    profile = _profile(pod, container)
    match profile.get("type"):
        case "RuntimeDefault":
            return "runtime-default"
        case "Unconfined":
            return "unconfined"
        case "Localhost":
            return f"{_LOCALHOST}{profile.get('localhostProfile', '')}"
    return ""


def selinux_options(pod: Object, container: Object | None = None) -> SELinuxOptions | None:
    """The container's own, whole, before the pod's. None where nothing is asked for."""
    for context in ((container or {}).get("securityContext"), pod["spec"].get("securityContext")):
        if options := (context or {}).get("seLinuxOptions"):
            return SELinuxOptions(**{name: options.get(name, "") for name in SELinuxOptions._fields})
    return None


def asks_selinux(pod: Object) -> bool:
    """Whether any of its processes is to have a label of its own."""
    return any(selinux_options(pod, one) for one in _containers(pod))


def selinux_is_on(kernel: Path = Path("/sys")) -> bool:
    """Whether processes have labels here, be it that nothing is refused for them."""
    return (kernel / "fs/selinux/enforce").exists()


def _wants_app_armor(pod: Object) -> bool:
    contexts = [pod["spec"].get("securityContext"), *(one.get("securityContext") for one in _containers(pod))]
    asked = [profile for one in contexts if (profile := (one or {}).get("appArmorProfile"))]
    if any(one.get("type") != "Unconfined" for one in asked):
        return True
    noted = (value for key, value in meta.annotations(pod).items() if key.startswith(_ANNOTATION))
    return next(noted, "unconfined") != "unconfined"


def _profile(pod: Object, container: Object) -> Object:
    """As a field has it. Of a static pod annotations are as they were written."""
    own = (container.get("securityContext") or {}).get("appArmorProfile")
    noted = meta.annotations(pod).get(f"{_ANNOTATION}{container['name']}", "")
    found: Object
    if own:
        found = own
    elif noted in ("runtime/default", "unconfined"):
        found = {"type": "RuntimeDefault" if noted == "runtime/default" else "Unconfined"}
    elif noted.startswith(_LOCALHOST):
        found = {"type": "Localhost", "localhostProfile": noted.removeprefix(_LOCALHOST)}
    else:
        found = (pod["spec"].get("securityContext") or {}).get("appArmorProfile") or {}
    return found


def _containers(pod: Object) -> Iterator[Object]:
    for name in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod["spec"].get(name) or []
