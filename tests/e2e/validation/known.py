"""How many answers about a kind still differ from Kubernetes' own. A kind that is not here has none."""

KNOWN = {
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy": 18,
    "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration": 2,
    "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy": 10,
    "coordination.k8s.io/v1beta1/LeaseCandidate": 4,
    "discovery.k8s.io/v1/EndpointSlice": 10,
    "resource.k8s.io/v1/DeviceClass": 8,
    "resource.k8s.io/v1/ResourceClaim": 4,
    "storage.k8s.io/v1/VolumeAttachment": 2,
    "v1/Service": 82,
}
