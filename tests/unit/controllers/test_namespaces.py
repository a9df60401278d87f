from kubecore.clock import VirtualClock
from kubecore.controllers.namespace import NamespaceController
from kubecore.controllers.root_ca import RootCAPublisher
from kubecore.controllers.serviceaccount import ServiceAccountController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names, template


async def start(running: Running) -> None:
    context = running.context
    await running.start(
        ServiceAccountController(context), RootCAPublisher(context, b"the CA"), NamespaceController(context)
    )


async def test_each_namespace_gets_a_default_account_and_the_root_certificate(api: FakeAPI, running: Running) -> None:
    await start(running)
    await running.context.client.create("namespaces", {"metadata": {"name": "team"}})
    await running.settle()
    for namespace in ("default", "kube-system", "team"):
        assert api.get("serviceaccounts", "default", namespace) is not None
        published = api.get("configmaps", "kube-root-ca.crt", namespace)
        assert published is not None and published["data"] == {"ca.crt": "the CA"}


async def test_they_are_made_again_when_somebody_deletes_or_changes_them(api: FakeAPI, running: Running) -> None:
    await start(running)
    api.remove("serviceaccounts", "default")
    api.change("configmaps", "kube-root-ca.crt", data={"ca.crt": "forged"})
    await running.settle()
    assert api.get("serviceaccounts", "default") is not None
    assert api.get("configmaps", "kube-root-ca.crt")["data"] == {"ca.crt": "the CA"}  # type: ignore[index]


async def test_a_deleted_namespace_is_emptied_and_goes(api: FakeAPI, running: Running) -> None:
    await start(running)
    await running.context.client.create("namespaces", {"metadata": {"name": "team"}})
    await running.settle()
    api.add("deployments.apps", {"metadata": {"name": "web"}, "spec": {}}, "team")
    api.add("pods", {"metadata": {"name": "a"}, "spec": template()["spec"]}, "team")
    await running.context.client.delete("namespaces", "team")
    await running.settle()
    assert api.get("namespaces", "team") is None
    assert api.all("deployments.apps") == [] and api.all("pods") == []
    assert api.all("configmaps", "team") == []


async def test_pods_go_first_and_conditions_tell_what_remains(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    await start(running)
    metadata = {"name": "a", "finalizers": ["example.org/hold"]}
    api.add("pods", {"metadata": metadata, "spec": template()["spec"]}, "kube-system")
    api.add("secrets", {"metadata": {"name": "s"}}, "kube-system")
    await running.context.client.delete("namespaces", "kube-system")
    await running.settle()
    assert names(api.all("secrets", "kube-system")) == ["s"]
    namespace = api.get("namespaces", "kube-system")
    assert namespace is not None
    said = {c["type"]: (c["status"], c["message"]) for c in namespace["status"]["conditions"]}
    assert said["NamespaceContentRemaining"] == (
        "True",
        "Some resources are remaining: pods. has 1 resource instances",
    )
    assert said["NamespaceFinalizersRemaining"] == (
        "True",
        "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances",
    )
    api.change("pods", "a", "kube-system", metadata={"finalizers": []})
    await clock.advance(20)
    assert api.get("namespaces", "kube-system") is None
