"""What a pod of the host's own runtimes must do without, as its events tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubecore.kubelet.pods.mandatory_access import selinux_is_on
from kubecore.kubelet.runtime.interface import SandboxConfig
from kubecore.kubelet.runtime.isolation import Isolation


def lacks(isolation: Isolation, config: SandboxConfig, own_network: bool) -> Iterator[str]:
    if not isolation.namespaces:
        yield (
            f"{isolation.reason}: volumes are not mounted, "
            "their folders are named by the environment variables KUBECORE_VOLUME_<MOUNT PATH>; "
            "Services are known by the variables <NAME>_SERVICE_HOST and <NAME>_SERVICE_PORT, not by name; "
            "securityContext is not followed but for allowPrivilegeEscalation"
        )
    if config.supplemental_groups and isolation.user_namespace:
        groups = ", ".join(map(str, config.supplemental_groups))
        yield f"processes do not have the supplemental groups {groups}: without root none can be given to them"
    if config.asks_selinux and selinux_is_on():
        yield "seLinuxOptions are not applied: processes have the label of the node's own; runtime cri applies them"
    if config.image_directories and not isolation.namespaces:
        yield "volumes of type image are empty: nothing can be mounted"
    unset = [name for name, _ in config.sysctls if not is_own(name, isolation, config, own_network)]
    if unset:
        yield f"sysctls are not set, since the pod has no namespace of its own for them: {', '.join(unset)}"


def is_own(sysctl: str, isolation: Isolation, config: SandboxConfig, own_network: bool) -> bool:
    """Whether it can be set for the sandbox without a change for the host."""
    own = own_network if re.match(r"net[./]", sysctl) else not config.host_ipc
    return own and isolation.namespaces
