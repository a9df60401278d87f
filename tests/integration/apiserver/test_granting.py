"""Who gives rights, or takes another identity: nobody becomes more than he was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map
from .test_http import admin, user

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]


async def test_nobody_grants_what_they_do_not_hold(server: APIServer, api: Api) -> None:
    rbac = "rbac.authorization.k8s.io/v1"
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [group], "resources": ["roles", "rolebindings"], "verbs": ["create"]}]
    await api.create(f"{rbac}/roles", {"metadata": {"name": "granter"}, "rules": rules})
    subject = {"kind": "User", "name": "bob", "apiGroup": group}
    reference = {"kind": "Role", "name": "granter", "apiGroup": group}
    await api.create(f"{rbac}/rolebindings", {"metadata": {"name": "b"}, "subjects": [subject], "roleRef": reference})
    bob = Api(server.transport(username="bob"), api.namespace)
    more = {"metadata": {"name": "more"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
    status, error = await bob.create(f"{rbac}/roles", more)
    assert status == 403
    assert "is attempting to grant RBAC permissions not currently held" in error["message"]
    cluster_admin = {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": group}
    binding = {"metadata": {"name": "root"}, "subjects": [subject], "roleRef": cluster_admin}
    assert (await bob.create(f"{rbac}/rolebindings", binding))[0] == 403
    assert (await bob.create(f"{rbac}/roles", {"metadata": {"name": "same"}, "rules": rules}))[0] == 201


async def test_a_binding_keeps_its_role_and_the_other_one_is_told_as_upstream_tells_it(api: Api) -> None:
    bindings, group = "rbac.authorization.k8s.io/v1/rolebindings", "rbac.authorization.k8s.io"
    view = {"metadata": {"name": "kept"}, "roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": group}}
    await api.create(bindings, view)
    edit = {**view, "roleRef": {**view["roleRef"], "name": "edit"}}
    status, error = await api.call("PUT", api.path(bindings, "kept"), edit)
    shown = f'{{"APIGroup":"{group}","Kind":"ClusterRole","Name":"edit"}}'
    told = f'RoleBinding.{group} "kept" is invalid: roleRef: Invalid value: {shown}: cannot change roleRef'
    assert (status, error["message"]) == (422, told)


async def test_whoever_gives_himself_very_many_rules_holds_nobody_up(server: APIServer, api: Api) -> None:
    """They are looked at once each, and not each beside each."""
    group, subject = (
        "rbac.authorization.k8s.io",
        {"kind": "User", "name": "many", "apiGroup": "rbac.authorization.k8s.io"},
    )
    for part in range(3):
        rules = [{"apiGroups": [""], "resources": [f"r{part}-{number}"], "verbs": ["get"]} for number in range(10_000)]
        assert (await api.create(f"{group}/v1/roles", {"metadata": {"name": f"many-{part}"}, "rules": rules}))[0] == 201
        reference = {"kind": "Role", "name": f"many-{part}", "apiGroup": group}
        binding = {"metadata": {"name": f"many-{part}"}, "subjects": [subject], "roleRef": reference}
        assert (await api.create(f"{group}/v1/rolebindings", binding))[0] == 201
    many = Api(server.transport(username="many", groups=["system:authenticated"]), "")
    review = {"spec": {"namespace": api.namespace}}
    async with asyncio.timeout(30):
        status, answer = await many.create("authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    assert status == 201
    assert len(answer["status"]["resourceRules"]) > 30_000


async def test_rules_that_multiply_beyond_measure_are_not_checked_one_by_one(server: APIServer, api: Api) -> None:
    group = "rbac.authorization.k8s.io"
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": [verb]} for verb in ("get", "create")]
    await api.create(f"{group}/v1/roles", {"metadata": {"name": "maker"}, "rules": everything})
    subject = {"kind": "User", "name": "maker", "apiGroup": group}
    reference = {"kind": "Role", "name": "maker", "apiGroup": group}
    binding = {"metadata": {"name": "maker"}, "subjects": [subject], "roleRef": reference}
    await api.create(f"{group}/v1/rolebindings", binding)
    maker = Api(server.transport(username="maker"), api.namespace)

    def role(name: str, count: int) -> JSON:
        listed = [f"x{number}" for number in range(count)]
        rule = {"apiGroups": listed, "resources": listed, "verbs": ["get", "create"]}
        return {"metadata": {"name": name}, "rules": [rule]}

    assert (await maker.create(f"{group}/v1/roles", role("large", 100)))[0] == 201
    status, refused = await maker.create(f"{group}/v1/roles", role("larger", 1000))
    assert status == 403
    assert "2000000 permissions are more than can be checked" in refused["message"]
    # Who may grant whatever there is needs no check.
    assert (await api.create(f"{group}/v1/roles", role("larger", 1000)))[0] == 201
    status, refused = await maker.create(
        f"{group}/v1/rolebindings",
        {**binding, "metadata": {"name": "more"}, "roleRef": {**reference, "name": "larger"}},
    )
    assert (status, "more than can be checked" in refused["message"]) == (403, True)


async def test_what_is_missing_is_told_in_order_and_with_all_verbs_of_a_resource(
    server: APIServer, api: Api, cluster: Api
) -> None:
    group = "rbac.authorization.k8s.io"
    subject, api_group = {"kind": "User", "name": "ann", "apiGroup": group}, {"apiGroup": group}
    rules = [{"apiGroups": [group], "resources": ["roles", "clusterroles", "rolebindings"], "verbs": ["create"]}]
    for name, role in (("ann", {"kind": "ClusterRole", "name": "ann"}), ("ann-none", {"kind": "Role", "name": "none"})):
        binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": {**role, **api_group}}
        assert (await api.create(f"{group}/v1/rolebindings", binding))[0] == 201
    assert (await cluster.create(f"{group}/v1/clusterroles", {"metadata": {"name": "ann"}, "rules": rules}))[0] == 201
    binding = {"metadata": {"name": "ann"}, "subjects": [subject], "roleRef": {"kind": "ClusterRole", "name": "ann"}}
    assert (await cluster.create(f"{group}/v1/clusterrolebindings", binding))[0] == 201
    ann = Api(server.transport(username="ann", groups=["g"]), api.namespace)
    wanted = [
        {"apiGroups": [""], "resources": ["secrets", "pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    ]
    held = (
        'user "ann" (groups=["g" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n'
    )
    status, refused = await ann.create(f"{group}/v1/roles", {"metadata": {"name": "more"}, "rules": wanted})
    told = held + '{APIGroups:[""], Resources:["pods"], Verbs:["get" "list" "list" "watch"]}\n'
    told += '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
    gone = '; resolution errors: [roles.rbac.authorization.k8s.io "none" not found]'
    assert (status, refused["message"]) == (403, f'roles.{group} "more" is forbidden: {told}{gone}')
    everyone = Api(server.transport(username="ann", groups=["g"]), "")
    given = {"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    status, refused = await everyone.create(f"{group}/v1/clusterroles", given)
    assert status == 403
    assert refused["message"].endswith("must have cluster-admin privileges to use the aggregationRule")
    missing = {"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "gone", **api_group}}
    status, refused = await ann.create(f"{group}/v1/rolebindings", missing)
    assert (status, refused["message"]) == (404, f'rolebindings.{group} "gone" not found')


async def test_a_label_of_a_role_is_for_who_holds_its_rules(server: APIServer, cluster: Api) -> None:
    """By it the role becomes part of others, such as `edit`."""
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["get", "patch"]}]
    assert (await cluster.create(f"{group}/v1/clusterroles", {"metadata": {"name": "liz"}, "rules": rules}))[0] == 201
    binding = {
        "metadata": {"name": "liz"},
        "subjects": [{"kind": "User", "name": "liz", "apiGroup": group}],
        "roleRef": {"kind": "ClusterRole", "name": "liz", "apiGroup": group},
    }
    assert (await cluster.create(f"{group}/v1/clusterrolebindings", binding))[0] == 201
    liz = Api(server.transport(username="liz"), "")
    label = {"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}}
    status, refused = await liz.patch(f"{group}/v1/clusterroles", "cluster-admin", label)
    assert (status, "not currently held" in refused["message"]) == (403, True)
    assert (await liz.patch(f"{group}/v1/clusterroles", "liz", label))[0] == 200
    finalizer = {"metadata": {"finalizers": ["example.com/kept"]}}
    assert (await liz.patch(f"{group}/v1/clusterroles", "cluster-admin", finalizer))[0] == 200
    assert (await liz.patch(f"{group}/v1/clusterroles", "cluster-admin", {"metadata": {"finalizers": None}}))[0] == 200


async def test_impersonation_needs_permission_and_is_complete(server: APIServer, api: Api, tmp_path: Path) -> None:
    headers = {"Impersonate-User": "jim", "Impersonate-Group": "system:masters"}
    path = api.path("v1/configmaps")
    async with user(server, tmp_path, "eve") as http:
        answer = await http.call("GET", path, headers=headers)
        assert answer.status == 403
        assert 'cannot impersonate resource "users"' in answer.json["message"]
    async with admin(server, tmp_path) as http:
        assert (await http.call("POST", path, config_map("a"), headers)).status == 201
        assert (await http.call("GET", path, headers=headers)).status == 200
        only = {"Impersonate-User": "jim"}
        answer = await http.call("GET", path, headers=only)
        assert answer.status == 403
        assert 'User "jim" cannot list' in answer.json["message"]
        who = await http.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, only)
        assert who.json["status"]["userInfo"]["groups"] == ["system:authenticated"]
        assert (await http.call("GET", path, headers={"Impersonate-Group": "x"})).status == 400
        answer = await http.call("GET", path, headers={"Impersonate-User": "josé"})
        assert (answer.status, 'User "josé" cannot list' in answer.json["message"]) == (403, True)


async def test_each_part_of_another_identity_needs_a_right_of_its_own(
    server: APIServer, cluster: Api, tmp_path: Path
) -> None:
    group, extra = "rbac.authorization.k8s.io", "authentication.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["jim"]},
        {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"], "resourceNames": ["devs"]},
        {"apiGroups": [extra], "resources": ["uids"], "verbs": ["impersonate"], "resourceNames": ["7"]},
        {"apiGroups": [extra], "resources": ["userextras/scopes"], "verbs": ["impersonate"], "resourceNames": ["view"]},
    ]
    given = {"metadata": {"name": "actor"}, "rules": rules}
    assert (await cluster.create(f"{group}/v1/clusterroles", given))[0] == 201
    binding = {
        "metadata": {"name": "actor"},
        "subjects": [{"kind": "User", "name": "actor", "apiGroup": group}],
        "roleRef": {"kind": "ClusterRole", "name": "actor", "apiGroup": group},
    }
    assert (await cluster.create(f"{group}/v1/clusterrolebindings", binding))[0] == 201
    jim = {"Impersonate-User": "jim"}
    all_of_it = {**jim, "Impersonate-Group": "devs", "Impersonate-Uid": "7", "Impersonate-Extra-Scopes": "view"}
    async with user(server, tmp_path, "actor") as http:

        async def answer(headers: dict[str, str]) -> tuple[int, str]:
            got = await http.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, headers)
            return got.status, str(got.json.get("message"))

        assert (await answer(all_of_it))[0] == 201
        for headers, resource in (
            ({"Impersonate-User": "ann"}, "users"),
            ({"Impersonate-User": "system:serviceaccount:default:default"}, "serviceaccounts"),
            ({**jim, "Impersonate-Group": "system:masters"}, "groups"),
            ({**jim, "Impersonate-Uid": "8"}, "uids"),
            ({**jim, "Impersonate-Extra-Scopes": "all"}, "userextras/scopes"),
            ({**jim, "Impersonate-Extra-Other": "view"}, "userextras/other"),
        ):
            status, told = await answer(headers)
            assert (status, f'cannot impersonate resource "{resource}"' in told) == (403, True), told
        # Who means to be less than he is does not go on as himself.
        assert (await answer({"Impersonate-Extra-Scopes": "view"}))[0] == 400
