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
    Field,
    KindTable,
    Object,
    at,
    condition,
    part,
    shortened,
    wide,
)

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _node_status(node: Object, _now: datetime) -> Cell:
    ready = [one for one in part(node, "status", "conditions") or [] if one.get("type") == "Ready"]
    status = "Unknown" if not ready else "Ready" if ready[-1].get("status") == "True" else "NotReady"
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
        Column("Status", _node_status, "The status of the node"),
        Column("Roles", _node_roles, "The roles of the node"),
        AGE,
        Column("Version", _node_info("kubeletVersion", default=""), Field("core.v1.NodeSystemInfo", "kubeletVersion")),
        wide("Internal-IP", _node_address("InternalIP"), Field("core.v1.NodeStatus", "addresses")),
        wide("External-IP", _node_address("ExternalIP"), Field("core.v1.NodeStatus", "addresses")),
        wide("OS-Image", _node_info("osImage"), Field("core.v1.NodeSystemInfo", "osImage")),
        wide("Kernel-Version", _node_info("kernelVersion"), Field("core.v1.NodeSystemInfo", "kernelVersion")),
        wide(
            "Container-Runtime",
            _node_info("containerRuntimeVersion"),
            Field("core.v1.NodeSystemInfo", "containerRuntimeVersion"),
        ),
    )
)

NAMESPACES = KindTable((NAME, Column("Status", at("status", "phase"), "The status of the namespace"), AGE))


def _component_condition(obj: Object) -> Object:
    for one in obj.get("conditions") or []:
        if one.get("type") == "Healthy":
            return one  # type: ignore[no-any-return]
    return {}


def _component_status(obj: Object, _now: datetime) -> Cell:
    healthy = _component_condition(obj)
    return "Unknown" if not healthy else "Healthy" if healthy.get("status") == "True" else "Unhealthy"


COMPONENT_STATUSES = KindTable(
    (
        NAME,
        Column("Status", _component_status, "Status of the component conditions"),
        Column(
            "Message",
            lambda obj, _: _component_condition(obj).get("message", ""),
            "Message of the component conditions",
        ),
        Column("Error", lambda obj, _: _component_condition(obj).get("error", ""), "Error of the component conditions"),
    )
)


# Events are stored in their core form; the fields of events.k8s.io are read too, so that either form can be shown.
def _event_times(event: Object, now: datetime) -> tuple[str, str]:
    """When the event was first and last seen."""
    first = event.get("firstTimestamp") or event.get("deprecatedFirstTimestamp") or event.get("eventTime")
    last = event.get("lastTimestamp") or event.get("deprecatedLastTimestamp") or first
    series = event.get("series")
    if series is not None:
        last = series.get("lastObservedTime")
    return since(first, now), since(last, now)


def _event_count(event: Object, _now: datetime) -> Cell:
    series = event.get("series")
    if series is not None:
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
        Column("Last Seen", lambda event, now: _event_times(event, now)[1], Field("core.v1.Event", "lastTimestamp")),
        Column("Type", at("type"), Field("core.v1.Event", "type")),
        Column("Reason", at("reason"), Field("core.v1.Event", "reason")),
        Column("Object", _event_object, Field("core.v1.Event", "involvedObject")),
        wide(
            "Subobject",
            lambda event, _: part(event, "involvedObject", "fieldPath") or part(event, "regarding", "fieldPath") or "",
            Field("core.v1.ObjectReference", "fieldPath"),
        ),
        wide("Source", _event_source, Field("core.v1.Event", "source")),
        Column(
            "Message",
            lambda event, _: (event.get("message") or event.get("note") or "").strip(),
            Field("core.v1.Event", "message"),
        ),
        wide("First Seen", lambda event, now: _event_times(event, now)[0], Field("core.v1.Event", "firstTimestamp")),
        wide("Count", _event_count, Field("core.v1.Event", "count")),
        wide("Name", NAME.cell, NAME.description, format="name"),
    )
)

LEASES = KindTable(
    (NAME, Column("Holder", at("spec", "holderIdentity"), Field("coordination.v1.LeaseSpec", "holderIdentity")), AGE)
)

