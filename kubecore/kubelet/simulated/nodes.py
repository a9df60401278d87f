"""The Node objects of simulated nodes: how they are made, and what their status is to say. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.node.node import ATTACHED_FOR_IT, Machine, NodeIdentity, node_labels, node_object, node_status
from kubecore.kubelet.simulated.script import PREFIX

Object = dict[str, Any]

SIMULATED = f"{PREFIX}node"
"""The annotation of a node that is simulated: "true", or `MADE` for those the cluster was started with."""
MADE = "made"
SILENT = f"{PREFIX}silent"
"""The annotation of a simulated node that plays dead: "true"."""
CONDITIONS = f"{PREFIX}conditions"
"""The annotation that says which conditions of a simulated node are otherwise: "Ready=False,DiskPressure=True"."""
RUNTIME = "simulated"
ZONES = 3
_GIB = 1024**3


class ConditionsError(ValueError):
    """A node's annotation cannot be understood; the text names it."""


def is_made(node: Object) -> bool:
    """Whether the cluster was started with it, so that it goes when the cluster is started with fewer."""
    return (node["metadata"].get("annotations") or {}).get(SIMULATED) == MADE


def is_simulated(node: Object) -> bool:
    return (node["metadata"].get("annotations") or {}).get(SIMULATED) in ("true", MADE)


def is_silent(node: Object) -> bool:
    return (node["metadata"].get("annotations") or {}).get(SILENT) == "true"


def make_node(name: str, index: int, addresses: tuple[str, ...], now: datetime) -> Object:
    """The Node object of a node that the cluster was started with; zones take turns."""
    node = node_object(_identity(name, addresses), _machine(name), now)
    node["metadata"]["labels"] |= {
        "node.kubernetes.io/instance-type": "simulated",
        "topology.kubernetes.io/region": "simulated",
        "topology.kubernetes.io/zone": f"zone-{chr(ord('a') + index % ZONES)}",
    }
    node["metadata"]["annotations"] = {SIMULATED: MADE, **ATTACHED_FOR_IT}
    return node


def missing_metadata(node: Object) -> Object:
    """Of what a kubelet gives its node. What somebody made otherwise (another architecture) stays."""
    name = meta.name(node)
    given = {"labels": node_labels(name, _machine(name)), "annotations": ATTACHED_FOR_IT}
    held = {"labels": meta.labels(node), "annotations": meta.annotations(node)}
    missing = {
        field: {key: value for key, value in pairs.items() if key not in held[field]} for field, pairs in given.items()
    }
    return {field: pairs for field, pairs in missing.items() if pairs}


def wanted_status(node: Object, addresses: tuple[str, ...], now: datetime) -> Object | None:
    """The status of a simulated node, None where it is right as it is. What somebody said of its size and make stays;
    its conditions are those of a node that is well, but for what its annotation says. ConditionsError.
    """
    status = node.get("status") or {}
    name = meta.name(node)
    whole = node_status(_identity(name, addresses), _machine(name), now, status.get("conditions") or [])
    said = {key: status[key] for key in ("addresses", "allocatable", "capacity") if status.get(key)}
    if "capacity" in said:
        said.setdefault("allocatable", said["capacity"])
    if (status.get("nodeInfo") or {}).get("kubeletVersion"):
        said["nodeInfo"] = status["nodeInfo"]
    conditions = _conditions(node, whole["conditions"], now)
    held = {one.get("type"): one for one in status.get("conditions") or []}
    right = all((held.get(one["type"]) or {}).get("status") == one["status"] for one in conditions)
    if right and {"addresses", "allocatable", "capacity", "nodeInfo"} <= said.keys():
        return None
    others = [one for kind, one in held.items() if kind not in {condition["type"] for condition in conditions}]
    return {**status, **whole, **said, "conditions": [*conditions, *others]}


def _conditions(node: Object, well: list[Object], now: datetime) -> list[Object]:
    """With what the annotation wants otherwise."""
    text = (node["metadata"].get("annotations") or {}).get(CONDITIONS, "")
    if not text:
        return well
    wanted = dict(_parse_condition(part.strip()) for part in text.split(","))
    conditions = []
    for kind in dict.fromkeys([*(one["type"] for one in well), *wanted]):
        plain = next((one for one in well if one["type"] == kind), {"type": kind, "lastHeartbeatTime": None})
        state = wanted.get(kind)
        if state is None or state == plain.get("status"):
            conditions.append(plain)
            continue
        told = meta.format_time(now)
        conditions.append(
            {
                "type": kind,
                "status": state,
                "lastHeartbeatTime": told,
                "lastTransitionTime": meta.transition_time(meta.condition(node, kind), state, told),
                "reason": "Simulated",
                "message": f"the node's annotation {CONDITIONS} says so",
            }
        )
    return conditions


def _parse_condition(part: str) -> tuple[str, str]:
    kind, _, state = part.partition("=")
    if not kind.isalnum() or state not in ("True", "False"):
        expected = "a list such as Ready=False,DiskPressure=True"
        raise ConditionsError(f"annotation {CONDITIONS}: {part!r} is not of {expected}")
    return kind, state


def _identity(name: str, addresses: tuple[str, ...]) -> NodeIdentity:
    return NodeIdentity(
        name=name, addresses=addresses, port=0, pod_cidrs=(), network_mode=RUNTIME, runtime=RUNTIME, handlers=(RUNTIME,)
    )


def _machine(name: str) -> Machine:
    return Machine(
        cpus=32,
        memory=256 * _GIB,
        storage=1024 * _GIB,
        hostname=name,
        machine_id=name,
        system_uuid=name,
        boot_id=name,
        kernel="simulated",
        os_image="simulated",
        architecture="amd64",
    )
