"""Which (group resource, subresource, verb) is not plain CRUD, and who handles it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.apiserver.handlers.access import AccessReviews
from kubecore.apiserver.handlers.podwrites import PodSubresources
from kubecore.apiserver.handlers.scale import ScaleSubresource
from kubecore.apiserver.handlers.tokens import TokenSubresources

if TYPE_CHECKING:
    from kubecore.apiserver.authentication.modules import TokenModules
    from kubecore.apiserver.authentication.tokens import TokenIssuer
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.handlers.chain import Handler
    from kubecore.apiserver.handlers.components import ComponentStatuses
    from kubecore.apiserver.handlers.logs import PodLogs
    from kubecore.apiserver.handlers.pod_streams import PodStreams
    from kubecore.apiserver.handlers.proxying import Proxying
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry

_SCALED = ("deployments.apps", "replicasets.apps", "statefulsets.apps", "replicationcontrollers")
_AUTHENTICATION = "authentication.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"


def special_handlers(
    *,
    registry: Registry,
    writing: Writing,
    tokens: TokenIssuer,
    modules: TokenModules,
    authorizer: Authorizer,
    logs: PodLogs,
    streams: PodStreams,
    proxying: Proxying,
    components: ComponentStatuses,
) -> dict[tuple[str, str, str], Handler]:
    pods = PodSubresources(registry, writing)
    token = TokenSubresources(registry, writing, tokens, modules)
    access = AccessReviews(writing, authorizer)
    scale = ScaleSubresource(registry, writing)
    found: dict[tuple[str, str, str], Handler] = {
        **proxying.handlers(),
        ("bindings", "", "create"): pods.bind,
        ("pods", "binding", "create"): pods.bind,
        ("pods", "eviction", "create"): pods.evict,
        ("pods", "log", "get"): logs.get,
        **streams.handlers(),
        ("serviceaccounts", "token", "create"): token.request,
        (f"tokenreviews.{_AUTHENTICATION}", "", "create"): token.review,
        (f"selfsubjectreviews.{_AUTHENTICATION}", "", "create"): token.self_review,
        (f"subjectaccessreviews.{_AUTHORIZATION}", "", "create"): access.subject,
        (f"localsubjectaccessreviews.{_AUTHORIZATION}", "", "create"): access.subject,
        (f"selfsubjectaccessreviews.{_AUTHORIZATION}", "", "create"): access.self_subject,
        (f"selfsubjectrulesreviews.{_AUTHORIZATION}", "", "create"): access.rules,
        ("componentstatuses", "", "get"): components.get,
        ("componentstatuses", "", "list"): components.list,
    }
    for key in _SCALED:
        found[(key, "scale", "get")] = scale.get
        found[(key, "scale", "update")] = scale.update
        found[(key, "scale", "patch")] = scale.patch
    return found
