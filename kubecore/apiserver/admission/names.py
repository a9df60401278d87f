"""Names of the admission plugins, in the order in which they run, and which of them are off until they are named.

After upstream pkg/kubeapiserver/options/plugins.go; nothing is imported here, so that a command line can be checked
before anything is loaded.
"""

ORDERED = (
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "PodSecurity",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DenyServiceExternalIPs",
    "PodTopologyLabels",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
)
# Upstream's own setup, kubeadm's, turns NodeRestriction on; kubecore's kubelets have certificates by default.
OFF = ("DenyServiceExternalIPs", "OwnerReferencesPermissionEnforcement")
ON = tuple(name for name in ORDERED if name not in OFF)