LEASE_CANDIDATES = KindTable(
    (
        NAME,
        Column("LeaseName", at("spec", "leaseName"), Field("coordination.v1alpha2.LeaseCandidateSpec", "leaseName")),
        Column("BinaryVersion", at("spec", "binaryVersion"), ""),
        Column("EmulationVersion", at("spec", "emulationVersion"), ""),
        AGE,
    )
)


def _quota(limits: bool) -> Callable[[Object, datetime], Cell]:
    def cell(obj: Object, _now: datetime) -> Cell:
        hard, used = part(obj, "status", "hard") or {}, part(obj, "status", "used") or {}
        names = sorted(name for name in hard if name.startswith("limits.") == limits)
        return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names)

    return cell


RESOURCE_QUOTAS = KindTable(
    (
        NAME,
        Column(
            "Request",
            _quota(limits=False),
            "Request represents a minimum amount of cpu/memory that a container may consume.",
        ),
        Column(
            "Limit",
            _quota(limits=True),
            (
                "Limits control the maximum amount of cpu/memory that a container may use independent of "
                "contention on the node."
            ),
        ),
        AGE,
    )
)

PRIORITY_CLASSES = KindTable(
    (
        NAME,
        Column("Value", at("value", default=0), Field("scheduling.v1.PriorityClass", "value"), type="integer"),
        Column(
            "Global-Default",
            at("globalDefault", default=False),
            Field("scheduling.v1.PriorityClass", "globalDefault"),
            type="boolean",
        ),
        AGE,
        Column("PreemptionPolicy", at("preemptionPolicy"), Field("scheduling.v1.PriorityClass", "preemptionPolicy")),
    )
)

RUNTIME_CLASSES = KindTable((NAME, Column("Handler", at("handler"), ""), AGE))


def _distinguisher(obj: Object, _now: datetime) -> Cell:
    method = part(obj, "spec", "distinguisherMethod")
    return "<none>" if method is None else str(method.get("type", ""))


def _missing_level(obj: Object, _now: datetime) -> Cell:
    dangling = condition(obj, "Dangling")
    return "?" if dangling is None else str(dangling.get("status", ""))


def _precedence(obj: Object) -> tuple[int, str]:
    return part(obj, "spec", "matchingPrecedence") or 0, obj["metadata"].get("name", "")


FLOW_SCHEMAS = KindTable(
    (
        NAME,
        Column(
            "PriorityLevel",
            at("spec", "priorityLevelConfiguration", "name"),
            Field("flowcontrol.v1.PriorityLevelConfigurationReference", "name"),
        ),
        Column(
            "MatchingPrecedence",
            at("spec", "matchingPrecedence", default=0),
            Field("flowcontrol.v1.FlowSchemaSpec", "matchingPrecedence"),
        ),
        Column("DistinguisherMethod", _distinguisher, Field("flowcontrol.v1.FlowSchemaSpec", "distinguisherMethod")),
        AGE,
        Column("MissingPL", _missing_level, "references a broken or non-existent PriorityLevelConfiguration"),
    ),
    order=_precedence,
)


def _number_in(name: str, *path: str) -> Callable[[Object, datetime], Cell]:
    """A number of the structure at a path, `<none>` without the structure."""

    def cell(obj: Object, _now: datetime) -> Cell:
        inside = part(obj, "spec", *path)
        return "<none>" if inside is None else int(inside.get(name, 0))

    return cell


_QUEUING = ("limited", "limitResponse", "queuing")


PRIORITY_LEVEL_CONFIGURATIONS = KindTable(
    (
        NAME,
        Column("Type", at("spec", "type"), Field("flowcontrol.v1.PriorityLevelConfigurationSpec", "type")),
        Column(
            "NominalConcurrencyShares",
            _number_in("nominalConcurrencyShares", "limited"),
            Field("flowcontrol.v1.LimitedPriorityLevelConfiguration", "nominalConcurrencyShares"),
        ),
        Column("Queues", _number_in("queues", *_QUEUING), Field("flowcontrol.v1.QueuingConfiguration", "queues")),
        Column("HandSize", _number_in("handSize", *_QUEUING), Field("flowcontrol.v1.QueuingConfiguration", "handSize")),
        Column(
            "QueueLengthLimit",
            _number_in("queueLengthLimit", *_QUEUING),
            Field("flowcontrol.v1.QueuingConfiguration", "queueLengthLimit"),
        ),
        AGE,
    )
)


