"""Where requests for an extension API server go."""

from typing import Any

import pytest

from kubecore.apiserver.aggregation.remotes import Backend
from kubecore.apiserver.aggregation.resolving import Resolver

JSON = dict[str, Any]


class Objects:
    """One Service, with an endpoint."""

    def __init__(self, **spec: Any) -> None:
        self.service = {"spec": spec}

    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None:
        return self.service

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]:
        return [{"ports": [{"name": "", "port": 8443}], "endpoints": [{"addresses": ["10.0.0.1"]}]}]


BACKEND = Backend("tools", "extension", 443)


@pytest.mark.parametrize(("to_endpoints", "address"), [(True, "10.0.0.1:8443"), (False, "10.96.0.9:443")])
def test_a_service_of_the_cluster_is_its_endpoints_or_its_own_address(to_endpoints: bool, address: str) -> None:
    objects = Objects(clusterIP="10.96.0.9", ports=[{"port": 443}])
    assert str(Resolver(objects, to_endpoints=to_endpoints)(BACKEND)) == address


@pytest.mark.parametrize("to_endpoints", [True, False])
def test_a_service_outside_is_its_name(to_endpoints: bool) -> None:
    objects = Objects(type="ExternalName", externalName="metrics.example.com")
    assert str(Resolver(objects, to_endpoints=to_endpoints)(BACKEND)) == "metrics.example.com:443"
