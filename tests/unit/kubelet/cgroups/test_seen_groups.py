"""Which control groups a container is shown, by what the kernel says of its starter's hierarchies."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.kubelet.cgroups.v1 import CgroupsV1
from kubecore.kubelet.cgroups.v2 import CgroupsV2
from kubecore.kubelet.runtime import launching, seen_groups
from kubecore.kubelet.runtime.launching import Step
from kubecore.kubelet.runtime.seen_groups import Groups, Layout

ALL = Path("/sys/fs/cgroup")


def process(folder: Path, groups: dict[str, str], mounts: dict[str, str]) -> Path:
    """`groups`: by controllers, the path of its group. `mounts`: by place, the controllers, "" for version 2."""
    (folder / "cgroup").write_text("".join(f"1:{names}:{path}\n" for names, path in groups.items()))
    told = [
        f"1 1 0:1 / {place} rw - cgroup cgroup rw,{names}" if names else f"1 1 0:1 / {place} rw - cgroup2 cgroup2 rw"
        for place, names in mounts.items()
    ]
    (folder / "mountinfo").write_text("".join(f"{line}\n" for line in told))
    return folder


def test_version_2_is_one_folder(tmp_path: Path) -> None:
    starter = process(tmp_path, {"": "/init"}, {f"{ALL}": ""})
    groups = CgroupsV2(ALL, ALL / "node/kubepods")
    found = Layout.of(starter).groups(groups, "podx/id")
    assert found == Groups({".": ALL / "node/kubepods/podx/id"})
    assert found.steps("/root/cgroup") == [
        launching.bind(f"{ALL}/node/kubepods/podx/id", "/root/cgroup", optional=True)
    ]


def test_version_1_has_a_folder_for_each_hierarchy_be_it_one_in_which_the_node_has_no_groups(tmp_path: Path) -> None:
    starter = process(
        tmp_path,
        {"cpu,cpuacct": "/s", "freezer": "/f", "": "/u"},
        {f"{ALL}/cpu,cpuacct": "cpu,cpuacct", f"{ALL}/freezer": "freezer", f"{ALL}/unified": ""},
    )
    node = ALL / "cpu,cpuacct/s/node/kubepods"
    found = Layout.of(starter).groups(CgroupsV1({"cpu": node, "cpuacct": node}), "podx/id")
    assert found.places == {"cpu,cpuacct": node / "podx/id", "freezer": ALL / "freezer/f", "unified": ALL / "unified/u"}


def test_hierarchies_that_are_mounted_elsewhere_are_not_shown(tmp_path: Path) -> None:
    starter = process(tmp_path, {"memory": "/"}, {"/dev/memory": "memory"})
    groups = CgroupsV1({"memory": Path("/dev/memory/node/kubepods")})
    assert Layout.of(starter).groups(groups, "podx/id").places == {}


def test_a_controller_that_shares_a_hierarchy_is_found_by_its_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "gone").symlink_to("nowhere")
    monkeypatch.setattr(seen_groups, "FOLDER", tmp_path)
    (tmp_path / "process").mkdir()
    starter = process(tmp_path / "process", {"cpu,cpuacct": "/"}, {f"{tmp_path}/cpu,cpuacct": "cpu,cpuacct"})
    steps = Layout.of(starter).groups(CgroupsV1({"cpu": Path("/g")}), "id").steps("/root/cgroup")
    assert [one for one in steps if one[0] == "symlink"] == [launching.symlink("cpu,cpuacct", "/root/cgroup/cpu")]


def made(steps: list[Step]) -> None:
    """In a mount namespace that goes at once."""
    launching.create_namespaces(launching.NEW_MOUNT, steps=steps).close()


@pytest.mark.root
def test_what_is_to_be_done_instead_is_done_where_the_step_before_has_failed_and_nowhere_else(tmp_path: Path) -> None:
    fails = launching.write("/no/such/file", "")
    chain = [launching.optional(fails), launching.instead(launching.directory(f"{tmp_path}/first"))]
    more = [launching.instead(fails), launching.directory(f"{tmp_path}/second")]
    made([*chain, *more])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["first", "second"]
