"""The columns of every built-in kind, as the printers of Kubernetes v1.35 declare them.

A column is written `Name:type=format*`, a blank in its name as `_`; the type is told unless it is a string, the format
where there is one, and the star marks what only `-o wide` shows.
"""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import scheme
from kubecore.apiserver.tables.printing import table_of

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


@pytest.mark.parametrize("resource", COLUMNS)
def test_a_kinds_columns_are_those_of_kubernetes(resource: str) -> None:
    assert [written(column.definition()) for column in table_of(resource).columns] == COLUMNS[resource]


def test_no_built_in_kind_is_left_out() -> None:
    listed = {resource.storage_key for resource in scheme.every().resources if "list" in resource.verbs}
    assert listed - COLUMNS.keys() == set()
