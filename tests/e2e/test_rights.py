"""Who may do what, beside Kubernetes' own authorizers: the modes Node and RBAC in `validation/rights.go`.

Random roles and bindings, and the table that the fast tests go through; `kubectl auth can-i` of a sample of it.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import scheme
from tests.e2e.validation.comparing import Kubecore
from tests.support import rights_table
from tests.support.kubectl import Kubectl
from tests.support.rbac_rules import Asked, Identity, Rbac
from tests.support.rights_table import GROUP, MINE, NODE, NODE_NEEDS, OTHER, Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
# Another one for other roles, bindings and questions.
SEED = int(os.environ.get("RIGHTS_SEED", "20"))
ROLES, BINDINGS, QUESTIONS = 40, 60, 4000
OF_KUBECTL = 200

USERS = ("ann", "bob", "system:anonymous", f"system:serviceaccount:{MINE}:one", f"system:node:{NODE}")
GROUPS = ("devs", "ops", "system:authenticated", f"system:serviceaccounts:{MINE}", "system:nodes")
VERBS = ("get", "list", "create", "update", "deletecollection", "impersonate", "use", "*")
API_GROUPS = ("", "apps", "batch", "*")
RESOURCES = ("pods", "pods/log", "pods/*", "*/scale", "*/*", "*", "deployments", "deployments/scale", "pod", "secrets")
URLS = ("/", "/healthz", "/healthz/*", "/healthz*", "*", "/logs/*")
NAMES = ("one", "two")
KINDS = ("clusterRoles", "clusterRoleBindings", "roles", "roleBindings")


def some(dice: random.Random, values: tuple[str, ...], most: int = 2) -> list[str]:
    return dice.sample(values, dice.randint(1, most))


def rule(dice: random.Random, *, urls: bool) -> JSON:
    if urls and dice.random() < 0.3:
        return {"verbs": some(dice, VERBS), "nonResourceURLs": some(dice, URLS)}
    made: JSON = {"verbs": some(dice, VERBS), "apiGroups": some(dice, API_GROUPS), "resources": some(dice, RESOURCES)}
    if dice.random() < 0.3:
        made["resourceNames"] = some(dice, NAMES, 1)
    return made


def role(dice: random.Random, number: int) -> JSON:
    namespace = dice.choice(["", MINE, OTHER])
    rules = [rule(dice, urls=not namespace) for _ in range(dice.randint(0, 3))]
    metadata = {"name": f"r{number}", **({"namespace": namespace} if namespace else {})}
    kind = "Role" if namespace else "ClusterRole"
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "rules": rules}


def subject(dice: random.Random) -> JSON:
    kind = dice.choice(["User", "Group", "ServiceAccount"])
    if kind == "ServiceAccount":
        return {"kind": kind, "name": dice.choice(NAMES), "namespace": dice.choice([MINE, OTHER])}
    return {"kind": kind, "apiGroup": GROUP, "name": dice.choice(USERS if kind == "User" else GROUPS)}


def binding(dice: random.Random, number: int) -> JSON:
    namespace = dice.choice(["", MINE, OTHER])
    kind = dice.choice(["Role", "ClusterRole"]) if namespace else "ClusterRole"
    metadata = {"name": f"b{number}", **({"namespace": namespace} if namespace else {})}
    # Some roles are of another kind or namespace, which makes them none.
    reference = {"apiGroup": GROUP, "kind": kind, "name": f"r{dice.randrange(ROLES)}"}
    subjects = [subject(dice) for _ in range(dice.randint(0, 2))]
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    found = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata}
    return {**found, "roleRef": reference, "subjects": subjects}


def question(dice: random.Random) -> tuple[Identity, Asked]:
    who = Identity(dice.choice(USERS), frozenset(dice.sample(GROUPS, dice.randint(0, 2))))
    if dice.random() < 0.2:
        path = dice.choice(["/", "/healthz", "/healthz/etcd", "/healthzx", "/logs", "/logs/x", "/version"])
        return who, Asked(dice.choice(VERBS), path=path)
    resource, _, subresource = dice.choice(RESOURCES).partition("/")
    asked = Asked(
        dice.choice(VERBS),
        dice.choice(API_GROUPS),
        resource,
        subresource,
        dice.choice(["", MINE, OTHER]),
        dice.choice(["", *NAMES]),
    )
    return who, asked


def judged(judge: Path, world: JSON, questions: list[tuple[Identity, Asked]]) -> list[JSON]:
    asked = [
        {
            "user": who.name,
            "groups": sorted(who.groups),
            **{name: getattr(one, name) for name in Asked.__dataclass_fields__},
        }
        for who, one in questions
    ]
    given = orjson.dumps({**world, "questions": asked})
    answers = subprocess.run([judge, "rights"], input=given, capture_output=True, check=True, timeout=120).stdout
    return list(orjson.loads(answers))


def sorted_out(objects: list[JSON]) -> JSON:
    names = {"ClusterRole": "clusterRoles", "ClusterRoleBinding": "clusterRoleBindings"}
    names |= {"Role": "roles", "RoleBinding": "roleBindings", "Pod": "pods"}
    world: JSON = {name: [] for name in names.values()}
    for one in objects:
        world[names[one["kind"]]].append(one)
    return world


def reviewed(who: Identity, asked: Asked) -> JSON:
    spec: JSON = {"user": who.name, "groups": sorted(who.groups)}
    if asked.path:
        spec["nonResourceAttributes"] = {"verb": asked.verb, "path": asked.path}
    else:
        names = ("verb", "group", "resource", "subresource", "namespace", "name")
        spec["resourceAttributes"] = {name: getattr(asked, name) for name in names}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


def told(answer: JSON) -> frozenset[str]:
    """A line of each authorizer. The errors of several bindings come in any order; any that allows it may be named."""
    if answer["allowed"]:
        return frozenset()
    lines = answer["reason"].split("\n")
    return frozenset(one for line in lines for one in line.removeprefix("RBAC: ").strip("[]").split(", "))


async def test_random_rights_are_judged_as_by_kubernetes(judge: Path, kubecore: Kubecore) -> None:
    print(f"RIGHTS_SEED={SEED}")
    dice = random.Random(SEED)
    objects = [role(dice, number) for number in range(ROLES)] + [binding(dice, number) for number in range(BINDINGS)]
    await kubecore.create_if_absent({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MINE}})
    await kubecore.create_if_absent({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OTHER}})
    for one in objects:
        await kubecore.create_if_absent(one)
    questions = [question(dice) for _ in range(QUESTIONS)]
    # What a server begins with counts there, too.
    world = {kind: await kubecore.listed(f"/apis/{GROUP}/v1/{kind.lower()}") for kind in KINDS}
    wrong = []
    for (who, asked), wanted in zip(questions, judged(judge, world, questions), strict=True):
        status = (await kubecore.create(reviewed(who, asked)))["status"]
        got = {"allowed": status["allowed"], "reason": status.get("reason", "")}
        if (got["allowed"], told(got)) != (wanted["allowed"], told(wanted)):
            wrong.append(f"{who} {asked}: {got}, but {wanted}")
    assert not wrong, "\n".join(wrong[:20])


def table() -> Iterator[tuple[Identity, Asked]]:
    kinds = [
        Kind(one.group, one.version, one.plural, one.namespaced, tuple(sorted(one.subresources)))
        for one in scheme.default().resources
    ]
    calls = list(rights_table.calls(kinds))
    for caller in rights_table.callers().values():
        # The authorizers that are asked come after the one that lets masters pass.
        if "system:masters" not in caller.identity.groups:
            yield from ((caller.identity, call.asked) for call in calls)


def test_the_table_of_rights_is_as_kubernetes_has_it(judge: Path, cluster_roles: list[JSON]) -> None:
    """Holds the evaluator of the fast tests to upstream's own."""
    objects = [*cluster_roles, *rights_table.bindings(), *rights_table.node_objects()]
    world = sorted_out(objects + [one for one in rights_table.roles() if one["kind"] == "Role"])
    rules = Rbac(
        world["clusterRoles"], world["clusterRoleBindings"], world["roles"], world["roleBindings"], {NODE: NODE_NEEDS}
    )
    questions = list(table())
    wrong = [
        f"{who.name} {asked}: {wanted}"
        for (who, asked), wanted in zip(questions, judged(judge, world, questions), strict=True)
        if rules.allows(who, asked) != wanted["allowed"] and not _watched_by_nodes(who, asked)
    ]
    assert not wrong, "\n".join(wrong[:20])


