"""Tables of who may do what: bindings, certificate requests, service accounts, webhooks and policies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from kubecore.apiserver.tables.ages import human_duration
from kubecore.apiserver.tables.column import AGE, NAME, Cell, Column, KindTable, Object, at, count, part, wide


def _role(obj: Object, _now: datetime) -> Cell:
    role = obj.get("roleRef") or {}
    return f"{role.get('kind', '')}/{role.get('name', '')}"


def _subjects(kind: str) -> Callable[[Object, datetime], Cell]:
    def cell(obj: Object, _now: datetime) -> Cell:
        names = []
        for subject in obj.get("subjects") or []:
            if subject.get("kind") == kind:
                namespace = subject.get("namespace") if kind == "ServiceAccount" else None
                names.append(f"{namespace}/{subject['name']}" if namespace else subject["name"])
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

SERVICE_ACCOUNTS = KindTable((NAME, Column("Secrets", count("secrets"), "Secrets it may use."), AGE))


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


CERTIFICATE_SIGNING_REQUESTS = KindTable(
    (
        NAME,
        AGE,
        Column("SignerName", at("spec", "signerName"), "Who is asked to sign."),
        Column("Requestor", at("spec", "username"), "Who asks."),
        Column("RequestedDuration", _requested_duration, "How long the certificate should hold."),
        Column("Condition", _request_condition, "What has become of the request."),
    )
)

CLUSTER_TRUST_BUNDLES = KindTable((NAME, Column("SignerName", at("spec", "signerName"), "Whose trust anchors.")))

WEBHOOK_CONFIGURATIONS = KindTable(
    (NAME, Column("Webhooks", count("webhooks"), "Webhooks in the configuration.", type="integer"), AGE)
)


def _param_kind(obj: Object, _now: datetime) -> Cell:
    kind = part(obj, "spec", "paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else "<unset>"


def _param_ref(obj: Object, _now: datetime) -> Cell:
    reference = part(obj, "spec", "paramRef")
    if not reference:
        return "<unset>"
    if reference.get("name"):
        namespace = reference.get("namespace")
        return f"{namespace}/{reference['name']}" if namespace else str(reference["name"])
    return "*"


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
