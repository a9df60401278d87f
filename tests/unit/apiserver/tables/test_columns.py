"""The columns of every built-in kind, as the printers of Kubernetes v1.35 declare them.

A column is written `Name:type=format*`, a blank in its name as `_`; the type is told unless it is a string, the format
where there is one, and the star marks what only `-o wide` shows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kubecore.api import scheme
from kubecore.apiserver.tables.printing import table_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)

DECLARED = """
componentstatuses Name=name Status Message Error
configmaps Name=name Data Age
endpoints Name=name Endpoints Age
events Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count* Name=name*
namespaces Name=name Status Age
nodes Name=name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*
persistentvolumeclaims Name=name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age
    VolumeMode*
persistentvolumes Name=name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass
    Reason Age VolumeMode*
pods Name=name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*
podtemplates Name=name Containers Images Pod_Labels
replicationcontrollers Name=name Desired:integer Current:integer Ready:integer Age Containers* Images* Selector*
resourcequotas Name=name Request Limit Age
secrets Name=name Type Data Age
serviceaccounts Name=name Age
services Name=name Type Cluster-IP External-IP Port(s) Age Selector*
controllerrevisions.apps Name=name Controller Revision Age
daemonsets.apps Name=name Desired:integer Current:integer Ready:integer Up-to-date:integer Available:integer
    Node_Selector Age Containers* Images* Selector*
deployments.apps Name=name Ready Up-to-date Available Age Containers* Images* Selector*
replicasets.apps Name=name Desired:integer Current:integer Ready:integer Age Containers* Images* Selector*
statefulsets.apps Name=name Ready Age Containers* Images*
horizontalpodautoscalers.autoscaling Name=name Reference Targets MinPods MaxPods Replicas Age
cronjobs.batch Name=name Schedule Timezone Suspend:boolean Active:integer Last_Schedule Age Containers* Images*
    Selector*
jobs.batch Name=name Status Completions Duration Age Containers* Images* Selector*
certificatesigningrequests.certificates.k8s.io Name=name Age SignerName Requestor RequestedDuration Condition
clustertrustbundles.certificates.k8s.io Name=name SignerName
podcertificaterequests.certificates.k8s.io Name=name PodName ServiceAccountName NodeName SignerName State
    UnverifiedUserAnnotations
ingressclasses.networking.k8s.io Name=name Controller Parameters Age
ingresses.networking.k8s.io Name=name Class Hosts Address Ports Age
ipaddresses.networking.k8s.io Name=name ParentRef
networkpolicies.networking.k8s.io Name=name Pod-Selector Age
servicecidrs.networking.k8s.io Name=name CIDRs Age
poddisruptionbudgets.policy Name=name Min_Available Max_Unavailable Allowed_Disruptions:integer Age
clusterrolebindings.rbac.authorization.k8s.io Name=name Role Age Users* Groups* ServiceAccounts*
rolebindings.rbac.authorization.k8s.io Name=name Role Age Users* Groups* ServiceAccounts*
csidrivers.storage.k8s.io Name=name AttachRequired:boolean PodInfoOnMount:boolean StorageCapacity:boolean
    TokenRequests RequiresRepublish:boolean Modes Age
csinodes.storage.k8s.io Name=name Drivers:integer Age
storageclasses.storage.k8s.io Name=name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age
volumeattachments.storage.k8s.io Name=name Attacher=name PV Node Attached:boolean Age
volumeattributesclasses.storage.k8s.io Name=name DriverName Age
mutatingwebhookconfigurations.admissionregistration.k8s.io Name=name Webhooks:integer Age
validatingadmissionpolicies.admissionregistration.k8s.io Name=name Validations:integer ParamKind Age
validatingadmissionpolicybindings.admissionregistration.k8s.io Name=name PolicyName ParamRef Age
validatingwebhookconfigurations.admissionregistration.k8s.io Name=name Webhooks:integer Age
mutatingadmissionpolicies.admissionregistration.k8s.io Name=name Mutations:integer ParamKind Age
mutatingadmissionpolicybindings.admissionregistration.k8s.io Name=name PolicyName ParamRef Age
priorityclasses.scheduling.k8s.io Name=name Value:integer Global-Default:boolean Age PreemptionPolicy
workloads.scheduling.k8s.io Name=name Age
leases.coordination.k8s.io Name=name Holder Age
leasecandidates.coordination.k8s.io Name=name LeaseName BinaryVersion EmulationVersion Age
runtimeclasses.node.k8s.io Name=name Handler Age
endpointslices.discovery.k8s.io Name=name AddressType Ports Endpoints Age
flowschemas.flowcontrol.apiserver.k8s.io Name=name PriorityLevel MatchingPrecedence DistinguisherMethod Age
    MissingPL
