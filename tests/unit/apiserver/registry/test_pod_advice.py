"""What pods and templates are told of. tests/e2e/test_validation.py compares the words with Kubernetes' own."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.registry.defaulting.annotated_profiles import adopt_profiles
from kubecore.apiserver.registry.validation import pod_advice

JSON = dict[str, Any]

APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/c"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP = "container.seccomp.security.alpha.kubernetes.io/c"
NEW_FIELD = 'non-functional in v1.27+; use the "seccompProfile" field instead'
HIDES = "which may be dropped when using apply"


def pod(*, name: str = "p", annotations: JSON | None = None, container: JSON | None = None, **spec: Any) -> JSON:
    containers = [{"name": "c", "image": "i", **(container or {})}]
    metadata = {"name": name, **({"annotations": annotations} if annotations else {})}
    return {"metadata": metadata, "spec": {"containers": containers, **spec}}


def port(number: int, **fields: Any) -> JSON:
    return {"containerPort": number, "protocol": "TCP", **fields}


def items(*paths: str) -> list[JSON]:
    return [{"key": "k", "path": path} for path in paths]


def told_of_volume(**source: Any) -> list[str]:
    return pod_advice.of_pod(pod(volumes=[{"name": "v", **source}]))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, []),
        (
            {"nodeSelector": {"a": "b", "beta.kubernetes.io/os": "linux"}},
            ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'],
        ),
        (
            {"topologySpreadConstraints": [{"topologyKey": "node-role.kubernetes.io/master"}]},
            [
                "spec.topologySpreadConstraints[0].topologyKey: node-role.kubernetes.io/master is "
                'use "node-role.kubernetes.io/control-plane" instead',
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            {"terminationGracePeriodSeconds": -1},
            ["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"],
        ),
        (
            {"hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]},
            ['spec.hostAliases[1].ip: duplicate ip "10.0.0.1"'],
        ),
        (
            {"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]},
            [
                'spec.imagePullSecrets[1].name: duplicate name "a"',
                'spec.imagePullSecrets[2].name: invalid empty name ""',
            ],
        ),
        (
            {"overhead": {"memory": "1500m", "cpu": "1m"}},
            ['spec.overhead[memory]: fractional byte value "1500m" is invalid, must be an integer'],
        ),
        (
            {"dnsConfig": {"nameservers": ["10.0.0.1", "2001:DB8::1"]}},
            [
                'spec.dnsConfig.nameservers[1]: IPv6 address "2001:DB8::1" '
                'should be in RFC 5952 canonical format ("2001:db8::1")'
            ],
        ),
    ],
)
def test_a_pod_is_told_of_odd_fields_of_its_spec(spec: JSON, told: list[str]) -> None:
    assert pod_advice.of_pod(pod(**spec)) == told


def test_terms_of_affinity_are_told_of_old_labels_bad_values_and_missing_selectors() -> None:
    required, preferred = (f"{kind}DuringSchedulingIgnoredDuringExecution" for kind in ("required", "preferred"))
    term = {"matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "In", "values": ["-"]}]}
    node = {required: {"nodeSelectorTerms": [term]}, preferred: [{"weight": 1, "preference": term}]}
    others = {required: [{"topologyKey": "a"}], preferred: [{"weight": 1, "podAffinityTerm": {"topologyKey": "a"}}]}
    told = pod_advice.of_pod(pod(affinity={"nodeAffinity": node, "podAntiAffinity": others}))
    assert [text.partition(": ")[0].replace("DuringSchedulingIgnoredDuringExecution", "") for text in told] == [
        "spec.affinity.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key",
        "spec.affinity.nodeAffinity.preferred[0].preference.matchExpressions[0].key",
        "spec.affinity.nodeAffinity.preferred[0].preference.matchExpressions[0].values[0]",
        "spec.affinity.podAntiAffinity.required[0].labelSelector",
        "spec.affinity.podAntiAffinity.preferred[0].podAffinityTerm.labelSelector",
    ]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"value": "2"}, True),
        ({"value": "$(A)"}, True),
        ({"value": "$(A),2"}, False),
        ({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, True),
    ],
)
def test_a_variable_may_be_defined_again_only_out_of_itself(second: JSON, told: bool) -> None:
    found = pod_advice.of_pod(pod(container={"env": [{"name": "A", "value": "1"}, {"name": "A", **second}]}))
    assert found == ([f'spec.containers[0].env[1]: hides previous definition of "A", {HIDES}'] if told else [])


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ([port(80), port(80, protocol="UDP")], []),
        ([port(80), port(80)], ["spec.containers[0].ports[1]: duplicate port definition with {first}"]),
        (
            [port(80, hostPort=8080), port(80)],
            ["spec.containers[0].ports[1]: overlapping port definition with {first}"],
        ),
        (
            [port(80, hostPort=8080), port(80, hostPort=8080, hostIP="10.0.0.1")],
            ["spec.containers[0].ports[1]: dangerously ambiguous port definition with {first}"],
        ),
        ([port(80, hostPort=8080), port(80, hostPort=8081)], []),
        ([port(80, hostPort=1, hostIP="10.0.0.1"), port(80, hostPort=1, hostIP="10.0.0.2")], []),
        (
            [port(80, hostPort=1, hostIP="10.0.0.1"), port(80), port(80, hostPort=1), port(80, hostPort=1)],
            [
                "spec.containers[0].ports[1]: overlapping port definition with {first}",
                "spec.containers[0].ports[2]: dangerously ambiguous port definition with {first}",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.containers[0].ports[3]: dangerously ambiguous port definition with {first}",
                "spec.containers[0].ports[3]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.containers[0].ports[3]: duplicate port definition with spec.containers[0].ports[2]",
            ],
        ),
        (
            [port(80, hostIP="10.0.0.1")],
            [
                "{first}: hostIP set without hostPort: "
                "{{Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}}"
            ],
        ),
        (
            [port(80, name="http"), port(81, name="http")],
            [
                'spec.containers[0].ports[1]: duplicate port name "http" with {first}, '
                "services and probes that select ports by name will use {first}"
            ],
        ),
    ],
)
def test_ports_in_each_others_way_are_told_of(ports: list[JSON], told: list[str]) -> None:
    first = "spec.containers[0].ports[0]"
    assert pod_advice.of_pod(pod(container={"ports": ports})) == [text.format(first=first) for text in told]


def test_parts_of_bytes_of_a_container_are_told_of() -> None:
    resources = {"limits": {"memory": "1500m", "cpu": "1500m"}, "requests": {"ephemeral-storage": "1m"}}
    assert pod_advice.of_pod(pod(container={"resources": resources})) == [
        'spec.containers[0].resources.limits[memory]: fractional byte value "1500m" is invalid, must be an integer',
        'spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value "1m" '
        "is invalid, must be an integer",
    ]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"configMap": {"name": "m", "items": items("a", "b", "ab")}}, []),
        (
            {"configMap": {"name": "m", "items": items("a", "a/b/")}},
            ['volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a"'],
        ),
        (
            {"configMap": {"name": "m", "items": items("a/b", "a-b", "", "a/c/d", "a", "a/c")}},
            [
                'volume "v" (ConfigMap "m"): overlapping paths: "a" with "a/b"',
                'volume "v" (ConfigMap "m"): overlapping paths: "a" with "a/c/d"',
                'volume "v" (ConfigMap "m"): overlapping paths: "a/c" with "a/c/d"',
                'volume "v" (ConfigMap "m"): overlapping paths: "a/c" with "a"',
            ],
        ),
        (
            {"secret": {"secretName": "s", "items": items("a", "a")}},
            ['volume "v" (Secret "s"): overlapping paths: "a" with "a"'],
        ),
        (
            {
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token"}},
                        {},
                        {"secret": {"name": "s", "items": items("token")}},
                    ]
                }
            },
            [
                'volume "v" (Projected) has no sources provided',
                'volume "v" (Projected): overlapping paths: "token" (Secret "s") with "token" (ServiceAccountToken)',
            ],
        ),
        (
            {"gitRepo": {"repository": "r"}},
            ["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
        ),
        ({"storageos": {}}, ["spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+"]),
        (
            {"ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"limits": {"storage": "1m"}}}}}},
            [
                "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.limits[storage]: "
                'fractional byte value "1m" is invalid, must be an integer'
            ],
        ),
    ],
)
def test_volumes_that_are_of_old_or_overlap_are_told_of(source: JSON, told: list[str]) -> None:
    assert told_of_volume(**source) == told


def test_old_seccomp_annotations_are_told_of_where_the_field_is_not_set() -> None:
    annotations = {SECCOMP_POD: "runtime/default", SECCOMP: "runtime/default"}
    assert pod_advice.of_pod(pod(annotations=annotations)) == [
        f"metadata.annotations[{SECCOMP_POD}]: {NEW_FIELD}",
        f"metadata.annotations[{SECCOMP}]: {NEW_FIELD}",
    ]
    context = {"seccompProfile": {"type": "RuntimeDefault"}}
    set_by_field = pod(annotations=annotations, container={"securityContext": context}, securityContext=context)
    assert pod_advice.of_pod(set_by_field) == []


def test_a_template_is_told_of_an_apparmor_annotation_that_its_pod_does_not_say_too() -> None:
    instead = 'deprecated since v1.30; use the "appArmorProfile" field instead'
    told = f"spec.template.metadata.annotations[{APP_ARMOR}]: {instead}"
    annotated = pod(annotations={APP_ARMOR: "localhost/x"})
    assert pod_advice.of_template(annotated, "spec.template") == [told]
    alike = {"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}}
    assert pod_advice.of_template({**annotated, "spec": {**annotated["spec"], "securityContext": alike}}, "x") == []


def test_a_new_pods_apparmor_annotation_becomes_its_field_and_is_told_of() -> None:
    made = pod(annotations={APP_ARMOR: "localhost/x"})
    told = f'metadata.annotations[{APP_ARMOR}]: deprecated since v1.30; use the "appArmorProfile" field instead'
    assert adopt_profiles(made) == [told]
    profile = {"type": "Localhost", "localhostProfile": "x"}
    assert made["spec"]["containers"][0]["securityContext"] == {"appArmorProfile": profile}
    assert adopt_profiles(made) == []


def test_a_pod_whose_name_is_no_label_is_told_that_it_is_its_host_name() -> None:
    assert pod_advice.of_pod(pod(name="a.b")) == [
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
        "a DNS label is recommended: [must not contain dots]"
    ]


def test_a_plain_spec_says_nothing_of_annotations_of_the_next_pod_like_it() -> None:
    plain, annotated = pod(nodeName="once"), pod(nodeName="once", annotations={SECCOMP: "runtime/default"})
    assert pod_advice.of_pod(plain) == []
    assert pod_advice.of_pod(annotated) == [f"metadata.annotations[{SECCOMP}]: {NEW_FIELD}"]


def test_a_workload_is_told_again_only_by_a_new_generation() -> None:
    template = pod(terminationGracePeriodSeconds=-1)
    old = {"metadata": {"name": "w", "generation": 1}, "spec": {"template": template}}
    new = {**old, "metadata": {"name": "w", "generation": 2}}
    assert pod_advice.of_workload(old, None)[0].startswith("spec.template.spec.terminationGracePeriodSeconds: ")
    assert pod_advice.of_workload(new, old) == pod_advice.of_workload(old, None)
    assert pod_advice.of_workload(old, old) == []


def test_an_indexed_job_of_very_many_pods_at_once_is_told_of() -> None:
    spec = {"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001, "template": pod()}
    assert pod_advice.of_job_spec(spec, "spec")[0].startswith("spec: In Indexed Jobs with a number of completions")
    assert pod_advice.of_job_spec({**spec, "parallelism": 10_000}, "spec") == []


def test_addresses_of_another_form_in_a_pods_status_are_told_of() -> None:
    status = {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00::1"}], "hostIPs": [{"ip": "10.0.0.2"}]}
    assert [text.partition(": ")[0] for text in pod_advice.of_addresses(status)] == ["status.podIPs[1].ip"]
