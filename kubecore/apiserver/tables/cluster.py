"""Tables of the cluster itself: nodes, namespaces, events, leases, quotas, classes, flow control, API services."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kubecore.apiserver.tables.ages import since
from kubecore.apiserver.tables.column import (
    AGE,
    NAME,
    Cell,
    Column,
    KindTable,
    Object,
    at,
    condition,
    count,
    part,
    wide,
)

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _node_status(node: Object, _now: datetime) -> Cell:
    ready = condition(node, "Ready")
    status = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    return f"{status},SchedulingDisabled" if part(node, "spec", "unschedulable") else status


def _node_roles(node: Object, _now: datetime) -> Cell:
    roles = set()
    for key, value in (node["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and key != _ROLE_PREFIX:
            roles.add(key[len(_ROLE_PREFIX) :])
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    return ",".join(sorted(roles)) or "<none>"


def _node_address(type: str) -> Callable[[Object, datetime], Cell]:
    def cell(node: Object, _now: datetime) -> Cell:
        for address in part(node, "status", "addresses") or []:
            if address.get("type") == type:
                return str(address.get("address", ""))
        return "<none>"

    return cell


def _node_info(field: str, *, default: str = "<unknown>") -> Callable[[Object, datetime], Cell]:
    def cell(node: Object, _now: datetime) -> Cell:
        return part(node, "status", "nodeInfo", field) or default

    return cell


NODES = KindTable(
    (
        NAME,
        Column("Status", _node_status, "Whether the node is ready and takes new pods."),
        Column("Roles", _node_roles, "The node's roles, from its labels."),
        AGE,
        Column("Version", _node_info("kubeletVersion", default=""), "The kubelet's version."),
        wide("Internal-IP", _node_address("InternalIP"), "The node's address within the cluster."),
        wide("External-IP", _node_address("ExternalIP"), "The node's address outside."),
        wide("OS-Image", _node_info("osImage"), "The operating system."),
        wide("Kernel-Version", _node_info("kernelVersion"), "The kernel."),
        wide("Container-Runtime", _node_info("containerRuntimeVersion"), "What runs its containers."),
    )
)

NAMESPACES = KindTable((NAME, Column("Status", at("status", "phase"), "Active or Terminating."), AGE))


def _component_condition(obj: Object) -> Object:
    for one in obj.get("conditions") or []:
        if one.get("type") == "Healthy":
            return one  # type: ignore[no-any-return]
    return {}


def _component_status(obj: Object, _now: datetime) -> Cell:
    status = _component_condition(obj).get("status")
    return "Unknown" if status is None else "Healthy" if status == "True" else "Unhealthy"


COMPONENT_STATUSES = KindTable(
    (
        NAME,
        Column("Status", _component_status, "Healthy, Unhealthy or Unknown."),
        Column("Message", lambda obj, _: _component_condition(obj).get("message", ""), "What the component says."),
        Column("Error", lambda obj, _: _component_condition(obj).get("error", ""), "Why it could not be asked."),
    )
)


# Events are stored in their core form; the fields of events.k8s.io are read too, so that either form can be shown.
def _event_times(event: Object, now: datetime) -> tuple[str, str]:
    """When the event was first and last seen."""
    first = event.get("firstTimestamp") or event.get("deprecatedFirstTimestamp") or event.get("eventTime")
    last = event.get("lastTimestamp") or event.get("deprecatedLastTimestamp") or first
    series = event.get("series")
    if series:
        last = series.get("lastObservedTime") or last
    return since(first, now), since(last, now)


def _event_count(event: Object, _now: datetime) -> Cell:
    series = event.get("series")
    if series:
        return int(series.get("count", 0))
    return event.get("count") or event.get("deprecatedCount") or 1


def _event_object(event: Object, _now: datetime) -> Cell:
    involved = event.get("involvedObject") or event.get("regarding") or {}
    kind = involved.get("kind", "").lower()
    return f"{kind}/{involved['name']}" if involved.get("name") else kind


def _event_source(event: Object, _now: datetime) -> Cell:
    source = event.get("source") or event.get("deprecatedSource") or {}
    component = source.get("component") or event.get("reportingComponent") or event.get("reportingController") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else str(component)


EVENTS = KindTable(
    (
        Column("Last Seen", lambda event, now: _event_times(event, now)[1], "When it was last seen."),
        Column("Type", at("type"), "Normal or Warning."),
        Column("Reason", at("reason"), "Why it happened, in a word."),
        Column("Object", _event_object, "What it is about."),
        wide(
            "Subobject",
            lambda event, _: part(event, "involvedObject", "fieldPath") or part(event, "regarding", "fieldPath") or "",
            "Which part of the object.",
        ),
        wide("Source", _event_source, "Who reports it."),
        Column("Message", lambda event, _: (event.get("message") or event.get("note") or "").strip(), "What happened."),
        wide("First Seen", lambda event, now: _event_times(event, now)[0], "When it was first seen."),
        wide("Count", _event_count, "How often it was seen."),
        wide("Name", NAME.cell, NAME.description, format="name"),
    )
)

LEASES = KindTable((NAME, Column("Holder", at("spec", "holderIdentity"), "Who holds the lease."), AGE))

LEASE_CANDIDATES = KindTable(
    (
        NAME,
        Column("LeaseName", at("spec", "leaseName"), "The lease it competes for."),
        Column("BinaryVersion", at("spec", "binaryVersion"), "Its binary's version."),
        Column("EmulationVersion", at("spec", "emulationVersion"), "The version it behaves as."),
        AGE,
    )
)


def _quota(limits: bool) -> Callable[[Object, datetime], Cell]:
    def cell(obj: Object, _now: datetime) -> Cell:
        hard, used = part(obj, "status", "hard") or {}, part(obj, "status", "used") or {}
        names = sorted(name for name in hard if name.startswith("limits") == limits)
        return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names)

    return cell


RESOURCE_QUOTAS = KindTable(
    (
        NAME,
        Column("Request", _quota(limits=False), "Requests and counts, used and allowed."),
        Column("Limit", _quota(limits=True), "Limits, used and allowed."),
        AGE,
    )
)

PRIORITY_CLASSES = KindTable(
    (
        NAME,
        Column("Value", at("value", default=0), "The priority.", type="integer"),
        Column("Global-Default", at("globalDefault", default=False), "Whether pods get it unasked.", type="boolean"),
        AGE,
        Column(
            "PreemptionPolicy", at("preemptionPolicy", default="PreemptLowerPriority"), "Whether it preempts others."
        ),
    )
)

RUNTIME_CLASSES = KindTable((NAME, Column("Handler", at("handler"), "The runtime's name on the node."), AGE))


def _distinguisher(obj: Object, _now: datetime) -> Cell:
    return part(obj, "spec", "distinguisherMethod", "type") or "<none>"


def _missing_level(obj: Object, _now: datetime) -> Cell:
    dangling = condition(obj, "Dangling")
    return "?" if dangling is None else str(dangling.get("status", "?"))


FLOW_SCHEMAS = KindTable(
    (
        NAME,
        Column("PriorityLevel", at("spec", "priorityLevelConfiguration", "name"), "The level its requests get."),
        Column("MatchingPrecedence", at("spec", "matchingPrecedence", default=0), "Lower ones are tried first."),
        Column("DistinguisherMethod", _distinguisher, "How its requests are told apart into flows."),
        AGE,
        Column("MissingPL", _missing_level, "Whether its priority level does not exist."),
    )
)


def _limited(*path: str) -> Callable[[Object, datetime], Cell]:
    def cell(obj: Object, _now: datetime) -> Cell:
        value = part(obj, "spec", "limited", *path)
        return "<none>" if value is None else value

    return cell


def _nominal_shares(obj: Object, _now: datetime) -> Cell:
    kind = "exempt" if part(obj, "spec", "type") == "Exempt" else "limited"
    value = part(obj, "spec", kind, "nominalConcurrencyShares")
    return "<none>" if value is None else value


PRIORITY_LEVEL_CONFIGURATIONS = KindTable(
    (
        NAME,
        Column("Type", at("spec", "type"), "Limited or Exempt."),
        Column("NominalConcurrencyShares", _nominal_shares, "Its share of the seats."),
        Column("Queues", _limited("limitResponse", "queuing", "queues"), "How many queues."),
        Column("HandSize", _limited("limitResponse", "queuing", "handSize"), "Queues a flow may land in."),
        Column("QueueLengthLimit", _limited("limitResponse", "queuing", "queueLengthLimit"), "Longest queue."),
        AGE,
    )
)


def _api_service(obj: Object, _now: datetime) -> Cell:
    service = part(obj, "spec", "service")
    return f"{service.get('namespace')}/{service.get('name')}" if service else "Local"


def _api_available(obj: Object, _now: datetime) -> Cell:
    available = condition(obj, "Available")
    if available is None:
        return "Unknown"
    if available.get("status") == "True":
        return "True"
    return f"{available.get('status')} ({available.get('reason', '')})"


API_SERVICES = KindTable(
    (
        NAME,
        Column("Service", _api_service, "Who serves the version."),
        Column("Available", _api_available, "Whether it answers."),
        AGE,
    )
)


def _claim_state(obj: Object, _now: datetime) -> Cell:
    states = []
    if obj["metadata"].get("deletionTimestamp"):
        states.append("deleted")
    if part(obj, "status", "allocation"):
        states.append("allocated")
    if part(obj, "status", "reservedFor"):
        states.append("reserved")
    return ",".join(states) or "pending"


RESOURCE_CLAIMS = KindTable((NAME, Column("State", _claim_state, "What has become of the claim."), AGE))


def _slice_node(obj: Object, _now: datetime) -> Cell:
    if part(obj, "spec", "allNodes"):
        return "<all>"
    return part(obj, "spec", "nodeName") or "<none>"


RESOURCE_SLICES = KindTable(
    (
        NAME,
        Column("Node", _slice_node, "The node that has the devices."),
        Column("Driver", at("spec", "driver"), "The driver that offers them."),
        Column("Pool", at("spec", "pool", "name"), "The pool they belong to."),
        AGE,
    )
)

STORAGE_VERSIONS = KindTable(
    (
        NAME,
        Column("CommonEncodingVersion", at("status", "commonEncodingVersion"), "What all servers write."),
        Column("StorageVersions", count("status", "storageVersions"), "Servers that reported."),
        AGE,
    )
)
