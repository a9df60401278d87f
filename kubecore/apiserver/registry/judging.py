"""What is wrong with an object that is to be stored: what its kind's strategy says, told with the object's name."""

from __future__ import annotations

from collections.abc import Mapping

from kubecore.api import errors
from kubecore.api.errors import Cause
from kubecore.api.scheme import Resource
from kubecore.apiserver.registry.strategy import JSON, RequestContext, Strategy
from kubecore.apiserver.registry.validation.metadata import validate_metadata, validate_metadata_update
from kubecore.apiserver.registry.validation.problems import Enough


def judge_new(ctx: RequestContext, resource: Resource, strategy: Strategy, obj: JSON) -> None:
    """Raises 422 for a new object that is not right."""
    try:
        causes = _of_metadata(strategy, resource, obj)
        causes += strategy.validate(ctx, obj)
    except Enough as enough:
        causes = enough.found
    if causes:
        raise errors.invalid(resource.kind, ctx.name, causes, group=resource.group)


def judge_update(ctx: RequestContext, resource: Resource, strategy: Strategy, obj: JSON, old: JSON) -> None:
    """Raises 422 for an update, of the object or its status, that is not right."""
    try:
        causes = _of_changed_metadata(ctx, strategy, resource, obj, old)
        if ctx.subresource == "status":
            causes += strategy.validate_status_update(ctx, obj, old)
        else:
            causes += strategy.validate(ctx, obj)
            causes += strategy.validate_update(ctx, obj, old)
    except Enough as enough:
        causes = enough.found
    if causes:
        raise errors.invalid(resource.kind, ctx.name, causes, group=resource.group)


# Upstream's validation of an update looks at metadata twice for all kinds, as of an object and as of a change, and each
# kind's own so many times more. What is wrong is in the details of a refusal as often (in its message once).
_MORE, _MORE_OF_STATUS = (1, 1), (0, 1)
_MORE_BY_KIND: Mapping[tuple[int, int], frozenset[str]] = {
    (0, 0): frozenset({"events", "poddisruptionbudgets.policy"}),
    (0, 1): frozenset(
        {
            "cronjobs.batch",
            "csidrivers.storage.k8s.io",
            "customresourcedefinitions.apiextensions.k8s.io",
            "daemonsets.apps",
            "deployments.apps",
            "horizontalpodautoscalers.autoscaling",
            "leases.coordination.k8s.io",
            "podtemplates",
            "priorityclasses.scheduling.k8s.io",
            "replicasets.apps",
            "replicationcontrollers",
            "resourcequotas",
            "resourceslices.resource.k8s.io",
            "servicecidrs.networking.k8s.io",
            "services",
            "statefulsets.apps",
        }
    ),
    (1, 0): frozenset(
        {
            "endpointslices.discovery.k8s.io",
            "flowschemas.flowcontrol.apiserver.k8s.io",
            "limitranges",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            "volumeattachments.storage.k8s.io",
        }
    ),
    (2, 0): frozenset({"csinodes.storage.k8s.io", "persistentvolumes"}),
}
_MORE_OF_KIND = {key: more for more, keys in _MORE_BY_KIND.items() for key in keys}
_MORE_OF_KINDS_STATUS = {
    "certificatesigningrequests.certificates.k8s.io": (1, 1),
    "cronjobs.batch": (0, 0),
    "poddisruptionbudgets.policy": (0, 0),
    "validatingadmissionpolicies.admissionregistration.k8s.io": (0, 0),
    "volumeattachments.storage.k8s.io": (0, 0),
}
# What is looked at as of a change, too, whether it has changed or not.
_OF_ANY_CHANGE = ("metadata.labels", "metadata.annotations", "metadata.ownerReferences")


def _of_changed_metadata(
    ctx: RequestContext, strategy: Strategy, resource: Resource, obj: JSON, old: JSON
) -> list[Cause]:
    whole, change = _of_metadata(strategy, resource, obj), validate_metadata_update(obj, old)
    if not whole and not change:
        return []
    change += [cause for cause in whole if cause.field.startswith(_OF_ANY_CHANGE)]
    if ctx.subresource == "status":
        more = _MORE_OF_KINDS_STATUS.get(resource.key, _MORE_OF_STATUS)
    elif resource.storage_version:
        more = (0, 1)
    else:
        more = _MORE_OF_KIND.get(resource.key, _MORE)
    return whole + change + whole * more[0] + change * more[1]


def _of_metadata(strategy: Strategy, resource: Resource, obj: JSON) -> list[Cause]:
    return validate_metadata(
        obj,
        namespaced=resource.namespaced,
        name_errors=strategy.name_errors,
        any_finalizer=strategy.any_finalizer,
        checks_generate_name=strategy.checks_generate_name,
    )
