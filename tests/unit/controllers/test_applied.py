"""What upstream's controllers apply has their own names in managedFields, and nothing that others wrote."""

from kubecore.controllers.identities.clusterrole_aggregation import ClusterRoleAggregationController
from kubecore.controllers.services.service_cidr import ServiceCIDRController
from kubecore.controllers.services.service_ranges import SERVICE_CIDRS
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running

ROLES = "clusterroles.rbac.authorization.k8s.io"


async def test_an_aggregated_role_gets_its_rules_alone(api: FakeAPI, running: Running) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    chosen = {"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]}
    api.add(ROLES, {"metadata": {"name": "all", "labels": {"own": "label"}}, "aggregationRule": chosen, "rules": []})
    api.add(ROLES, {"metadata": {"name": "one", "labels": {"to": "all"}}, "rules": [rule]})
    await running.start(ClusterRoleAggregationController(running.context))
    (write,) = api.writes(f"patch {ROLES}")
    assert write.body == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "all"},
        "rules": [rule],
    }
    assert write.query == {"fieldManager": "clusterrole-aggregation-controller", "force": "true"}


async def test_a_service_cidr_gets_its_condition_alone(api: FakeAPI, running: Running) -> None:
    api.add(SERVICE_CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}})
    await running.start(ServiceCIDRController(running.context))
    write = api.writes(f"patch {SERVICE_CIDRS}/status")[0]
    assert [one["type"] for one in write.body["status"]["conditions"]] == ["Ready"] and "spec" not in write.body
    assert write.query == {"fieldManager": "service-cidr-controller", "force": "true"}
