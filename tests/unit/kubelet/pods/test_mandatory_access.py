"""AppArmor and SELinux: what pods ask for, where it is refused, and how it reaches a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet import kubelet as kubelet_module
from kubecore.kubelet.pods.mandatory_access import (
    SELinuxOptions,
    app_armor_lack,
    app_armor_profile,
    app_armor_refusal,
    asks_selinux,
    selinux_is_on,
    selinux_options,
)
from kubecore.kubelet.runtime import launching, sandbox_notes
from kubecore.kubelet.runtime.cri.messages import Messages, Surroundings, sandbox_config
from kubecore.kubelet.runtime.host_plans import Container as HostContainer
from kubecore.kubelet.runtime.host_plans import LaunchPlans, Sandbox
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    SandboxConfig,
    SandboxStatus,
)
from kubecore.kubelet.runtime.isolation import Isolation
from kubecore.kubelet.runtime.launching import Namespaces
from tests.unit.kubelet.conftest import Node, Object, container

NO_APP_ARMOR = "AppArmor is not enabled on the host"
DEFAULT, UNCONFINED = {"type": "RuntimeDefault"}, {"type": "Unconfined"}
OWN = {"type": "Localhost", "localhostProfile": "own"}
NOTED = "container.apparmor.security.beta.kubernetes.io/main"


def confined(profile: Object | None, of_pod: Object | None = None, **annotations: str) -> Object:
    one = container(securityContext={"appArmorProfile": profile}) if profile else container()
    spec: Object = {"containers": [one]}
    if of_pod:
        spec["securityContext"] = {"appArmorProfile": of_pod}
    return {"metadata": {"name": "pod", "annotations": annotations}, "spec": spec}


def profile_of(pod: Object) -> str:
    return app_armor_profile(pod, pod["spec"]["containers"][0])


@pytest.mark.parametrize("pod", [confined(DEFAULT), confined(None, OWN), confined(None, **{NOTED: "runtime/default"})])
def test_a_profile_cannot_be_had_where_the_kernel_has_no_app_armor(pod: Object) -> None:
    assert app_armor_refusal(pod, NO_APP_ARMOR) == NO_APP_ARMOR
    assert app_armor_refusal(pod, "") == ""


@pytest.mark.parametrize("pod", [confined(None), confined(UNCONFINED), confined(None, **{NOTED: "unconfined"})])
def test_who_wants_no_profile_needs_no_app_armor(pod: Object) -> None:
    assert app_armor_refusal(pod, NO_APP_ARMOR) == ""


def test_a_profile_must_have_a_name() -> None:
    pod = confined(None, **{NOTED: "localhost/ "})
    assert app_armor_refusal(pod, "") == "invalid empty AppArmor profile name"


def test_the_containers_own_profile_is_before_the_annotation_and_that_before_the_pods() -> None:
    assert profile_of(confined(OWN, DEFAULT, **{NOTED: "unconfined"})) == "localhost/own"
    assert profile_of(confined(None, DEFAULT, **{NOTED: "localhost/noted"})) == "localhost/noted"
    assert profile_of(confined(None, DEFAULT)) == "runtime-default"
    assert profile_of(confined(UNCONFINED, DEFAULT)) == "unconfined"
    assert profile_of(confined(None)) == ""


def test_app_armor_is_there_when_the_kernel_says_so(tmp_path: Path) -> None:
    assert app_armor_lack(tmp_path) == NO_APP_ARMOR
    (tmp_path / "module/apparmor/parameters").mkdir(parents=True)
    (tmp_path / "module/apparmor/parameters/enabled").write_text("Y\n")
    assert app_armor_lack(tmp_path) == NO_APP_ARMOR
    (tmp_path / "kernel/security/apparmor").mkdir(parents=True)
    assert app_armor_lack(tmp_path) == ""
    (tmp_path / "module/apparmor/parameters/enabled").write_text("N\n")
    assert app_armor_lack(tmp_path) == NO_APP_ARMOR


@pytest.mark.parametrize(("lack", "phase"), [(NO_APP_ARMOR, "Failed"), ("", "Running")])
async def test_a_pod_is_refused_as_upstream_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str, phase: str
) -> None:
    monkeypatch.setattr(kubelet_module, "app_armor_lack", lambda: lack)
    node = Node(tmp_path)
    await node.start()
    await node.run(container(securityContext={"appArmorProfile": OWN}))
    status = node.status()
    assert status["phase"] == phase
    if lack:
        told = f"Cannot enforce AppArmor: {lack}"
        assert (status["reason"], status["message"]) == ("AppArmor", f"Pod was rejected: {told}")
        assert node.events("AppArmor") == [told]
    else:
        assert node.runtime.config("main").app_armor == "localhost/own"
    await node.stop()


def test_selinux_options_of_the_container_replace_the_pods_as_a_whole() -> None:
    spec = {"securityContext": {"seLinuxOptions": {"level": "s0:c1", "type": "pods_t"}}, "containers": []}
    pod = {"metadata": {"name": "pod"}, "spec": spec}
    assert selinux_options(pod) == SELinuxOptions(type="pods_t", level="s0:c1")
    assert selinux_options(pod, container()) == SELinuxOptions(type="pods_t", level="s0:c1")
    own = container(securityContext={"seLinuxOptions": {"level": "s0:c2"}})
    assert selinux_options(pod, own) == SELinuxOptions(level="s0:c2")
    assert selinux_options({"metadata": {}, "spec": {}}) is None


# ---- runtimes


def sandbox(tmp_path: Path, **fields: Any) -> SandboxConfig:
    return SandboxConfig("uid", "pod", "default", 0, "pod", tmp_path, **fields)


def config(tmp_path: Path, **fields: Any) -> ContainerConfig:
    return ContainerConfig("main", 0, "app:1", ("run",), (), tmp_path / "0.log", **fields)


def asked_of_cri(tmp_path: Path, **fields: Any) -> Any:
    """The security context of a container."""
    api = pytest.importorskip("cri_api.v1.api_pb2")
    around = Surroundings(own_network=True, cgroup_parent="", mark="m")
    words = Messages(api).container(
        config(tmp_path, **fields), sandbox(tmp_path), around, mounts=(), log_path="main/0.log", attempt=0
    )
    return words.linux.security_context


def test_a_container_runtime_is_told_in_the_words_of_old_and_new_ones(tmp_path: Path) -> None:
    asked = asked_of_cri(tmp_path, app_armor="localhost/own", selinux=SELinuxOptions(level="s0:c1"))
    assert (asked.apparmor.profile_type, asked.apparmor.localhost_ref) == (2, "own")
    assert asked.apparmor_profile == "localhost/own"
    assert (asked.selinux_options.level, asked.selinux_options.user) == ("s0:c1", "")
    default = asked_of_cri(tmp_path, app_armor="runtime-default")
    assert (default.apparmor.profile_type, default.apparmor_profile) == (0, "runtime/default")


def test_a_container_runtime_is_told_nothing_of_what_nobody_asked_for(tmp_path: Path) -> None:
    asked = asked_of_cri(tmp_path)
    assert not asked.HasField("apparmor")
    assert asked.apparmor_profile == ""
    assert not asked.HasField("selinux_options")


def test_a_later_kubelet_finds_the_pods_options_again(tmp_path: Path) -> None:
    api = pytest.importorskip("cri_api.v1.api_pb2")
    around = Surroundings(own_network=True, cgroup_parent="", mark="m")
    wanted = sandbox(tmp_path, selinux=SELinuxOptions(level="s0:c1"))
    words = Messages(api).sandbox(wanted, around)
    assert words.linux.security_context.selinux_options.level == "s0:c1"
    assert sandbox_config(words.annotations) == wanted


def test_where_the_kernel_has_selinux_a_pod_is_told_that_kubecores_own_runtimes_apply_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolation = Isolation(True, False, "")
    asked = sandbox(tmp_path, asks_selinux=True)
    assert list(sandbox_notes.lacks(isolation, asked, False)) == []
    monkeypatch.setattr(sandbox_notes, "selinux_is_on", lambda: True)
    assert list(sandbox_notes.lacks(isolation, sandbox(tmp_path), False)) == []
    (note,) = sandbox_notes.lacks(isolation, asked, False)
    assert note.startswith("seLinuxOptions are not applied")


def test_selinux_is_asked_for_by_the_pod_or_any_container() -> None:
    options = {"seLinuxOptions": {"level": "s0:c1"}}
    plain = {"name": "main"}
    for context, own, asked in (({}, {}, False), (options, {}, True), ({}, options, True)):
        spec = {"securityContext": context, "containers": [plain, {"name": "b", "securityContext": own}]}
        assert asks_selinux({"metadata": {}, "spec": spec}) is asked


def test_selinux_is_there_where_its_file_system_is(tmp_path: Path) -> None:
    assert not selinux_is_on(tmp_path)
    (tmp_path / "fs/selinux").mkdir(parents=True)
    (tmp_path / "fs/selinux/enforce").write_text("0")
    assert selinux_is_on(tmp_path)


@pytest.mark.parametrize(("profile", "steps"), [("localhost/own", [launching.confine("own")]), ("unconfined", [])])
async def test_kubecores_own_runtimes_change_to_the_profile_before_the_program_runs(
    tmp_path: Path, profile: str, steps: list[launching.Step]
) -> None:
    status = ContainerStatus("c1", "s1", "main", 0, ContainerState.CREATED, None)  # type: ignore[arg-type]
    one = HostContainer(status, config(tmp_path, app_armor=profile), tmp_path)
    pod = Sandbox(SandboxStatus("s1", "uid", ()), sandbox(tmp_path), Namespaces(), None)
    launch = LaunchPlans(Isolation(True, False, ""), "mark").container(pod, one, (0, 1, 2), None)
    assert list(launch.steps[: len(steps)]) == steps
    assert len([step for step in launch.steps if b"attr/" in step[1]]) == len(steps)
