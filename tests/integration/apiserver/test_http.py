"""The chain over real sockets: who one is, what one may, and in which form answers come."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import orjson
import pytest
import yaml

from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.apiserver.server import APIServer
from kubecore.clock import RealClock

from .conftest import Api, config_map, deployment
from .http import JSON, Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def admin(server: APIServer, directory: Path) -> Http:
    return Http(server, directory, pair=server.issue_client_certificate("root", ["system:masters"]))


def user(server: APIServer, directory: Path, name: str) -> Http:
    return Http(server, directory, pair=server.issue_client_certificate(name))


# --- authentication


async def test_anonymous_sees_health_and_version_only(server: APIServer, tmp_path: Path) -> None:
    async with Http(server, tmp_path) as http:
        for path in ("/healthz", "/livez", "/readyz", "/version"):
            assert (await http.call("GET", path)).status == 200
        answer = await http.call("GET", "/api/v1/namespaces/default/pods")
        assert answer.status == 403
        assert answer.json["message"] == (
            'pods is forbidden: User "system:anonymous" cannot list resource "pods" '
            'in API group "" in the namespace "default"'
        )
        assert (await http.call("POST", "/api/v1/namespaces/default/configmaps", config_map("a"))).status == 403


async def test_a_bad_token_is_unauthorized(server: APIServer, tmp_path: Path) -> None:
    async with Http(server, tmp_path, token="nonsense") as http:
        answer = await http.call("GET", "/api/v1/namespaces")
        assert (answer.status, answer.json["reason"]) == (401, "Unauthorized")


async def test_a_foreign_certificate_is_unauthorized(server: APIServer, tmp_path: Path) -> None:
    foreign = CertificateAuthority(tmp_path / "foreign", RealClock())
    async with Http(server, tmp_path, pair=foreign.issue_client("root", ["system:masters"])) as http:
        assert (await http.call("GET", "/api/v1/namespaces")).status == 401
        assert (await http.call("POST", "/api/v1/namespaces/default/configmaps", config_map("a"))).status == 401


async def test_a_service_account_token_is_its_account(server: APIServer, api: Api, tmp_path: Path) -> None:
    path = api.path("v1/serviceaccounts", "default", "token")
    _, answer = await api.call("POST", path, {"spec": {}})
    async with Http(server, tmp_path, token=answer["status"]["token"]) as http:
        who = await http.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert who.status == 201
        assert who.json["status"]["userInfo"]["username"] == f"system:serviceaccount:{api.namespace}:default"
        assert "system:serviceaccounts" in who.json["status"]["userInfo"]["groups"]
        assert (await http.call("GET", f"/api/v1/namespaces/{api.namespace}/secrets")).status == 403


# --- authorization


async def test_a_role_counts_as_soon_as_it_is_bound(server: APIServer, api: Api, tmp_path: Path) -> None:
    rbac = "rbac.authorization.k8s.io/v1"
    path = api.path("v1/configmaps")
    async with user(server, tmp_path, "jane") as http:
        assert (await http.call("POST", path, config_map("a"))).status == 403
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "list"]}]
        await api.create(f"{rbac}/roles", {"metadata": {"name": "maker"}, "rules": rules})
        subject = {"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": "Role", "name": "maker", "apiGroup": "rbac.authorization.k8s.io"}
        binding = {"metadata": {"name": "makers"}, "subjects": [subject], "roleRef": reference}
        assert (await api.create(f"{rbac}/rolebindings", binding))[0] == 201
        assert (await http.call("POST", path, config_map("a"))).status == 201
        assert (await http.call("GET", path)).status == 200
        assert (await http.call("DELETE", f"{path}/a")).status == 403


# --- requests that are alike


async def test_who_asks_counts_anew_for_each_of_requests_that_are_alike(
    server: APIServer, api: Api, tmp_path: Path
) -> None:
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [group], "resources": ["rolebindings"], "verbs": ["create"]}]
    await api.create(f"{group}/v1/roles", {"metadata": {"name": "binder"}, "rules": rules})
    subject = {"kind": "User", "name": "bob", "apiGroup": group}
    reference = {"kind": "Role", "name": "binder", "apiGroup": group}
    await api.create(
        f"{group}/v1/rolebindings", {"metadata": {"name": "b"}, "subjects": [subject], "roleRef": reference}
    )
    path = api.path(f"{group}/v1/rolebindings")
    root = {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": group}

    def binding(name: str) -> JSON:
        return {"metadata": {"name": name}, "subjects": [{**subject, "name": "ann"}], "roleRef": root}

    async with admin(server, tmp_path) as http, user(server, tmp_path, "bob") as bob:
        assert [(await http.call("POST", path, binding(name))).status for name in "cd"] == [201, 201]
        refused = await bob.call("POST", path, binding("e"))
        assert refused.status == 403
        assert "is attempting to grant RBAC permissions not currently held" in refused.json["message"]
        assert (await http.call("POST", path, binding("e"))).status == 201


async def test_creates_that_are_not_alike_are_done_as_each_of_them_says(
    server: APIServer, api: Api, tmp_path: Path
) -> None:
    path = api.path("v1/configmaps")
    async with admin(server, tmp_path) as http:
        for agent in ("one/1", "two/1", "one/1"):
            headers = {"User-Agent": agent}
            made = (await http.call("POST", path, {"metadata": {"generateName": "a-"}}, headers)).json
            assert made["metadata"]["managedFields"][0]["manager"] == agent.partition("/")[0]
        odd = {"metadata": {"name": "a"}, "dat": {}}
        for query, status in (("?fieldValidation=Strict", 400), ("?dryRun=All", 201), ("?dryRun=None", 422)):
            assert (await http.call("POST", path + query, odd)).status == status
        assert (await http.call("POST", path, odd, {"Accept": "text/plain"})).status == 406
        assert (await http.call("POST", path, odd, {"Accept": TABLE})).json["kind"] == "Table"
        assert (await http.call("POST", path, odd)).json["reason"] == "AlreadyExists"


# --- forms


async def test_tables_are_made_for_get_list_and_watch(server: APIServer, api: Api, tmp_path: Path) -> None:
    await api.create("apps/v1/deployments", deployment("d"))
    path = api.path("apps/v1/deployments")
    async with admin(server, tmp_path) as http:
        listed = (await http.call("GET", path, headers={"Accept": TABLE})).json
        assert listed["kind"] == "Table"
        assert [one["name"] for one in listed["columnDefinitions"]][:2] == ["Name", "Ready"]
        assert listed["rows"][0]["cells"][0] == "d"
        assert listed["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        single = (await http.call("GET", f"{path}/d", headers={"Accept": TABLE})).json
        assert single["kind"] == "Table"
        query = f"?watch=true&resourceVersion={listed['metadata']['resourceVersion']}&timeoutSeconds=30"
        async with http.stream(path + query, {"Accept": TABLE}) as stream:
            await api.patch("apps/v1/deployments", "d", {"spec": {"replicas": 4}})
            event = orjson.loads(await asyncio.wait_for(stream.content.readline(), 60))
            assert (event["type"], event["object"]["kind"]) == ("MODIFIED", "Table")


async def test_answers_come_as_yaml_when_asked(server: APIServer, api: Api, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        headers = {"Accept": "application/yaml"}
        answer = await http.call("POST", api.path("v1/configmaps"), config_map("a", k="v"), headers)
        assert answer.headers["Content-Type"] == "application/yaml"
        assert yaml.safe_load(answer.body)["data"] == {"k": "v"}
        body = b"kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: other\n"
        answer = await http.call("POST", api.path("v1/configmaps"), body, {"Content-Type": "application/yaml"})
        assert answer.status == 201


async def test_what_cannot_be_had_or_read_is_406_and_415(server: APIServer, api: Api, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        path = api.path("v1/configmaps")
        assert (await http.call("POST", path, config_map("a"), {"Accept": "text/html"})).status == 406
        assert (await http.call("POST", path, b"x", {"Content-Type": "text/plain"})).status == 415
        # Of both, upstream tells first of the answer, but where it is a patch.
        neither = {"Content-Type": "text/plain", "Accept": "text/html"}
        assert (await http.call("POST", path, b"x", neither)).status == 406
        assert (await http.call("PATCH", f"{path}/a", b"x", neither)).status == 415


async def test_warnings_come_as_headers(server: APIServer, api: Api, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        answer = await http.call("POST", api.path("v1/configmaps"), {**config_map("a"), "bogus": 1})
        assert answer.status == 201
        assert answer.headers["Warning"] == '299 - "unknown field \\"bogus\\""'


async def test_discovery_openapi_and_token_keys_are_served(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        assert (await http.call("GET", "/api")).json["versions"] == ["v1"]
        assert any(one["name"] == "apps" for one in (await http.call("GET", "/apis")).json["groups"])
        assert (await http.call("GET", "/openapi/v3")).json["paths"]
        assert (await http.call("GET", "/openid/v1/jwks")).json["keys"][0]["alg"] == "ES256"
        assert (await http.call("GET", "/nowhere")).body == b"404 page not found\n"


async def test_every_answer_names_its_request(server: APIServer, api: Api, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        for path in ("/version", "/nowhere", "/api", api.path("v1/configmaps"), api.path("v1/configmaps", "absent")):
            first, second = [(await http.call("GET", path)).headers["Audit-Id"] for _ in "ab"]
            assert str(uuid.UUID(first, version=4)) == first
            assert first != second
            assert (await http.call("GET", path, headers={"Audit-Id": "mine"})).headers["Audit-Id"] == "mine"
        posted = await http.call("POST", api.path("v1/configmaps"), config_map("named"), {"Audit-Id": "its"})
        assert posted.headers["Audit-Id"] == "its"
    async with Http(server, tmp_path) as nobody:
        assert "Audit-Id" in (await nobody.call("GET", api.path("v1/configmaps"))).headers


async def test_no_answer_is_kept_by_caches_unless_it_says_so(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        for path in ("/version", "/readyz", "/nowhere", "/metrics"):
            assert (await http.call("GET", path)).headers["Cache-Control"] == "no-cache, private", path
        aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        assert (await http.call("GET", "/apis", headers={"Accept": aggregated})).headers["Cache-Control"] == "public"


async def test_json_ends_with_a_newline_unless_it_is_indented(server: APIServer, api: Api, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        made = await http.call("POST", api.path("v1/configmaps"), config_map("line"))
        paths = ("/api", api.path("v1/configmaps"), api.path("v1/configmaps", "line"), "/apis/apps/v1/none")
        bodies = [made.body, *[(await http.call("GET", path)).body for path in paths]]
        assert all(body.endswith(b"}\n") and body.count(b"\n") == 1 for body in bodies), bodies
        pretty = await http.call("GET", api.path("v1/configmaps", "line") + "?pretty=true")
        assert pretty.body.endswith(b"\n}")


async def test_a_get_of_a_revision_that_is_none_or_of_the_future_is_refused(
    server: APIServer, api: Api, tmp_path: Path
) -> None:
    async with admin(server, tmp_path) as http:
        await http.call("POST", api.path("v1/configmaps"), config_map("seen"))
        path = api.path("v1/configmaps", "seen")
        assert (await http.call("GET", f"{path}?resourceVersion=1")).status == 200
        malformed = (await http.call("GET", f"{path}?resourceVersion=abc")).json
        assert (malformed["code"], malformed["message"]) == (
            500,
            'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax',
        )
        future = (await http.call("GET", f"{path}?resourceVersion=999999999")).json
        assert (future["code"], future["reason"]) == (504, "Timeout")
        assert (await http.call("GET", f"{path}?export=true")).status == 400


@pytest.mark.parametrize(("given", "words"), [("abc", 'invalid duration "abc"'), ("5", 'missing unit in duration "5"')])
async def test_a_time_to_answer_in_is_a_duration(
    server: APIServer, api: Api, tmp_path: Path, given: str, words: str
) -> None:
    async with admin(server, tmp_path) as http:
        path = f"{api.path('v1/configmaps')}?timeout={given}"
        for method in ("GET", "POST"):
            refused = await http.call(method, path, config_map("timed") if method == "POST" else None)
            assert refused.json["message"] == f"invalid timeout specified in the request URL - time: {words}"
            assert refused.status == 400
        assert (await http.call("GET", f"{api.path('v1/configmaps')}?timeout=30s")).status == 200


async def test_checks_have_the_names_that_are_asked_for_one_by_one(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        hooks = ("rbac/bootstrap-roles", "generic-apiserver-start-informers", "start-apiserver-admission-initializer")
        hooks += (
            "start-apiextensions-informers",
            "start-service-ip-repair-controllers",
            "storage-object-count-tracker-hook",
        )
        for check in ("ping", "log", "etcd", *(f"poststarthook/{hook}" for hook in hooks)):
            for endpoint in ("healthz", "livez", "readyz"):
                assert (await http.call("GET", f"/{endpoint}/{check}")).body == b"ok"
        assert b"[+]etcd excluded: ok" in (await http.call("GET", "/readyz?verbose&exclude=etcd")).body
        assert (await http.call("POST", "/livez")).body == b"ok"
        assert (await http.call("POST", "/version")).status == 405


async def test_every_check_is_told_asked_for_by_itself_and_listed(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        listed = (await http.call("GET", "/")).json["paths"]
        for endpoint in ("healthz", "livez", "readyz"):
            told = (await http.call("GET", f"/{endpoint}?verbose")).body.decode().splitlines()
            assert told[-1] == f"{endpoint} check passed"
            checks = [line.removeprefix("[+]").removesuffix(" ok") for line in told[:-1]]
            assert ("etcd-readiness" in checks) == ("informer-sync" in checks) == (endpoint == "readyz")
            assert {"poststarthook/bootstrap-controller", "poststarthook/rbac/bootstrap-roles"} <= set(checks)
            begin = f"/{endpoint}/"
            assert sorted(checks) == [path.removeprefix(begin) for path in listed if path.startswith(begin)]
            for check in checks:
                assert (await http.call("GET", begin + check)).body == b"ok"


async def test_the_root_lists_what_there_is(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        for path in ("/", "/index.html"):
            paths = (await http.call("GET", path)).json["paths"]
            assert {"/api", "/api/v1", "/apis/apps/v1", "/healthz", "/openapi/v3", "/version"} <= set(paths)
            assert paths == sorted(paths)


async def test_lists_of_a_versions_resources_take_get_alone(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        for path in ("/api", "/api/v1", "/apis/apps/v1", "/openid/v1/jwks"):
            assert (await http.call("POST", path, {})).status == 405, path
        for path in ("/apis", "/apis/apps", "/openapi/v3", "/"):
            assert (await http.call("POST", path, {})).status == 200, path


async def test_token_keys_are_given_in_their_own_form_alone(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        refused = await http.call("GET", "/openid/v1/jwks", headers={"Accept": "application/json"})
        assert refused.status == 406
        words = "406: Not Acceptable\n\nAvailable representations: application/jwk-set+json"
        assert refused.json["message"] == words
        both = await http.call("GET", "/openid/v1/jwks", headers={"Accept": "application/json, */*"})
        assert both.status == 200


async def test_a_resource_that_is_only_in_namespaces_is_not_found_beside_them(
    server: APIServer, tmp_path: Path
) -> None:
    async with admin(server, tmp_path) as http:
        for method in ("GET", "POST", "DELETE"):
            assert (await http.call(method, "/api/v1/bindings", {})).status == 404


async def test_other_methods_are_not_allowed_where_there_is_something_and_not_found_elsewhere(
    server: APIServer, tmp_path: Path
) -> None:
    async with admin(server, tmp_path) as http:
        for method in ("HEAD", "OPTIONS", "TRACE"):
            for path, status in [
                ("/api/v1/namespaces/default/configmaps", 405),
                ("/api/v1/namespaces/default/configmaps/a", 405),
                ("/api/v1/namespaces/default/pods/a/status", 405),
                ("/api/v1/namespaces/default/pods/a/nothing", 404),
                ("/api/v1/nothing", 404),
                ("/apis/nothing.example/v1/x", 404),
            ]:
                assert (await http.call(method, path)).status == status, (method, path)


async def test_metrics_are_told_by_any_method(server: APIServer, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        for method in ("GET", "POST", "PUT", "PATCH", "OPTIONS", "HEAD"):
            told = await http.call(method, "/metrics")
            assert told.status == 200
            assert told.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert (b"apiserver_request_total" in told.body) == (method != "HEAD")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "message"),
    [
        ("text/yaml", b"{}", 415, "the body of the request was in an unknown format"),
        ("application/json;x", b"{}", 415, "the body of the request was in an unknown format"),
        (
            "application/json;charset=utf-8",
            b'{"kind":"Status"}',
            400,
            "converting (v1.Status) to (v1.DeleteOptions): unknown conversion",
        ),
        (
            "application/json",
            b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1"}',
            400,
            "converting (v1.PartialObjectMetadata) to (v1.DeleteOptions): unknown conversion",
        ),
        (
            "application/json",
            b'{"kind":"ListOptions","apiVersion":"v1"}',
            400,
            'no kind "ListOptions" is registered for version "v1" in scheme',
        ),
        ("application/vnd.kubernetes.protobuf", b"{}", 400, "provided data does not appear to be a protobuf message"),
        ("application/json", b"{", 400, "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        (
            "application/json",
            b'{"kind":"ConfigMap"}',
            400,
            'no kind "ConfigMap" is registered for version "meta.k8s.io/v1"',
        ),
    ],
)
async def test_options_of_a_delete_come_in_a_form_that_there_is(
    server: APIServer, api: Api, tmp_path: Path, content_type: str, body: bytes, status: int, message: str
) -> None:
    async with admin(server, tmp_path) as http:
        path = api.path("v1/configmaps", "kept")
        await http.call("POST", api.path("v1/configmaps"), config_map("kept"))
        refused = await http.call("DELETE", path, body, {"Content-Type": content_type})
        assert (refused.status, refused.json["message"][: len(message)]) == (status, message)
        assert (await http.call("GET", path)).status == 200
        await http.call("DELETE", path)


# --- bad input


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe\x00", b"[" * 50_000, b'{"a":' * 5_000, b'{"metadata":{"name":"\\ud800"}}', b"- a\n  b: c"],
)
async def test_a_malformed_body_is_a_bad_request_and_harms_nobody(
    server: APIServer, api: Api, tmp_path: Path, body: bytes
) -> None:
    async with admin(server, tmp_path) as http:
        for method, path in (("POST", api.path("v1/configmaps")), ("PUT", api.path("v1/configmaps", "a"))):
            answer = await http.call(method, path, body)
            assert 400 <= answer.status < 500
            assert answer.json["kind"] == "Status"
        assert (await http.call("POST", api.path("v1/configmaps"), config_map("a"))).status == 201


async def test_an_oversized_body_is_too_large(server: APIServer, api: Api, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        answer = await http.call("POST", api.path("v1/configmaps"), b" " * (4 << 20))
        assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("labelSelector=a%3D%3D%3Db", 400),
        ("fieldSelector=spec.nonsense%3Db", 400),
        ("resourceVersion=abc", 400),
        ("resourceVersionMatch=Exact", 422),
        ("sendInitialEvents=true", 422),
        ("limit=x", 400),
        ("continue=%3F%3F", 400),
    ],
)
async def test_bad_list_options_are_told(server: APIServer, api: Api, tmp_path: Path, query: str, status: int) -> None:
    async with admin(server, tmp_path) as http:
        for accept in ("application/json", TABLE):
            answer = await http.call("GET", api.path("v1/pods") + f"?{query}", headers={"Accept": accept})
            assert (answer.status, answer.json["kind"]) == (status, "Status"), (accept, answer.body)


async def test_a_failing_handler_is_an_internal_error_and_the_server_goes_on(
    server: APIServer, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    async with admin(server, tmp_path) as http:
        with monkeypatch.context() as patch:
            patch.setattr(type(server.registry.store("configmaps")), "create", fail)
            answer = await http.call("POST", api.path("v1/configmaps"), config_map("a"))
        assert (answer.status, answer.json["reason"]) == (500, "InternalError")
        assert (await http.call("POST", api.path("v1/configmaps"), config_map("a"))).status == 201