prioritylevelconfigurations.flowcontrol.apiserver.k8s.io Name=name Type NominalConcurrencyShares Queues HandSize
    QueueLengthLimit Age
storageversions.internal.apiserver.k8s.io Name=name CommonEncodingVersion StorageVersions Age
deviceclasses.resource.k8s.io Name=name Age
resourceclaims.resource.k8s.io Name=name State Age
resourceclaimtemplates.resource.k8s.io Name=name Age
resourceslices.resource.k8s.io Name=name Node Driver Pool Age
devicetaintrules.resource.k8s.io Name=name Key Value Effect TimeAdded Age
storageversionmigrations.storagemigration.k8s.io Name Resource Status
apiservices.apiregistration.k8s.io Name=name Service Available Age
clusterroles.rbac.authorization.k8s.io Name=name Created_At:date
csistoragecapacities.storage.k8s.io Name=name Created_At:date
customresourcedefinitions.apiextensions.k8s.io Name=name Created_At:date
limitranges Name=name Created_At:date
roles.rbac.authorization.k8s.io Name=name Created_At:date
scales.autoscaling Name Desired:integer Available:integer Age
"""

COLUMNS = {line.split()[0]: line.split()[1:] for line in DECLARED.replace("\n    ", " ").strip().splitlines()}


def written(column: dict[str, Any]) -> str:
    type = "" if column["type"] == "string" else f":{column['type']}"
    format = f"={column['format']}" if column["format"] else ""
    return f"{column['name'].replace(' ', '_')}{type}{format}{'*' if column['priority'] else ''}"


def definitions_of(resource: str) -> list[dict[str, Any]]:
    return list(table_for(resource, [], now=NOW)["columnDefinitions"])


@pytest.mark.parametrize("resource", COLUMNS)
def test_a_kinds_columns_are_those_of_kubernetes(resource: str) -> None:
    assert [written(column) for column in definitions_of(resource)] == COLUMNS[resource]


def test_a_column_that_shows_a_field_is_described_as_the_field_is() -> None:
    told = {column["name"]: column["description"] for column in definitions_of("pods")}
    assert told["Name"].startswith("Name must be unique within a namespace. ")
    assert told["Age"].startswith("CreationTimestamp is a timestamp representing the server time when this object was ")
    assert told["IP"].startswith("podIP address allocated to the pod. Routable at least within the cluster. ")


def test_a_column_that_is_worked_out_is_described_in_the_words_of_kubernetes() -> None:
    told = {column["name"]: column["description"] for column in definitions_of("pods")}
    assert told["Ready"] == "The aggregate readiness state of this pod for accepting traffic."


# Upstream asks documents for fields that they do not have.
UNDESCRIBED = {
    ("runtimeclasses.node.k8s.io", "Handler"),
    ("leasecandidates.coordination.k8s.io", "BinaryVersion"),
    ("leasecandidates.coordination.k8s.io", "EmulationVersion"),
}


def test_all_columns_are_described_but_those_that_upstream_does_not_describe() -> None:
    silent = {
        (resource, column["name"])
        for resource in COLUMNS
        for column in definitions_of(resource)
        if not column["description"]
    }
    assert silent == UNDESCRIBED


def test_no_built_in_kind_is_left_out() -> None:
    listed = {resource.storage_key for resource in scheme.every().resources if "list" in resource.verbs}
    assert listed - COLUMNS.keys() == set()
