"""Tables of who may do what: bindings, certificate requests, service accounts, webhooks and policies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from kubecore.apiserver.tables.ages import human_duration
from kubecore.apiserver.tables.column import (
    AGE,
    NAME,
    Cell,
    Column,
    Field,
    KindTable,
    Object,
    at,
    count,
    labels_at,
    part,
    wide,
)


def _role(obj: Object, _now: datetime) -> Cell:
    role = obj.get("roleRef") or {}
    return f"{role.get('kind', '')}/{role.get('name', '')}"


def _subjects(kind: str) -> Callable[[Object, datetime], Cell]:
    def cell(obj: Object, _now: datetime) -> Cell:
        names = []
        for subject in obj.get("subjects") or []:
            if subject.get("kind") == kind:
                name = subject.get("name", "")
                names.append(f"{subject.get('namespace', '')}/{name}" if kind == "ServiceAccount" else name)
        return ", ".join(names)

    return cell


def _bindings(kind: str, reference: str) -> KindTable:
    return KindTable(
        (
            NAME,
            Column(
                "Role",
                _role,
                f"RoleRef can {reference}. If the RoleRef cannot be resolved, the Authorizer must return an error.",
            ),
            AGE,
            wide("Users", _subjects("User"), f"Users in the {kind}"),
            wide("Groups", _subjects("Group"), f"Groups in the {kind}"),
            wide("ServiceAccounts", _subjects("ServiceAccount"), f"ServiceAccounts in the {kind}"),
        )
    )


ROLE_BINDINGS = _bindings(
    "roleBinding", "reference a Role in the current namespace or a ClusterRole in the global namespace"
)
CLUSTER_ROLE_BINDINGS = _bindings("clusterRoleBinding", "only reference a ClusterRole in the global namespace")


def _request_condition(obj: Object, _now: datetime) -> Cell:
    types = {one.get("type") for one in part(obj, "status", "conditions") or []}
    text = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    if "Failed" in types:
        text += ",Failed"
    if part(obj, "status", "certificate"):
        text += ",Issued"
    return text


def _requested_duration(obj: Object, _now: datetime) -> Cell:
    seconds = part(obj, "spec", "expirationSeconds")
    return "<none>" if seconds is None else human_duration(timedelta(seconds=seconds))


def _signer(obj: Object, _now: datetime) -> Cell:
    return part(obj, "spec", "signerName") or "<none>"


_SIGNER_NAME = """Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. \
If empty, it will be defaulted:
 1. If it's a kubelet client certificate, it is assigned
    "kubernetes.io/kube-apiserver-client-kubelet".
 2. If it's a kubelet serving certificate, it is assigned
    "kubernetes.io/kubelet-serving".
 3. Otherwise, it is assigned "kubernetes.io/legacy-unknown".
Distribution of trust for signers happens out of band. You can select on this field using `spec.signerName`."""

CERTIFICATE_SIGNING_REQUESTS = KindTable(
    (
        NAME,
        AGE,
        Column("SignerName", _signer, _SIGNER_NAME),
        Column("Requestor", at("spec", "username"), "Base64-encoded PKCS#10 CSR data"),
        Column(
            "RequestedDuration",
            _requested_duration,
            Field("certificates.v1.CertificateSigningRequestSpec", "expirationSeconds"),
        ),
        Column("Condition", _request_condition, "Conditions applied to the request, such as approval or denial."),
    )
)

CLUSTER_TRUST_BUNDLES = KindTable(
    (NAME, Column("SignerName", _signer, Field("certificates.v1beta1.ClusterTrustBundleSpec", "signerName")))
)


def _pod_certificate_state(obj: Object, _now: datetime) -> Cell:
    ends = [one["type"] for one in part(obj, "status", "conditions") or [] if one.get("type") in _POD_CERTIFICATE_ENDS]
    return ends[-1] if ends else "Pending"


_POD_CERTIFICATE_ENDS = ("Issued", "Denied", "Failed")
_POD_CERTIFICATE = "certificates.v1beta1.PodCertificateRequestSpec"
POD_CERTIFICATE_REQUESTS = KindTable(
    (
        NAME,
        Column("PodName", at("spec", "podName"), Field(_POD_CERTIFICATE, "podName")),
        Column("ServiceAccountName", at("spec", "serviceAccountName"), Field(_POD_CERTIFICATE, "serviceAccountName")),
        Column("NodeName", at("spec", "nodeName"), Field(_POD_CERTIFICATE, "nodeName")),
        Column("SignerName", at("spec", "signerName"), Field(_POD_CERTIFICATE, "signerName")),
        Column("State", _pod_certificate_state, "Is the request Pending, Issued, Denied, or Failed?"),
        Column(
            "UnverifiedUserAnnotations",
            labels_at("spec", "unverifiedUserAnnotations"),
            Field(_POD_CERTIFICATE, "unverifiedUserAnnotations"),
        ),
    )
)

WEBHOOK_CONFIGURATIONS = KindTable(
    (
        NAME,
        Column(
            "Webhooks",
            count("webhooks"),
            "Webhooks indicates the number of webhooks registered in this configuration",
            type="integer",
        ),
        AGE,
    )
)


def _param_kind(obj: Object, _now: datetime) -> Cell:
    kind = part(obj, "spec", "paramKind")
    return "<unset>" if kind is None else f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"


def _param_ref(obj: Object, _now: datetime) -> Cell:
    reference = part(obj, "spec", "paramRef")
    if reference is None:
        return "<unset>"
    if reference.get("name"):
        # Whether the parameter's kind is namespaced is not known here.
        return f"{reference.get('namespace') or '*'}/{reference['name']}"
    selector = reference.get("selector")
    return "<unset>" if selector is None else _go_text(selector)


def _go_text(selector: Object) -> str:
    """A LabelSelector as Go prints the struct."""
    labels = selector.get("matchLabels") or {}
    matched = "".join(f"{key}: {labels[key]}," for key in sorted(labels))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{one.get('key', '')},Operator:{one.get('operator', '')},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    listed = f"[]LabelSelectorRequirement{{{expressions}}}"
    return f"&LabelSelector{{MatchLabels:map[string]string{{{matched}}},MatchExpressions:{listed},}}"


def _policy(name: str, field: str, counted: str) -> KindTable:
    return KindTable(
        (
            NAME,
            Column(name, count("spec", field), f"{counted} rules defined in this configuration", type="integer"),
            Column(
                "ParamKind", _param_kind, "ParamKind specifies the kind of resources used to parameterize this policy"
            ),
            AGE,
        )
    )


VALIDATING_ADMISSION_POLICIES = _policy("Validations", "validations", "Validations indicates the number of validation")
MUTATING_ADMISSION_POLICIES = _policy("Mutations", "mutations", "Mutation indicates the number of mutations")
ADMISSION_POLICY_BINDINGS = KindTable(
    (
        NAME,
        Column(
            "PolicyName",
            at("spec", "policyName"),
            "PolicyName indicates the policy definition which the policy binding binded to",
        ),
        Column("ParamRef", _param_ref, "ParamRef indicates the param resource which sets the configuration param"),
        AGE,
    )
)
