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


def _bindings(kind: str) -> KindTable:
    return KindTable(
        (
            NAME,
            Column("Role", _role, "The role that is given."),
            AGE,
            wide("Users", _subjects("User"), f"Users in the {kind}."),
            wide("Groups", _subjects("Group"), f"Groups in the {kind}."),
            wide("ServiceAccounts", _subjects("ServiceAccount"), f"Service accounts in the {kind}."),
        )
    )


ROLE_BINDINGS = _bindings("roleBinding")
CLUSTER_ROLE_BINDINGS = _bindings("clusterRoleBinding")


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


CERTIFICATE_SIGNING_REQUESTS = KindTable(
    (
        NAME,
        AGE,
        Column("SignerName", _signer, "Who is asked to sign."),
        Column("Requestor", at("spec", "username"), "Who asks."),
        Column("RequestedDuration", _requested_duration, "How long the certificate should hold."),
        Column("Condition", _request_condition, "What has become of the request."),
    )
)

CLUSTER_TRUST_BUNDLES = KindTable((NAME, Column("SignerName", _signer, "Whose trust anchors.")))


def _pod_certificate_state(obj: Object, _now: datetime) -> Cell:
    ends = [one["type"] for one in part(obj, "status", "conditions") or [] if one.get("type") in _POD_CERTIFICATE_ENDS]
    return ends[-1] if ends else "Pending"


_POD_CERTIFICATE_ENDS = ("Issued", "Denied", "Failed")
POD_CERTIFICATE_REQUESTS = KindTable(
    (
        NAME,
        Column("PodName", at("spec", "podName"), "The pod that gets the certificate."),
        Column("ServiceAccountName", at("spec", "serviceAccountName"), "The pod's service account."),
        Column("NodeName", at("spec", "nodeName"), "The pod's node."),
        Column("SignerName", at("spec", "signerName"), "Who is asked to sign."),
        Column("State", _pod_certificate_state, "What has become of the request."),
        Column(
            "UnverifiedUserAnnotations",
            labels_at("spec", "unverifiedUserAnnotations"),
            "What the pod's author tells the signer.",
        ),
    )
)

WEBHOOK_CONFIGURATIONS = KindTable(
    (NAME, Column("Webhooks", count("webhooks"), "Webhooks in the configuration.", type="integer"), AGE)
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


def _policy(name: str, field: str) -> KindTable:
    return KindTable(
        (
            NAME,
            Column(name, count("spec", field), "Rules in the policy.", type="integer"),
            Column("ParamKind", _param_kind, "The kind of object that parameterizes it."),
            AGE,
        )
    )


VALIDATING_ADMISSION_POLICIES = _policy("Validations", "validations")
MUTATING_ADMISSION_POLICIES = _policy("Mutations", "mutations")
ADMISSION_POLICY_BINDINGS = KindTable(
    (
        NAME,
        Column("PolicyName", at("spec", "policyName"), "The policy that is bound."),
        Column("ParamRef", _param_ref, "The object that parameterizes it."),
        AGE,
    )
)
