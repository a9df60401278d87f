from kubecore.api import errors
from kubecore.clock import VirtualClock
from kubecore.controllers.identities.root_ca import RootCAPublisher
from kubecore.controllers.identities.serviceaccount import ServiceAccountController
from kubecore.controllers.namespace import NamespaceController, Remains, deletion_conditions
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names, template


async def start(running: Running) -> None:
    context = running.context
    await running.start(
        ServiceAccountController(context), RootCAPublisher(context, b"the CA"), NamespaceController(context)
    )


async def test_35_each_namespace_gets_a_default_account_and_the_root_certificate(
    api: FakeAPI, running: Running
) -> None:
    await start(running)
    await running.context.client.create("namespaces", {"metadata": {"name": "team"}})
    await running.settle()
    for namespace in ("default", "kube-system", "team"):
        assert api.get("serviceaccounts", "default", namespace) is not None
        published = api.get("configmaps", "kube-root-ca.crt", namespace)
        assert published is not None and published["data"] == {"ca.crt": "the CA"}


async def test_35_they_are_made_again_when_somebody_deletes_or_changes_them(api: FakeAPI, running: Running) -> None:
    await start(running)
    api.remove("serviceaccounts", "default")
    api.change("configmaps", "kube-root-ca.crt", data={"ca.crt": "forged"})
    await running.settle()
    assert api.get("serviceaccounts", "default") is not None
    assert api.get("configmaps", "kube-root-ca.crt")["data"] == {"ca.crt": "the CA"}  # type: ignore[index]


async def test_34_a_deleted_namespace_is_emptied_and_goes(api: FakeAPI, running: Running) -> None:
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


async def test_34_pods_go_first_and_conditions_tell_what_remains(
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


def conditions_of(api: FakeAPI, namespace: str) -> dict[str, tuple[str, str, str]]:
    found = api.get("namespaces", namespace)
    assert found is not None
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in found["status"]["conditions"]}


async def test_all_five_conditions_are_told_of_a_namespace_that_is_emptied_and_held(
    api: FakeAPI, running: Running
) -> None:
    await start(running)
    api.change("namespaces", "kube-system", "", spec={"finalizers": ["kubernetes", "example.org/hold"]})
    await running.context.client.delete("namespaces", "kube-system")
    await running.settle()
    assert conditions_of(api, "kube-system") == {
        "NamespaceDeletionDiscoveryFailure": (
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        "NamespaceDeletionGroupVersionParsingFailure": (
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        "NamespaceDeletionContentFailure": (
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        "NamespaceContentRemaining": ("False", "ContentRemoved", "All content successfully removed"),
        "NamespaceFinalizersRemaining": (
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    }
    namespace = api.get("namespaces", "kube-system", "")
    assert namespace is not None and namespace["spec"]["finalizers"] == ["example.org/hold"]


async def test_what_cannot_be_deleted_is_a_content_failure_and_the_rest_goes(api: FakeAPI, running: Running) -> None:
    await start(running)
    api.add("configmaps", {"metadata": {"name": "c"}}, "kube-system")
    api.add("secrets", {"metadata": {"name": "s"}}, "kube-system")
    refusal = errors.forbidden("", "secrets", "s", "admission says no")
    api.react("delete secrets", refusal, times=100)
    await running.context.client.delete("namespaces", "kube-system")
    await running.settle()
    assert conditions_of(api, "kube-system")["NamespaceDeletionContentFailure"] == (
        "True",
        "ContentDeletionFailed",
        f"Failed to delete all resource types, 1 remaining: {refusal.message}",
    )
    assert api.all("configmaps", "kube-system") == []


async def test_nothing_becomes_an_orphan_of_a_namespace(api: FakeAPI, running: Running) -> None:
    await start(running)
    api.add("jobs.batch", {"metadata": {"name": "j"}, "spec": {}}, "kube-system")
    await running.context.client.delete("namespaces", "kube-system")
    await running.settle()
    collections = api.writes("delete jobs.batch")
    assert collections and all(one.body["propagationPolicy"] == "Background" for one in collections)


def test_groups_that_cannot_be_asked_are_told_in_order() -> None:
    remains = Remains(undiscovered={"b.example.com/v1": "is down", "a.example.com/v1": "the server is busy"})
    (told,) = [one for one in deletion_conditions(remains, "now") if one["type"] == "NamespaceDeletionDiscoveryFailure"]
    assert (told["status"], told["reason"], told["message"]) == (
        "True",
        "DiscoveryFailed",
        "Discovery failed for some groups, 2 failing: unable to retrieve the complete list of server APIs: "
        "a.example.com/v1: the server is busy, b.example.com/v1: is down",
    )