def _watched_by_nodes(who: Identity, asked: Asked) -> bool:
    """Our kubelets watch single objects of these where upstream's ask for them again and again."""
    kinds = ("persistentvolumeclaims", "persistentvolumes", "volumeattachments", "resourceclaims")
    return "system:nodes" in who.groups and asked.resource in kinds and asked.verb in ("list", "watch")


@pytest.fixture
def cluster_roles(kubectl: Kubectl) -> Iterator[list[JSON]]:
    """The roles and bindings of a cluster with those of the table, rules gathered."""
    items = [*rights_table.roles(), *rights_table.bindings()]
    made = orjson.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    for name in (MINE, OTHER):
        kubectl("create", "namespace", name)
    kubectl("apply", "-f", "-", stdin=made.decode())
    kubectl("wait", "clusterrole/gathered", "--for=jsonpath={.rules[1]}", "--timeout=180s")
    names = "clusterroles,clusterrolebindings"
    listed = orjson.loads(kubectl("get", names, "-o", "json"))["items"]
    ours = {(one["kind"], one["metadata"]["name"]) for one in rights_table.bindings()}
    yield [one for one in listed if (one["kind"], one["metadata"]["name"]) not in ours]
    kubectl("delete", "-f", "-", "--wait=false", stdin=made.decode())
    # The next test makes them anew.
    kubectl("delete", "namespace", MINE, OTHER, "--timeout=180s")


