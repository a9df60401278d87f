"""Makes `Table` objects (meta.k8s.io/v1): what `kubectl get` prints.

A table is asked for by the group resource key of its objects ("deployments.apps"), which are given in the version they
are stored in. Kinds without a table of their own show their name and when they were created, as upstream's do.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from kubecore.apiserver.openapi import definitions
from kubecore.apiserver.tables import access, cluster, network, pods, storage, workloads
from kubecore.apiserver.tables.column import AGE, NAME, Column, Field, KindTable, Object

IncludeObject = Literal["None", "Metadata", "Object"]

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_NO_TIME = "0001-01-01T00:00:00Z"
_NAME_AND_AGE = KindTable((NAME, AGE))
_BY_NAME = KindTable(
    (
        NAME,
        Column(
            "Created At", lambda obj, _: obj["metadata"].get("creationTimestamp") or _NO_TIME, AGE.description, "date"
        ),
    )
)

TABLES: dict[str, KindTable] = {
    "pods": pods.PODS,
    "podtemplates": pods.POD_TEMPLATES,
    "replicationcontrollers": workloads.REPLICATION_CONTROLLERS,
    "deployments.apps": workloads.DEPLOYMENTS,
    "replicasets.apps": workloads.REPLICA_SETS,
    "statefulsets.apps": workloads.STATEFUL_SETS,
    "daemonsets.apps": workloads.DAEMON_SETS,
    "controllerrevisions.apps": workloads.CONTROLLER_REVISIONS,
    "jobs.batch": workloads.JOBS,
    "cronjobs.batch": workloads.CRON_JOBS,
    "horizontalpodautoscalers.autoscaling": workloads.HORIZONTAL_POD_AUTOSCALERS,
    "scales.autoscaling": workloads.SCALES,
    "poddisruptionbudgets.policy": workloads.POD_DISRUPTION_BUDGETS,
    "services": network.SERVICES,
    "endpoints": network.ENDPOINTS,
    "endpointslices.discovery.k8s.io": network.ENDPOINT_SLICES,
    "ingresses.networking.k8s.io": network.INGRESSES,
    "ingressclasses.networking.k8s.io": network.INGRESS_CLASSES,
    "networkpolicies.networking.k8s.io": network.NETWORK_POLICIES,
    "servicecidrs.networking.k8s.io": network.SERVICE_CIDRS,
    "ipaddresses.networking.k8s.io": network.IP_ADDRESSES,
    "persistentvolumes": storage.PERSISTENT_VOLUMES,
    "persistentvolumeclaims": storage.PERSISTENT_VOLUME_CLAIMS,
    "storageclasses.storage.k8s.io": storage.STORAGE_CLASSES,
    "volumeattributesclasses.storage.k8s.io": storage.VOLUME_ATTRIBUTES_CLASSES,
    "volumeattachments.storage.k8s.io": storage.VOLUME_ATTACHMENTS,
    "csinodes.storage.k8s.io": storage.CSI_NODES,
    "csidrivers.storage.k8s.io": storage.CSI_DRIVERS,
    "rolebindings.rbac.authorization.k8s.io": access.ROLE_BINDINGS,
    "clusterrolebindings.rbac.authorization.k8s.io": access.CLUSTER_ROLE_BINDINGS,
    "serviceaccounts": _NAME_AND_AGE,
    "certificatesigningrequests.certificates.k8s.io": access.CERTIFICATE_SIGNING_REQUESTS,
    "clustertrustbundles.certificates.k8s.io": access.CLUSTER_TRUST_BUNDLES,
    "podcertificaterequests.certificates.k8s.io": access.POD_CERTIFICATE_REQUESTS,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": access.WEBHOOK_CONFIGURATIONS,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": access.WEBHOOK_CONFIGURATIONS,
    "validatingadmissionpolicies.admissionregistration.k8s.io": access.VALIDATING_ADMISSION_POLICIES,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": access.ADMISSION_POLICY_BINDINGS,
    "mutatingadmissionpolicies.admissionregistration.k8s.io": access.MUTATING_ADMISSION_POLICIES,
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": access.ADMISSION_POLICY_BINDINGS,
    "nodes": cluster.NODES,
    "namespaces": cluster.NAMESPACES,
    "componentstatuses": cluster.COMPONENT_STATUSES,
    "events": cluster.EVENTS,
    "events.events.k8s.io": cluster.EVENTS,
    "leases.coordination.k8s.io": cluster.LEASES,
    "leasecandidates.coordination.k8s.io": cluster.LEASE_CANDIDATES,
    "resourcequotas": cluster.RESOURCE_QUOTAS,
    "priorityclasses.scheduling.k8s.io": cluster.PRIORITY_CLASSES,
    "runtimeclasses.node.k8s.io": cluster.RUNTIME_CLASSES,
    "flowschemas.flowcontrol.apiserver.k8s.io": cluster.FLOW_SCHEMAS,
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": cluster.PRIORITY_LEVEL_CONFIGURATIONS,
    "apiservices.apiregistration.k8s.io": cluster.API_SERVICES,
    "deviceclasses.resource.k8s.io": _NAME_AND_AGE,
    "resourceclaims.resource.k8s.io": cluster.RESOURCE_CLAIMS,
    "resourceclaimtemplates.resource.k8s.io": _NAME_AND_AGE,
    "resourceslices.resource.k8s.io": cluster.RESOURCE_SLICES,
    "devicetaintrules.resource.k8s.io": cluster.DEVICE_TAINT_RULES,
    "storageversions.internal.apiserver.k8s.io": cluster.STORAGE_VERSIONS,
    "storageversionmigrations.storagemigration.k8s.io": cluster.STORAGE_VERSION_MIGRATIONS,
    "workloads.scheduling.k8s.io": _NAME_AND_AGE,
    "configmaps": KindTable(
        (
            NAME,
            Column(
                "Data",
                lambda obj, _: len(obj.get("data") or ()) + len(obj.get("binaryData") or ()),
                Field("core.v1.ConfigMap", "data"),
            ),
            AGE,
        )
    ),
    "secrets": KindTable(
        (
            NAME,
            Column("Type", lambda obj, _: obj.get("type", ""), Field("core.v1.Secret", "type")),
            Column("Data", lambda obj, _: len(obj.get("data") or ()), Field("core.v1.Secret", "data")),
            AGE,
        )
    ),
}


@functools.cache
def _written() -> Mapping[Field, str]:
    """What the API types say of the fields that columns show. Read late, as all definitions are: many clients ask for
    no table."""
    columns = itertools.chain.from_iterable(table.columns for table in TABLES.values())
    fields = {column.description for column in columns if isinstance(column.description, Field)}
    return dict(zip(fields, definitions.written_of(fields), strict=True))


def table_of(resource: str) -> KindTable:
    """The table of a group resource key; by name and creation time for kinds without their own."""
    return TABLES.get(resource, _BY_NAME)


def row_for(
    resource: str,
    obj: Object,
    *,
    include_object: IncludeObject = "Metadata",
    now: datetime,
    version: str = "v1",
    shown: Callable[[Object], Object] | None = None,
) -> Object:
    """One TableRow. `version` is that of meta.k8s.io asked for, "v1" or "v1beta1"; `shown` makes the whole object the
    row carries, in the version the client speaks."""
    return _row(table_of(resource), obj, include_object, now, version, shown)


def _row(
    table: KindTable,
    obj: Object,
    include_object: IncludeObject,
    now: datetime,
    version: str,
    shown: Callable[[Object], Object] | None,
) -> Object:
    row: Object = {"cells": table.row_cells(obj, now)}
    conditions = table.conditions(obj) if table.conditions is not None else None
    if conditions:
        row["conditions"] = conditions
    # The end of a watch's initial events is told by an annotation, which must not get lost.
    ends = INITIAL_EVENTS_END in (obj["metadata"].get("annotations") or {})
    if include_object == "Object":
        row["object"] = obj if shown is None else shown(obj)
    elif include_object == "Metadata" or ends:
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": obj["metadata"],
        }
    else:
        row["object"] = None
    return row


def table_for(
    resource: str | KindTable,
    objects: Iterable[Object],
    *,
    include_object: IncludeObject = "Metadata",
    now: datetime,
    headers: bool = True,
    metadata: dict[str, Any] | None = None,
    version: str = "v1",
    shown: Callable[[Object], Object] | None = None,
) -> Object:
    """The Table of some objects of a resource, which is named by its key or given by its columns.

    `metadata` is the list's ListMeta (resourceVersion, continue, remainingItemCount), or of a single object its
    resourceVersion. `headers=False` leaves the column definitions out: in a watch only the first event carries them.
    """
    table = table_of(resource) if isinstance(resource, str) else resource
    ordered = objects if table.order is None else sorted(objects, key=table.order)
    # As in Kubernetes, a kind without a table of its own shows no rows as null.
    rows = [_row(table, obj, include_object, now, version, shown) for obj in ordered]
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata or {},
        "columnDefinitions": [column.definition(_written()) for column in table.columns] if headers else None,
        "rows": rows or (None if table is _BY_NAME else []),
    }
