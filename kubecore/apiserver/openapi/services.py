"""What OpenAPI tells besides resources: lists of groups, versions and resources, the version, the keys of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from kubecore.api.scheme import Scheme
from kubecore.apiserver.openapi.definitions import META
from kubecore.apiserver.openapi.operations import MEDIA, group_tag, root_path

_JSON = ("application/json",)


@dataclass(frozen=True, slots=True)
class Service:
    """A GET of one path. `result` names a definition, None for what OpenAPI has no schema of."""

    path: str
    operation_id: str
    tag: str
    description: str
    result: str | None
    media: tuple[str, ...] = MEDIA


SERVICES = (
    Service(
        "/.well-known/openid-configuration/",
        "getServiceAccountIssuerOpenIDConfiguration",
        "WellKnown",
        "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
        None,
        _JSON,
    ),
    Service("/api/", "getCoreAPIVersions", "core", "get available API versions", META + "APIVersions"),
    Service("/apis/", "getAPIVersions", "apis", "get available API versions", META + "APIGroupList"),
    Service(
        "/openid/v1/jwks/",
        "getServiceAccountIssuerOpenIDKeyset",
        "openid",
        "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
        None,
        ("application/jwk-set+json",),
    ),
    Service(
        "/version/",
        "getCodeVersion",
        "version",
        "get the version information for this server",
        "io.k8s.apimachinery.pkg.version.Info",
        _JSON,
    ),
)


def of_group(scheme: Scheme, name: str) -> list[Service]:
    """What tells of a group; custom ones have nothing, and the core group is not at such a path."""
    if not name or _is_custom(scheme, name):
        return []
    word = "".join(part[:1].upper() + part[1:] for part in name.removesuffix(".k8s.io").split("."))
    tag, description = group_tag(name), "get information of a group"
    return [Service(f"/apis/{name}/", f"get{word}APIGroup", tag, description, META + "APIGroup")]


def of_version(scheme: Scheme, name: str, version: str) -> list[Service]:
    """What lists the resources of a version."""
    if _is_custom(scheme, name):
        return []
    word = "".join(
        part[:1].upper() + part[1:] for part in [*(name or "core").removesuffix(".k8s.io").split("."), version]
    )
    tag = f"{group_tag(name)}_{version}"
    path, result = f"{root_path(name, version)}/", META + "APIResourceList"
    return [Service(path, f"get{word}APIResources", tag, "get available resources", result)]


def served(scheme: Scheme) -> dict[str, Service]:
    """All that has a document of its own in OpenAPI v3, by its path there."""
    groups = [service for group in scheme.groups() for service in of_group(scheme, group.name)]
    return {service.path.strip("/"): service for service in (*SERVICES, *groups)}


def _is_custom(scheme: Scheme, name: str) -> bool:
    return any(resource.storage_version for resource in scheme.resources if resource.group == name)