def test_kubectl_auth_can_i_says_what_the_rules_say(kubectl: Kubectl, cluster_roles: list[JSON]) -> None:
    world = sorted_out([*cluster_roles, *rights_table.bindings()])
    roles = [one for one in rights_table.roles() if one["kind"] == "Role"]
    rules = Rbac(world["clusterRoles"], world["clusterRoleBindings"], roles, world["roleBindings"])
    print(f"RIGHTS_SEED={SEED}")
    dice = random.Random(SEED)
    # An equal share of both answers. Who is nobody may not ask at all.
    ours = {"system:nodes", "system:unauthenticated"}
    questions = [one for one in table() if not ours & one[0].groups]
    allowed = [one for one in questions if rules.allows(*one)]
    refused = [one for one in questions if not rules.allows(*one)]
    for who, asked in dice.sample(allowed, OF_KUBECTL // 2) + dice.sample(refused, OF_KUBECTL // 2):
        what = asked.path or f"{asked.resource}{'.' + asked.group if asked.group else ''}"
        command = ["auth", "can-i", asked.verb, f"{what}/{asked.name}" if asked.name and not asked.path else what]
        command += [f"--subresource={asked.subresource}"] if asked.subresource else []
        command += [f"--namespace={asked.namespace}"] if asked.namespace else ["--all-namespaces"]
        command += [f"--as={who.name}"]
        command += [f"--as-group={group}" for group in sorted(who.groups)]
        # A reason may follow.
        said = kubectl.run(*command)
        assert said.output.split()[:1] == ["yes" if rules.allows(who, asked) else "no"], (command, said.errors)
