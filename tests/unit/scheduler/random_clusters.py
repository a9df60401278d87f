"""Clusters at random: nodes and pods that come, change and go, as strategies of Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.clock import VirtualClock
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.pods import PodInfo
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import node, pod

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
NAMES = [f"n{number}" for number in range(8)]
SPACES = ["default", "other"]
KEYS = [f"{space}/p{number}" for space in SPACES for number in range(5)]


def informers_of_spaces() -> InformerFactory:
    """They know the namespaces that pods are in, one of them with a label."""
    informers = FakeAPI(VirtualClock()).informers()
    names = informers.informer("namespaces")
    names.apply("ADDED", {"metadata": {"name": "default", "uid": "1"}})
    names.apply("ADDED", {"metadata": {"name": "other", "uid": "2", "labels": {"team": "red"}}})
    return informers


# ------------------------------------------------------------------ what clusters are made of
labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b"]), max_size=2)
amounts = st.sampled_from(["0", "100m", "1", "1500m", "3"])
bytes_ = st.sampled_from(["0", "64Mi", "1Gi", "5Gi"])
requests = st.fixed_dictionaries({}, optional={"cpu": amounts, "memory": bytes_, "example.com/gpu": st.just("1")})
effects = st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])
taints = st.builds(
    lambda key, value, effect: {"key": key, "value": value, "effect": effect},
    st.sampled_from(["dedicated", "gpu"]),
    st.sampled_from(["", "yes"]),
    effects,
)
tolerations = st.one_of(
    st.fixed_dictionaries({"operator": st.just("Exists")}),
    st.fixed_dictionaries(
        {"key": st.sampled_from(["dedicated", "gpu"]), "operator": st.sampled_from(["Exists", "Equal"])},
        optional={"value": st.sampled_from(["", "yes"]), "effect": effects},
    ),
)
node_labels = st.fixed_dictionaries(
    {}, optional={ZONE: st.sampled_from(["z1", "z2", "z3"]), "disk": st.sampled_from(["ssd", "1", "7", "x"])}
)
image_names = st.sampled_from(["app:1", "app:latest", "big:2"])


def with_images(made: Object, names: list[str]) -> Object:
    images = [{"names": [name], "sizeBytes": size << 20} for name, size in zip(names, (300, 2000), strict=False)]
    return made | {"status": made["status"] | {"images": images}}


nodes = st.builds(
    lambda name, labels, taints, cordoned, cpu, pods, images: with_images(
        node(
            name,
            labels=labels,
            taints=taints,
            unschedulable=cordoned,
            allocatable={"cpu": cpu, "memory": "8Gi", "pods": pods, "example.com/gpu": "1"},
        ),
        images,
    ),
    st.sampled_from(NAMES),
    node_labels,
    st.lists(taints, max_size=2),
    st.sampled_from([False, False, False, True]),
    st.sampled_from(["0", "2", "4"]),
    st.sampled_from(["1", "110", "110"]),
    st.lists(image_names, max_size=2, unique=True),
)
expressions = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from([ZONE, "disk"]),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from(["z1", "z2", "ssd"]), min_size=1, max_size=2),
    ),
    st.builds(
        lambda operator: {"key": "disk", "operator": operator},
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
    st.builds(
        lambda operator, value: {"key": "disk", "operator": operator, "values": [value]},
        st.sampled_from(["Gt", "Lt"]),
        st.sampled_from(["3", "x"]),
    ),
)
fields = st.builds(
    lambda operator, name: {"key": "metadata.name", "operator": operator, "values": [name]},
    st.sampled_from(["In", "In", "NotIn"]),
    st.sampled_from([*NAMES, "gone"]),
)
terms = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(expressions, max_size=2),
        "matchFields": st.lists(fields, min_size=1, max_size=2),
    },
)
node_affinity = st.fixed_dictionaries(
    {},
    optional={
        "requiredDuringSchedulingIgnoredDuringExecution": st.builds(
            lambda terms: {"nodeSelectorTerms": terms}, st.lists(terms, min_size=1, max_size=2)
        ),
        "preferredDuringSchedulingIgnoredDuringExecution": st.lists(
            st.builds(lambda weight, term: {"weight": weight, "preference": term}, st.integers(1, 100), terms),
            max_size=2,
        ),
    },
)
selectors = st.one_of(
    st.none(),
    st.builds(lambda labels: {"matchLabels": labels}, labels),
    st.just({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}),
)
spreads = st.fixed_dictionaries(
    {
        "maxSkew": st.integers(1, 2),
        "topologyKey": st.sampled_from([ZONE, HOSTNAME]),
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
        "labelSelector": selectors,
    },
    optional={
        "matchLabelKeys": st.just(["tier"]),
        "minDomains": st.integers(1, 4),
        "nodeAffinityPolicy": st.sampled_from(["Honor", "Ignore"]),
        "nodeTaintsPolicy": st.sampled_from(["Honor", "Ignore"]),
    },
)
ports = st.fixed_dictionaries(
    {"hostPort": st.sampled_from([80, 81]), "containerPort": st.just(80)},
    optional={"hostIP": st.sampled_from(["0.0.0.0", "10.0.0.1"]), "protocol": st.sampled_from(["TCP", "UDP"])},
)
pod_terms = st.fixed_dictionaries(
    {"topologyKey": st.sampled_from([ZONE, HOSTNAME]), "labelSelector": selectors},
    optional={
        "namespaces": st.lists(st.sampled_from(SPACES), max_size=2),
        "namespaceSelector": st.sampled_from([{}, {"matchLabels": {"team": "red"}}]),
    },
)
weighted_terms = st.builds(
    lambda weight, term: {"weight": weight, "podAffinityTerm": term}, st.integers(1, 100), pod_terms
)
pod_rules = st.fixed_dictionaries(
    {},
    optional={
        "requiredDuringSchedulingIgnoredDuringExecution": st.lists(pod_terms, max_size=2),
        "preferredDuringSchedulingIgnoredDuringExecution": st.lists(weighted_terms, max_size=2),
    },
)
inter_pod = st.fixed_dictionaries({}, optional={"podAffinity": pod_rules, "podAntiAffinity": pod_rules})


@st.composite
def pods(draw: Any, name: str = "p", *, placed: bool = False) -> Object:
    containers = [
        {
            "name": "c",
            "image": draw(st.sampled_from(["app:1", "app", "big:2", "other"])),
            "resources": {"requests": draw(requests)},
            "ports": draw(st.lists(ports, max_size=1)),
        }
    ]
    extra: Object = {"containers": containers, "priority": draw(st.sampled_from([0, 5]))}
    if draw(st.booleans()):
        extra["affinity"] = draw(inter_pod)
    if placed:
        extra["node"] = draw(st.sampled_from(NAMES))
        extra["deleting"] = draw(st.sampled_from([False, False, True]))
        if hour := draw(st.integers(0, 3)):
            extra["status"] = {"phase": "Running", "startTime": f"2026-01-01T{hour:02}:00:00Z"}
    else:
        extra["tolerations"] = draw(st.lists(tolerations, max_size=2))
        if draw(st.booleans()):
            extra["affinity"] = extra.get("affinity", {}) | {"nodeAffinity": draw(node_affinity)}
        if draw(st.integers(0, 3)) == 0:
            extra["nodeSelector"] = {"disk": "ssd"}
        extra["topologySpreadConstraints"] = draw(st.lists(spreads, max_size=3))
    return pod(name, labels=draw(labels), namespace=draw(st.sampled_from(SPACES)), **extra)


@st.composite
def histories(draw: Any) -> list[tuple[str, Any]]:
    """Nodes and pods that come, change and go."""
    several = st.lists(nodes, min_size=2, max_size=6, unique_by=lambda made: made["metadata"]["name"])
    steps: list[tuple[str, Any]] = [("node", one) for one in draw(several)]
    steps += [("pod", draw(pods(f"p{number % 5}", placed=True))) for number in range(draw(st.integers(0, 8)))]
    more = st.one_of(
        st.tuples(st.just("node"), nodes),
        st.tuples(st.just("no node"), st.sampled_from(NAMES)),
        st.tuples(st.just("no pod"), st.sampled_from(KEYS)),
        st.tuples(st.just("nominated"), st.tuples(pods("coming"), st.sampled_from(["", *NAMES]))),
    )
    return steps + draw(st.lists(more, max_size=4))


def live(cache: Cache, history: list[tuple[str, Any]]) -> None:
    for what, one in history:
        if what == "node":
            cache.set_node(one)
        elif what == "pod":
            cache.add_pod(PodInfo(one))
        elif what == "no node":
            cache.remove_node(one)
        elif what == "nominated":
            cache.nominations.put(PodInfo(one[0]), one[1])
        else:
            cache.remove_pod(one)
