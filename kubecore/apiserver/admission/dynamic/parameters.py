"""The objects that bindings give their policies as parameters.

After upstream k8s.io/apiserver pkg/admission/plugin/policy/generic/policy_dispatcher.go (CollectParams).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.policies import ParamKind, ParamRef
    from kubecore.apiserver.admission.dynamic.versions import Versions
    from kubecore.apiserver.storage.cacher import Cacher


class Misconfigured(Exception):
    """A policy or a binding that cannot be followed; the failure policy says what that means."""


class Parameters:
    def __init__(self, cacher: Cacher, versions: Versions) -> None:
        self._cacher = cacher
        self._versions = versions

    def resource(self, kind: ParamKind) -> Resource:
        """Raises Misconfigured for a kind that is not served."""
        found = self._versions.of_kind(kind.group, kind.version, kind.kind)
        if found is None:
            raise Misconfigured(f"failed to find resource referenced by paramKind: '{kind}'")
        return found

    async def collect(
        self, kind: ParamKind | None, reference: ParamRef | None, namespace: str
    ) -> Sequence[bytes | None]:
        """As JSON in the version of the kind; [None] where there are to be none. Raises Misconfigured."""
        if kind is None or reference is None:
            return [None]
        resource = self.resource(kind)
        space = self._namespace(resource, reference, namespace)
        found = await self._found(resource, reference, space)
        if not found and reference.denies_absence:
            raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found

    def _namespace(self, resource: Resource, reference: ParamRef, namespace: str) -> str:
        if not resource.namespaced:
            if reference.namespace:
                raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
            return ""
        if not reference.namespace and not namespace:
            raise Misconfigured(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            )
        return reference.namespace or namespace

    async def _found(self, resource: Resource, reference: ParamRef, namespace: str) -> list[bytes]:
        store = self._versions.store(resource)
        if reference.selector is None:
            one = store.current(namespace, reference.name)
            bodies = [] if one is None else [one.value]
        else:
            listing = self._cacher.list(store.resource.key, namespace, label_selector=str(reference.selector))
            bodies = list(listing.items)
        if store.conversion is not None:
            bodies = await store.conversion.read_all(bodies)
        return [await self._versions.convert(body, store, resource) for body in bodies]
