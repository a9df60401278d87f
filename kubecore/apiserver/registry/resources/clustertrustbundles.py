"""ClusterTrustBundles."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.certificates import (
    trust_bundle_name,
    validate_signer_name,
    validate_trust_bundle,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


def _any_name(_: str) -> list[str]:
    return []


class ClusterTrustBundleStrategy(Unversioned):
    resource_key = "clustertrustbundles.certificates.k8s.io"
    allow_unconditional_update = False
    # What it may be called depends on its signer: `validate` says so.
    name_errors = staticmethod(_any_name)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec, metadata = Problems(), obj.get("spec") or {}, obj["metadata"]
        signer = spec.get("signerName") or ""
        if metadata.get("name"):
            problems.check("metadata.name", metadata["name"], lambda name: trust_bundle_name(name, signer))
        if prefix := metadata.get("generateName"):
            for error in trust_bundle_name(names.as_prefix(prefix), signer):
                problems.invalid("metadata.generateName", prefix, error)
        if signer:
            validate_signer_name(problems, signer, "spec.signerName")
        if ctx.operation == "CREATE":
            validate_trust_bundle(problems, spec.get("trustBundle") or "", "spec.trustBundle")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, spec, before = Problems(), obj.get("spec") or {}, old.get("spec") or {}
        if spec.get("trustBundle") != before.get("trustBundle"):
            validate_trust_bundle(problems, spec.get("trustBundle") or "", "spec.trustBundle")
        problems.unchanged("spec.signerName", spec.get("signerName") or "", before.get("signerName") or "")
        return problems
