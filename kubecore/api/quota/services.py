"""Services against quotas (upstream kubernetes pkg/quota/v1/evaluator/core/services.go)."""

from __future__ import annotations

from kubecore.api import amounts
from kubecore.api.amounts import Amounts
from kubecore.api.quota.evaluator import CREATE, JSON, UPDATE, Evaluator

NODE_PORTS, LOAD_BALANCERS = "services.nodeports", "services.loadbalancers"


class ServiceEvaluator(Evaluator):
    def __init__(self) -> None:
        super().__init__("services", "services")
        self.names |= {NODE_PORTS, LOAD_BALANCERS}

    def handles(self, operation: str, subresource: str) -> bool:
        # A Service's type may change.
        return not subresource and operation in (CREATE, UPDATE)

    def usage(self, obj: JSON) -> Amounts:
        spec = obj["spec"]
        kind, ports = spec.get("type"), spec.get("ports") or ()
        balanced = kind == "LoadBalancer"
        taken = len(ports) if kind == "NodePort" or balanced else 0
        if balanced and spec.get("allocateLoadBalancerNodePorts") is False:
            taken = sum(1 for port in ports if port.get("nodePort"))
        return {
            self.count: amounts.ONE,
            "services": amounts.ONE,
            NODE_PORTS: amounts.units(taken),
            LOAD_BALANCERS: amounts.units(int(balanced)),
        }


def charged_type(service: JSON) -> str:
    """The Service's type, where that type counts."""
    kind: str = (service.get("spec") or {}).get("type") or ""
    return kind if kind in ("NodePort", "LoadBalancer") else ""
