"""Says in the status of a ValidatingAdmissionPolicy what is wrong with its expressions for the types that it matches.

After kubernetes pkg/controller/validatingadmissionpolicystatus/controller.go.
"""

from __future__ import annotations

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.type_checking import Types, expression_warnings
from kubecore.client.client import Client, Object
from kubecore.controllers.base import Controller, ControllerContext

_POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
_SAID = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy"}
_APPLIER = "validatingadmissionpolicy-status"
_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


class PolicyStatusController(Controller):
    """Keys are policies; one is looked at once in each generation."""

    name = "validatingadmissionpolicy-status-controller"
    queue_name = "validatingadmissionpolicy-status"
    workers = 1

    def __init__(self, context: ControllerContext, definitions: Client) -> None:
        """`definitions` reads CustomResourceDefinitions, which upstream learns of from OpenAPI."""
        super().__init__(context)
        self._definitions = definitions
        self._policies = self.informer(_POLICIES)
        self.enqueue_on_change(self._policies)

    async def sync(self, key: str) -> float | None:
        policy = self._policies.get(key)
        if policy is None or meta.generation(policy) <= ((policy.get("status") or {}).get("observedGeneration") or 0):
            return None
        warnings = expression_warnings(policy, Types(await self._custom()))
        checked = {"expressionWarnings": warnings} if warnings else {}
        status = {"observedGeneration": meta.generation(policy), "typeChecking": checked}
        try:
            said = {**_SAID, "metadata": {"name": key}, "status": status}
            await self.client.apply(_POLICIES, said, manager=_APPLIER, subresource="status")
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        return None

    async def _custom(self) -> list[Object]:
        try:
            listing = await self._definitions.list(_DEFINITIONS)
        except StatusError as error:
            if errors.is_not_found(error):
                return []
            raise
        return list(listing.items)
