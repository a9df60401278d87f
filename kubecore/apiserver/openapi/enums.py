"""Fields of built-in kinds that take one of a few values, which the baked definitions do not tell.

From the `+enum` types of k8s.io/api v0.35: the values, and where they are taken, as `GROUP KIND.FIELD` (with `[]` and
`{}` for the elements of a list and the values of a map), in all versions of the group.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

ENUMS: tuple[tuple[str, str], ...] = (
    (
        "Equivalent|Exact",
        "admissionregistration MatchResources.matchPolicy, admissionregistration MutatingWebhook.matchPolicy, "
        "admissionregistration ValidatingWebhook.matchPolicy",
    ),
    (
        "Fail|Ignore",
        "admissionregistration MutatingWebhook.failurePolicy, "
        "admissionregistration ValidatingAdmissionPolicySpec.failurePolicy, "
        "admissionregistration ValidatingWebhook.failurePolicy",
    ),
    (
        "IfNeeded|Never",
        "admissionregistration MutatingWebhook.reinvocationPolicy",
    ),
    (
        "None|NoneOnDryRun|Some|Unknown",
        "admissionregistration MutatingWebhook.sideEffects, admissionregistration ValidatingWebhook.sideEffects",
    ),
    (
        "*|CONNECT|CREATE|DELETE|UPDATE",
        "admissionregistration NamedRuleWithOperations.operations[], "
        "admissionregistration RuleWithOperations.operations[]",
    ),
    (
        "*|Cluster|Namespaced",
        "admissionregistration NamedRuleWithOperations.scope, admissionregistration RuleWithOperations.scope",
    ),
    (
        "Audit|Deny|Warn",
        "admissionregistration ValidatingAdmissionPolicyBindingSpec.validationActions[]",
    ),
    (
        "FieldValueDuplicate|FieldValueForbidden|FieldValueInvalid|FieldValueRequired",
        "apiextensions ValidationRule.reason",
    ),
    (
        "OnDelete|RollingUpdate",
        "apps DaemonSetUpdateStrategy.type, apps StatefulSetUpdateStrategy.type",
    ),
    (
        "Recreate|RollingUpdate",
        "apps DeploymentStrategy.type",
    ),
    (
        "OrderedReady|Parallel",
        "apps StatefulSetSpec.podManagementPolicy",
    ),
    (
        "Allow|Forbid|Replace",
        "batch CronJobSpec.concurrencyPolicy",
    ),
    (
        "Indexed|NonIndexed",
        "batch JobSpec.completionMode",
    ),
    (
        "Failed|TerminatingOrFailed",
        "batch JobSpec.podReplacementPolicy",
    ),
    (
        "In|NotIn",
        "batch PodFailurePolicyOnExitCodesRequirement.operator",
    ),
    (
        "Count|FailIndex|FailJob|Ignore",
        "batch PodFailurePolicyRule.action",
    ),
    (
        "any|cert sign|client auth|code signing|content commitment|crl sign|data encipherment|decipher only|"
        "digital signature|email protection|encipher only|ipsec end system|ipsec tunnel|ipsec user|"
        "key agreement|key encipherment|microsoft sgc|netscape sgc|ocsp signing|s/mime|server auth|signing|"
        "timestamping",
        "certificates CertificateSigningRequestSpec.usages[]",
    ),
    (
        "Localhost|RuntimeDefault|Unconfined",
        "core AppArmorProfile.type, core SeccompProfile.type",
    ),
    (
        "None|ReadOnly|ReadWrite",
        "core AzureDiskVolumeSource.cachingMode",
    ),
    (
        "Dedicated|Managed|Shared",
        "core AzureDiskVolumeSource.kind",
    ),
    (
        "Always|IfNotPresent|Never",
        "core Container.imagePullPolicy, core EphemeralContainer.imagePullPolicy, core ImageVolumeSource.pullPolicy",
    ),
    (
        "FallbackToLogsOnError|File",
        "core Container.terminationMessagePolicy, core EphemeralContainer.terminationMessagePolicy",
    ),
    (
        "SCTP|TCP|UDP",
        "core ContainerPort.protocol, core EndpointPort.protocol, core PortStatus.protocol, "
        "core ServicePort.protocol, discovery EndpointPort.protocol, networking IngressPortStatus.protocol, "
        "networking NetworkPolicyPort.protocol",
    ),
    (
        "SIGABRT|SIGALRM|SIGBUS|SIGCHLD|SIGCLD|SIGCONT|SIGFPE|SIGHUP|SIGILL|SIGINT|SIGIO|SIGIOT|SIGKILL|"
        "SIGPIPE|SIGPOLL|SIGPROF|SIGPWR|SIGQUIT|SIGRTMAX|SIGRTMAX-1|SIGRTMAX-10|SIGRTMAX-11|SIGRTMAX-12|"
        "SIGRTMAX-13|SIGRTMAX-14|SIGRTMAX-2|SIGRTMAX-3|SIGRTMAX-4|SIGRTMAX-5|SIGRTMAX-6|SIGRTMAX-7|SIGRTMAX-8|"
        "SIGRTMAX-9|SIGRTMIN|SIGRTMIN+1|SIGRTMIN+10|SIGRTMIN+11|SIGRTMIN+12|SIGRTMIN+13|SIGRTMIN+14|"
        "SIGRTMIN+15|SIGRTMIN+2|SIGRTMIN+3|SIGRTMIN+4|SIGRTMIN+5|SIGRTMIN+6|SIGRTMIN+7|SIGRTMIN+8|SIGRTMIN+9|"
        "SIGSEGV|SIGSTKFLT|SIGSTOP|SIGSYS|SIGTERM|SIGTRAP|SIGTSTP|SIGTTIN|SIGTTOU|SIGURG|SIGUSR1|SIGUSR2|"
        "SIGVTALRM|SIGWINCH|SIGXCPU|SIGXFSZ",
        "core ContainerStatus.stopSignal, core Lifecycle.stopSignal",
    ),
    (
        "HTTP|HTTPS",
        "core HTTPGetAction.scheme",
    ),
    (
        "|BlockDevice|CharDevice|Directory|DirectoryOrCreate|File|FileOrCreate|Socket",
        "core HostPathVolumeSource.type",
    ),
    (
        "InProgress|Infeasible|Pending",
        "core ModifyVolumeStatus.status",
    ),
    (
        "Active|Terminating",
        "core NamespaceStatus.phase",
    ),
    (
        "DoesNotExist|Exists|Gt|In|Lt|NotIn",
        "core NodeSelectorRequirement.operator",
    ),
    (
        "Pending|Running|Terminated",
        "core NodeStatus.phase",
    ),
    (
        "ReadOnlyMany|ReadWriteMany|ReadWriteOnce|ReadWriteOncePod",
        "core PersistentVolumeClaimSpec.accessModes[], core PersistentVolumeClaimStatus.accessModes[], "
        "core PersistentVolumeSpec.accessModes[]",
    ),
    (
        "Block|Filesystem",
        "core PersistentVolumeClaimSpec.volumeMode, core PersistentVolumeSpec.volumeMode",
    ),
    (
        "ControllerResizeInProgress|ControllerResizeInfeasible|NodeResizeInProgress|NodeResizeInfeasible|"
        "NodeResizePending",
        "core PersistentVolumeClaimStatus.allocatedResourceStatuses{}",
    ),
    (
        "Bound|Lost|Pending",
        "core PersistentVolumeClaimStatus.phase",
    ),
    (
        "Delete|Recycle|Retain",
        "core PersistentVolumeSpec.persistentVolumeReclaimPolicy, storage StorageClass.reclaimPolicy",
    ),
    (
        "Available|Bound|Failed|Pending|Released",
        "core PersistentVolumeStatus.phase",
    ),
    (
        "Always|OnRootMismatch",
        "core PodSecurityContext.fsGroupChangePolicy",
    ),
    (
        "Merge|Strict",
        "core PodSecurityContext.supplementalGroupsPolicy",
    ),
    (
        "ClusterFirst|ClusterFirstWithHostNet|Default|None",
        "core PodSpec.dnsPolicy",
    ),
    (
        "Never|PreemptLowerPriority",
        "core PodSpec.preemptionPolicy, scheduling PriorityClass.preemptionPolicy",
    ),
    (
        "Always|Never|OnFailure",
        "core PodSpec.restartPolicy",
    ),
    (
        "Failed|Pending|Running|Succeeded|Unknown",
        "core PodStatus.phase",
    ),
    (
        "BestEffort|Burstable|Guaranteed",
        "core PodStatus.qosClass",
    ),
    (
        "BestEffort|CrossNamespacePodAffinity|NotBestEffort|NotTerminating|PriorityClass|Terminating|"
        "VolumeAttributesClass",
        "core ResourceQuotaSpec.scopes[], core ScopedResourceSelectorRequirement.scopeName",
    ),
    (
        "DoesNotExist|Exists|In|NotIn",
        "core ScopedResourceSelectorRequirement.operator",
    ),
    (
        "Default|Unmasked",
        "core SecurityContext.procMount",
    ),
    (
        "Cluster|Local",
        "core ServiceSpec.externalTrafficPolicy, core ServiceSpec.internalTrafficPolicy",
    ),
    (
        "|IPv4|IPv6",
        "core ServiceSpec.ipFamilies[]",
    ),
    (
        "PreferDualStack|RequireDualStack|SingleStack",
        "core ServiceSpec.ipFamilyPolicy",
    ),
    (
        "ClientIP|None",
        "core ServiceSpec.sessionAffinity",
    ),
    (
        "ClusterIP|ExternalName|LoadBalancer|NodePort",
        "core ServiceSpec.type",
    ),
    (
        "NoExecute|NoSchedule|PreferNoSchedule",
        "core Taint.effect, core Toleration.effect",
    ),
    (
        "Equal|Exists|Gt|Lt",
        "core Toleration.operator",
    ),
    (
        "Honor|Ignore",
        "core TopologySpreadConstraint.nodeAffinityPolicy, core TopologySpreadConstraint.nodeTaintsPolicy",
    ),
    (
        "DoNotSchedule|ScheduleAnyway",
        "core TopologySpreadConstraint.whenUnsatisfiable",
    ),
    (
        "Bidirectional|HostToContainer|None",
        "core VolumeMount.mountPropagation",
    ),
    (
        "FQDN|IPv4|IPv6",
        "discovery EndpointSlice.addressType",
    ),
    (
        "Exact|ImplementationSpecific|Prefix",
        "networking HTTPIngressPath.pathType",
    ),
    (
        "Egress|Ingress",
        "networking NetworkPolicySpec.policyTypes[]",
    ),
    (
        "AlwaysAllow|IfHealthyBudget",
        "policy PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy",
    ),
    (
        "FromClaim|FromClass",
        "resource DeviceAllocationConfiguration.source",
    ),
    (
        "All|ExactCount",
        "resource DeviceSubRequest.allocationMode, resource ExactDeviceRequest.allocationMode",
    ),
    (
        "NoExecute|NoSchedule|None",
        "resource DeviceTaint.effect, resource DeviceToleration.effect",
    ),
    (
        "Equal|Exists",
        "resource DeviceToleration.operator",
    ),
    (
        "Immediate|WaitForFirstConsumer",
        "storage StorageClass.volumeBindingMode",
    ),
)


def add_to(definitions: dict[str, JSON]) -> None:
    """Puts the values into the definitions of built-in kinds, in place."""
    known = {
        _short(name): definition for name, definition in definitions.items() if ".api." in name or ".apis." in name
    }
    by_kind: dict[str, list[JSON]] = {}
    for (group, _, kind), definition in known.items():
        by_kind.setdefault(f"{group} {kind}", []).append(definition)
    for values, places in ENUMS:
        for place in places.split(", "):
            kind, _, field = place.partition(".")
            for definition in by_kind.get(kind, ()):
                _add(definition, field, values.split("|"))


def _short(name: str) -> tuple[str, str, str]:
    """`io.k8s.api.core.v1.Pod` → core, v1, Pod"""
    group, version, kind = name.rsplit(".", 3)[-3:]
    return group, version, kind


def _add(definition: JSON, field: str, values: list[str]) -> None:
    schema = (definition.get("properties") or {}).get(field.rstrip("[]{}"))
    if schema is not None:
        inner = {"[": "items", "{": "additionalProperties"}.get(field[len(field.rstrip("[]{}")) :][:1])
        (schema[inner] if inner else schema)["enum"] = values
        if not inner:
            listed = "".join(f'\n - `"{value}"`' for value in values)
            schema["description"] = f"{schema.get('description', '')}\n\nPossible enum values:{listed}".lstrip()
