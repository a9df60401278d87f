"""Defaults of pod specs, in pods and in templates.

After kubernetes `pkg/apis/core/v1/defaults.go`. A pod gets a few more than a template: requests from limits, service
links, host ports on the host's network.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.defaulting.disabled import drop_disabled_fields
from kubecore.apiserver.registry.defaulting.images import default_pull_policy
from kubecore.apiserver.registry.defaulting.podresources import default_pod_resources
from kubecore.apiserver.registry.defaulting.probes import default_probes
from kubecore.apiserver.registry.defaulting.quantities import (
    canonical_list,
    canonical_requirements,
    requests_from_limits,
)
from kubecore.apiserver.registry.defaulting.volumes import default_field_reference, default_volume

JSON = dict[str, Any]

TERMINATION_GRACE_SECONDS = 30


def default_pod_template(template: JSON | None) -> None:
    """A PodTemplateSpec, in place."""
    if template is None:
        return
    if template.get("metadata") is None:
        template["metadata"] = {}
    spec = template.get("spec")
    if spec is not None:
        default_pod_spec(spec)


def default_pod_spec(spec: JSON) -> None:
    """What pods and templates have in common."""
    spec["restartPolicy"] = spec.get("restartPolicy") or "Always"
    spec["dnsPolicy"] = spec.get("dnsPolicy") or "ClusterFirst"
    spec["schedulerName"] = spec.get("schedulerName") or "default-scheduler"
    spec.setdefault("terminationGracePeriodSeconds", TERMINATION_GRACE_SECONDS)
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    _service_account(spec)
    drop_disabled_fields(spec)
    canonical_list(spec.get("overhead"))
    canonical_requirements(spec.get("resources"))
    for container in _containers(spec):
        default_container(container)
    for volume in spec.get("volumes") or []:
        default_volume(volume)


def _service_account(spec: JSON) -> None:
    """The deprecated name of the field is kept equal to the present one."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _containers(spec: JSON) -> list[JSON]:
    return [
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
        *(spec.get("ephemeralContainers") or []),
    ]


def default_container(container: JSON) -> None:
    """A container of any of the three kinds."""
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = default_pull_policy(container.get("image") or "")
    container["terminationMessagePath"] = container.get("terminationMessagePath") or "/dev/termination-log"
    container["terminationMessagePolicy"] = container.get("terminationMessagePolicy") or "File"
    if container.get("resources") is None:
        container["resources"] = {}
    canonical_requirements(container["resources"])
    for port in container.get("ports") or []:
        port["protocol"] = port.get("protocol") or "TCP"
    for variable in container.get("env") or []:
        source = variable.get("valueFrom")
        if source:
            default_field_reference(source)
            if source.get("fileKeyRef"):
                source["fileKeyRef"].setdefault("optional", False)
    default_probes(container)


def default_pod(pod: JSON) -> None:
    """A Pod, in place."""
    spec = pod.get("spec")
    if spec is None:
        return
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    host_network = spec.get("hostNetwork")
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    if pod.get("status"):
        default_addresses(pod["status"])
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        requests_from_limits(container["resources"])
        if host_network:
            for port in container.get("ports") or []:
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]
    if spec.get("resources"):
        default_pod_resources(spec)


def default_addresses(status: JSON) -> None:
    """The one address and the first of the list are the same; a kubelet that knows only the one is believed."""
    one, several = status.get("podIP"), status.get("podIPs")
    if one and (not several or several[0].get("ip") != one):
        status["podIPs"] = [{"ip": one}]
    elif several and not one:
        status["podIP"] = several[0].get("ip") or ""
