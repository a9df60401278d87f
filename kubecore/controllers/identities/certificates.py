"""Certificate requests: those of kubelets are approved, approved ones are signed, and old ones are deleted.

(kubernetes `pkg/controller/certificates`: approver, signer, cleaner.)
"""

from __future__ import annotations

import base64
import logging
from datetime import datetime, timedelta

from cryptography import x509

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.identities import certificate_requests as requests
from kubecore.controllers.identities.certificate_requests import CertificateRequest, NotAllowed, Signer, UnusableRequest

log = logging.getLogger(__name__)

REQUESTS = "certificatesigningrequests.certificates.k8s.io"
_REVIEWS = "subjectaccessreviews.authorization.k8s.io"
_HOUR, _DAY = timedelta(hours=1), timedelta(hours=24)
_SELF = "Auto approving self kubelet client certificate after SubjectAccessReview."
_OTHER = "Auto approving kubelet client certificate after SubjectAccessReview."


class _OfRequests(Controller):
    """Keys are certificate requests."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._requests = self.informer(REQUESTS)
        self._requests.add_handler(self.enqueue, lambda _, new: self.enqueue(new))

    def _condition(self, type: str, reason: str, message: str) -> Object:
        now = meta.format_time(self.clock.now())
        return {**conditions.make(type, "True", now, reason, message), "lastUpdateTime": now}

    def _parse(self, found: Object) -> CertificateRequest | None:
        spec = found["spec"]
        try:
            return CertificateRequest.parse(spec["request"], spec.get("usages") or ())
        except UnusableRequest as error:
            log.warning("unable to parse csr %r: %s", meta.name(found), error)
            return None


class CertificateApprover(_OfRequests):
    """Approves what kubelets ask for to identify themselves, if whoever asks may: anew, or in their own name."""

    name = "certificatesigningrequest-approving-controller"

    async def sync(self, key: str) -> float | None:
        found = self._requests.get(key)
        if found is None or _certificate(found) or found["spec"].get("signerName") != requests.KUBELET_CLIENT:
            return None
        if conditions.is_true(found, "Approved") or conditions.is_true(found, "Denied"):
            return None
        request = self._parse(found)
        if request is None or not requests.is_kubelet_client(request):
            return None
        ways = [("nodeclient", _OTHER)]
        if found["spec"].get("username") == request.common_name:
            ways.insert(0, ("selfnodeclient", _SELF))
        for subresource, message in ways:
            if await self._may_create(found, subresource):
                await self._approve(found, message)
                return None
        return None

    async def _may_create(self, found: Object, subresource: str) -> bool:
        spec = found["spec"]
        asked = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "verb": "create",
            "subresource": subresource,
            "version": "*",
        }
        who = {"user": spec.get("username", ""), "uid": spec.get("uid", ""), "groups": spec.get("groups") or []}
        review: Object = {
            "metadata": {},
            "spec": {**who, "extra": spec.get("extra") or {}, "resourceAttributes": asked},
        }
        answer = await self.client.create(_REVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def _approve(self, found: Object, message: str) -> None:
        status = found.get("status") or {}
        approved = self._condition("Approved", "AutoApproved", message)
        changed = {**found, "status": {**status, "conditions": [*(status.get("conditions") or []), approved]}}
        await self.client.update(REQUESTS, changed, subresource="approval")


class CertificateSigner(_OfRequests):
    """Signs for all of Kubernetes' own signers with one authority."""

    name = "certificatesigningrequest-signing-controller"
    queue_name = "certificate"

    def __init__(self, context: ControllerContext, signer: Signer) -> None:
        super().__init__(context)
        self._signer = signer

    async def sync(self, key: str) -> float | None:
        found = self._requests.get(key)
        if found is None or _certificate(found) or not conditions.is_true(found, "Approved"):
            return None
        if conditions.is_true(found, "Denied") or conditions.is_true(found, "Failed"):
            return None
        signer_name = found["spec"].get("signerName")
        request = self._parse(found) if signer_name in requests.SIGNERS else None
        if request is None:
            return None
        status = dict(found.get("status") or {})
        try:
            requests.check(request, signer_name)
            lasting = requests.lifetime(found["spec"].get("expirationSeconds"))
            signed = self._signer.sign(request, lasting, self.clock)
        except NotAllowed as error:
            failed = self._condition("Failed", "SignerValidationFailure", str(error))
            status["conditions"] = [*(status.get("conditions") or []), failed]
        else:
            status["certificate"] = base64.b64encode(signed).decode()
        await self.client.update(REQUESTS, {**found, "status": status}, subresource="status")
        return None


class CertificateCleaner(_OfRequests):
    """Deletes requests that were answered an hour ago or never in a day, and those whose certificate has expired."""

    name = "certificatesigningrequest-cleaner-controller"

    async def sync(self, key: str) -> float | None:
        found = self._requests.get(key)
        due = None if found is None else _deadline(found)
        if found is None or due is None:
            return None
        left = (due - self.clock.now()).total_seconds()
        if left > 0:
            return left
        try:
            await self.client.delete(REQUESTS, key, uid=meta.uid(found))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        return None


def _certificate(found: Object) -> str:
    return (found.get("status") or {}).get("certificate") or ""


def _deadline(found: Object) -> datetime | None:
    """When the request is to be deleted."""
    certificate = _certificate(found)
    kept = (found.get("status") or {}).get("conditions") or ()
    if not kept:
        made = meta.creation_timestamp(found)
        return None if made is None else made + _DAY
    moments = []
    for condition in kept:
        told = condition.get("lastUpdateTime")
        if told and condition["type"] in ("Denied", "Failed", "Approved"):
            unanswered = condition["type"] == "Approved" and not certificate
            moments.append(meta.parse_time(told) + (_DAY if unanswered else _HOUR))
    if certificate and conditions.find(found, "Approved"):
        ends = _end_of(certificate)
        moments += [ends] if ends else []
    return min(moments, default=None)


def _end_of(certificate: str) -> datetime | None:
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc
    except ValueError:
        return None
