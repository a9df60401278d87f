"""Who may approve and sign the requests of a signer, and whose certificates nobody may ask for.

After upstream plugin/pkg/admission/certificates.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kubecore.api import errors
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.demanding import DemandingPlugin
from kubecore.apiserver.registry.equality import same

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_KEY = f"{_PLURAL}.{_GROUP}"
_OF_PODS = f"podcertificaterequests.{_GROUP}"
_BUNDLES = "clustertrustbundles"
_API_CLIENT = "kubernetes.io/kube-apiserver-client"
_MASTERS = "system:masters"


class _OfSigners(DemandingPlugin):
    """`subresource` may be changed by those who have `verb` on the signer that the request names."""

    subresource: str
    verb: str

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == _KEY and operation == UPDATE and subresource == self.subresource

    def demand(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        signer = ((old or {}).get("spec") or {}).get("signerName") or ""
        if self._concerns(obj or {}, old or {}) and not self._allows(ctx, signer):
            detail = f'user not permitted to {self.verb} requests with signerName "{signer}"'
            raise errors.forbidden(_GROUP, _PLURAL, ctx.name, detail)

    def _concerns(self, obj: JSON, old: JSON) -> bool:
        return True

    def _allows(self, ctx: RequestContext, signer: str) -> bool:
        return _may(self._authorizer, ctx, self.verb, signer)


def _may(authorizer: Authorizer, ctx: RequestContext, verb: str, signer: str) -> bool:
    """Whether the user has the verb on the signer, or on all of its domain."""
    domain = signer.partition("/")[0]
    user: UserInfo = ctx.user  # type: ignore[assignment]
    return any(
        authorizer.authorize(user, Attributes(verb, _GROUP, "*", "signers", name=name))[0]
        for name in (signer, f"{domain}/*")
    )


class CertificateApproval(_OfSigners):
    name = "CertificateApproval"
    subresource, verb = "approval", "approve"


class CertificateSigning(_OfSigners):
    name = "CertificateSigning"
    subresource, verb = "status", "sign"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        of_pods = resource_key == _OF_PODS and operation == UPDATE and subresource == self.subresource
        return of_pods or super().handles(resource_key, operation, subresource)

    def demand(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Upstream asks for those of pods where it validates them, and refuses as that does."""
        if ctx.resource_key != _OF_PODS:
            super().demand(ctx, obj, old)
            return
        signer = ((old or {}).get("spec") or {}).get("signerName") or ""
        changed = not same((obj or {}).get("status") or {}, (old or {}).get("status") or {})
        if changed and not self._allows(ctx, signer):
            told = f'User "{ctx.user.username}" is not permitted to "sign" for signer "{signer}"'
            cause = errors.FieldError.forbidden("spec.signerName", told)
            raise errors.invalid("PodCertificateRequest", ctx.name, [cause], group=_GROUP)

    def _concerns(self, obj: JSON, old: JSON) -> bool:
        status, before = obj.get("status") or {}, old.get("status") or {}
        return any((status.get(key) or None) != (before.get(key) or None) for key in ("certificate", "conditions"))


class CertificateSubjectRestriction(Plugin):
    name = "CertificateSubjectRestriction"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == _KEY and operation == CREATE and not subresource

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        spec = (obj or {}).get("spec") or {}
        if spec.get("signerName") != _API_CLIENT:
            return
        try:
            subject = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "")).subject
        except ValueError as error:
            raise errors.forbidden(_GROUP, _PLURAL, ctx.name, f"failed to parse CSR: {error}") from error
        groups = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        if _MASTERS in groups:
            detail = f"use of {_API_CLIENT} signer with {_MASTERS} group is not allowed"
            raise errors.forbidden(_GROUP, _PLURAL, ctx.name, detail)


class ClusterTrustBundleAttest(DemandingPlugin):
    """Who writes the trust anchors of a signer may `attest` for it (upstream certificates/ctbattest)."""

    name = "ClusterTrustBundleAttest"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == f"{_BUNDLES}.{_GROUP}" and operation in (CREATE, UPDATE)

    def demand(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        signer = ((obj or {}).get("spec") or {}).get("signerName") or ""
        if not signer or (old is not None and _collected(obj) == _collected(old)):
            return
        if not _may(self._authorizer, ctx, "attest", signer):
            detail = f'user not permitted to attest for signerName "{signer}"'
            raise errors.forbidden(_GROUP, _BUNDLES, ctx.name, detail)


def _collected(bundle: JSON | None) -> JSON:
    """Without what garbage collection and migrations of the store change."""
    found = dict(bundle or {})
    changing = ("ownerReferences", "finalizers", "managedFields", "resourceVersion")
    metadata = found.get("metadata") or {}
    found["metadata"] = {name: value for name, value in metadata.items() if name not in changing}
    return found
