"""Whether the host's root can give pods users of their own, found out by trying."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubecore.kubelet.runtime import mapped_roots
from kubecore.kubelet.runtime.oci_programs.probing import can_mount_proc, can_mount_sysfs


@dataclass(frozen=True, slots=True)
class UsersTrial:
    """`of_images`: why pods of images cannot have them, "" if they can. `of_programs`: and those can whose
    containers are started by a program, which does not go on without what it is to mount for them."""

    of_images: str
    of_programs: bool

    @classmethod
    def made(cls, folder: Path) -> UsersTrial:
        """Below `folder`, where the images are. Namespaces come and go for it: 60 to 250 ms where that was measured."""
        lack = mapped_roots.lack(folder)
        return cls(lack, of_programs=not lack and all((can_mount_proc(), can_mount_sysfs())))