def _api_service(obj: Object, _now: datetime) -> Cell:
    service = part(obj, "spec", "service")
    return "Local" if service is None else f"{service.get('namespace', '')}/{service.get('name', '')}"


def _api_available(obj: Object, _now: datetime) -> Cell:
    available = condition(obj, "Available")
    if available is None:
        return "Unknown"
    status, reason = available.get("status", ""), available.get("reason")
    return f"{status} ({reason})" if reason and status != "True" else str(status)


API_SERVICES = KindTable(
    (
        NAME,
        Column("Service", _api_service, "The reference to the service that hosts this API endpoint."),
        Column("Available", _api_available, "Whether this service is available."),
        AGE,
    )
)


def _claim_state(obj: Object, _now: datetime) -> Cell:
    states = ["deleted"] if obj["metadata"].get("deletionTimestamp") else []
    if part(obj, "status", "allocation") is not None:
        states.append("allocated")
        if part(obj, "status", "reservedFor"):
            states.append("reserved")
    return ",".join(states) or "pending"


RESOURCE_CLAIMS = KindTable(
    (NAME, Column("State", _claim_state, "A summary of the current state (allocated, pending, reserved, etc.)."), AGE)
)


def _taint_added(obj: Object, now: datetime) -> Cell:
    added = part(obj, "spec", "taint", "timeAdded")
    return "" if added is None else since(added, now)


RESOURCE_SLICES = KindTable(
    (
        NAME,
        Column("Node", at("spec", "nodeName"), Field("resource.v1.ResourceSliceSpec", "nodeName")),
        Column("Driver", at("spec", "driver"), Field("resource.v1.ResourceSliceSpec", "driver")),
        Column("Pool", at("spec", "pool", "name"), Field("resource.v1.ResourcePool", "name")),
        AGE,
    )
)

_TAINT = "resource.v1.DeviceTaint"
DEVICE_TAINT_RULES = KindTable(
    (
        NAME,
        Column("Key", at("spec", "taint", "key"), Field(_TAINT, "key")),
        Column("Value", at("spec", "taint", "value"), Field(_TAINT, "value")),
        Column("Effect", at("spec", "taint", "effect"), Field(_TAINT, "effect")),
        Column("TimeAdded", _taint_added, Field(_TAINT, "timeAdded")),
        AGE,
    )
)


def _storage_versions(obj: Object, _now: datetime) -> Cell:
    servers = part(obj, "status", "storageVersions") or []
    return shortened([f"{one.get('apiServerID', '')}={one.get('encodingVersion', '')}" for one in servers], "<unset>")


STORAGE_VERSIONS = KindTable(
    (
        NAME,
        Column(
            "CommonEncodingVersion",
            at("status", "commonEncodingVersion", default="<unset>"),
            Field("apiserverinternal.v1alpha1.StorageVersionStatus", "commonEncodingVersion"),
        ),
        Column(
            "StorageVersions",
            _storage_versions,
            Field("apiserverinternal.v1alpha1.StorageVersionStatus", "storageVersions"),
        ),
        AGE,
    )
)


def _migrated(obj: Object, _now: datetime) -> Cell:
    resource = part(obj, "spec", "resource") or {}
    plural, group = resource.get("resource", ""), resource.get("group")
    return f"{plural}.{group}" if group else plural


def _migration_state(obj: Object, _now: datetime) -> Cell:
    true = [one.get("type") for one in part(obj, "status", "conditions") or [] if one.get("status") == "True"]
    states = [type for type in true if type in ("Running", "Failed", "Succeeded")]
    return states[-1] if states else "Unknown"


STORAGE_VERSION_MIGRATIONS = KindTable(
    (
        Column("Name", NAME.cell, NAME.description),
        Column("Resource", _migrated, "GroupResource to migrate"),
        Column("Status", _migration_state, "Status of the migration"),
    )
)
