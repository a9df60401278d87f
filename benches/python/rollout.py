"""Controllers at work on 500 simulated nodes: 1,000 Deployments of 10 replicas until all are ready, one Deployment
scaled to 10,000, a namespace of 10,000 objects deleted, and how soon an idle controller reacts to one event. No peer:
the figures have targets of their own.
"""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.error import HTTPError

from _cluster import all_running, count, deployment, simulated, until
from _load import JSON_HEADERS, h2load
from _payloads import encoded
from _report import Target, row
from _servers import Server

NODES, DEPLOYMENTS, REPLICAS, SCALED, OBJECTS, EVENTS, CLIENTS = 500, 1_000, 10, 10_000, 10_000, 200, 16
READY = Target("<= 15 s", 15.0, "at most")
SCALE = Target("<= 10 s", 10.0, "at most")
DELETE = Target("<= 5 s", 5.0, "at most")
REACTION = Target("p99 <= 10 ms", 10.0, "at most")
APPS = "/apis/apps/v1/namespaces"


def namespace(server: Server, name: str) -> None:
    server.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


def all_ready(server: Server, name: str) -> bool:
    items = json.loads(server.call("GET", f"{APPS}/{name}/deployments"))["items"]
    return all((one.get("status") or {}).get("readyReplicas") == one["spec"]["replicas"] for one in items)


def deployments() -> None:
    with simulated(NODES) as server:
        until(lambda: count(server, "/api/v1/nodes") == NODES)
        namespace(server, "many")
        before, started = server.cpu_seconds(), time.monotonic()
        wanted = [deployment(f"web-{number}", REPLICAS) for number in range(DEPLOYMENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda one: server.call("POST", f"{APPS}/many/deployments", one), wanted))
        until(lambda: all_running(server, "/api/v1/namespaces/many/pods", DEPLOYMENTS * REPLICAS))
        until(lambda: all_ready(server, "many"))
        seconds, cpu = time.monotonic() - started, server.cpu_seconds() - before
        told = f"{seconds:.1f} s, {cpu / (DEPLOYMENTS * REPLICAS) * 1e6:,.0f} us of CPU a pod"
        name = f"rollout: {DEPLOYMENTS:,} Deployments of {REPLICAS}, until ready"
        row(name, told, target=READY.text, verdict=READY.verdict(seconds))


def scaling() -> None:
    with simulated(NODES) as server:
        until(lambda: count(server, "/api/v1/nodes") == NODES)
        namespace(server, "one")
        before, started = server.cpu_seconds(), time.monotonic()
        server.call("POST", f"{APPS}/one/deployments", deployment("big", SCALED))
        until(lambda: all_running(server, "/api/v1/namespaces/one/pods", SCALED))
        until(lambda: all_ready(server, "one"))
        seconds, cpu = time.monotonic() - started, server.cpu_seconds() - before
        told = f"{seconds:.1f} s, {cpu / SCALED * 1e6:,.0f} us of CPU a pod"
        row(f"rollout: one Deployment of {SCALED:,}", told, target=SCALE.text, verdict=SCALE.verdict(seconds))


def gone(server: Server, path: str) -> bool:
    try:
        server.call("GET", path)
    except HTTPError as error:
        return error.code == 404
    return False


def deleting() -> None:
    with simulated(0) as server:
        namespace(server, "full")
        url = f"http://127.0.0.1:{server.port}/api/v1/namespaces/full/configmaps"
        body = encoded({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}}, 1024)
        h2load(server, url, requests=OBJECTS, clients=64, body=body, headers=JSON_HEADERS, http1=True)
        before, started = server.cpu_seconds(), time.monotonic()
        server.call("DELETE", "/api/v1/namespaces/full")
        until(lambda: gone(server, "/api/v1/namespaces/full"))
        seconds, cpu = time.monotonic() - started, server.cpu_seconds() - before
        told = f"{seconds:.1f} s, {cpu / OBJECTS * 1e6:,.0f} us of CPU an object"
        name = f"rollout: a namespace of {OBJECTS:,} objects deleted"
        row(name, told, target=DELETE.text, verdict=DELETE.verdict(seconds))


def reaction() -> None:
    """From the moment before a Deployment is asked for until its ReplicaSet is seen by a watch."""
    with simulated(0) as server:
        time.sleep(5)
        watch = urllib.request.urlopen(f"http://127.0.0.1:{server.port}{APPS}/default/replicasets?watch=true")
        connection = HTTPConnection("127.0.0.1", server.port)
        taken = []
        for number in range(EVENTS):
            body = json.dumps(deployment(f"idle-{number}", 0))
            started = time.monotonic()
            connection.request("POST", f"{APPS}/default/deployments", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
            while json.loads(watch.readline())["type"] != "ADDED":
                pass
            taken.append((time.monotonic() - started) * 1000)
            time.sleep(0.02)
        taken.sort()
        p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
        told = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        row("rollout: reaction to one event", told, target=REACTION.text, verdict=REACTION.verdict(p99))


def main() -> None:
    deployments()
    scaling()
    deleting()
    reaction()


if __name__ == "__main__":
    main()
