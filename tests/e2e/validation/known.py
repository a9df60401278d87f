"""How many answers about a kind still differ from Kubernetes' own. A kind that is not here has none."""

KNOWN = {
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy": 16,
    "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration": 2,
    "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy": 10,
    "resource.k8s.io/v1/DeviceClass": 2,
    "resource.k8s.io/v1/ResourceClaim": 1,
}
