"""What an image says of the processes that are started from it, under what the pod says. Pure but for reading layers.

Source: OCI image specification, `config.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kubecore.images.store import Image
from kubecore.images.view import ImageView
from kubecore.kubelet.runtime.interface import ContainerConfig, Identity, RuntimeFailure


@dataclass(frozen=True, slots=True)
class ImageUser:
    """`user` is None for a name that the image does not know. `groups`: further ones that it puts the user in."""

    name: str
    user: int | None
    group: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def completed(config: ContainerConfig, image: Image) -> ContainerConfig:
    """With the image's entrypoint, command, environment, working directory and user where the pod says nothing else.

    Raises RuntimeFailure (CreateContainerError) where there is no command, or no such user.
    """
    told = image.run
    command = config.argv or tuple(told.get("Entrypoint") or ())
    arguments = config.arguments or (() if config.argv else tuple(told.get("Cmd") or ()))
    if not command and not arguments:
        raise RuntimeFailure("CreateContainerError", "no command specified")
    user = image_user(image, config.identity.user)
    if user.user is None:
        text = f"unable to find user {user.name}: no matching entries in passwd file"
        raise RuntimeFailure("CreateContainerError", text)
    others = () if config.identity.no_other_groups else user.groups
    identity = Identity(
        user.user,
        config.identity.group if config.identity.group is not None else user.group,
        tuple(dict.fromkeys((*config.identity.supplemental_groups, *others))),
        no_other_groups=config.identity.no_other_groups,
    )
    environment = dict(one.partition("=")[::2] for one in told.get("Env") or ())
    environment.update(config.environment)
    environment.setdefault("HOME", user.home)
    return replace(
        config,
        argv=command,
        arguments=arguments,
        environment=tuple(environment.items()),
        working_directory=config.working_directory or told.get("WorkingDir") or "/",
        identity=identity,
    )


def image_user(image: Image, wanted: int | None) -> ImageUser:
    """The pod's user, if it names one, else the image's: `USER`, `UID`, and a group behind a colon."""
    view = image.view()
    told = str(wanted) if wanted is not None else image.run.get("User") or "0"
    name, _, group = told.partition(":")
    entry = next((one for one in _lines(view, "/etc/passwd", 7) if name in (one[0], one[2])), None)
    user = int(name) if name.isdigit() else int(entry[2]) if entry else None
    own_group = int(entry[3]) if entry else 0
    if group:
        found = next((one for one in _lines(view, "/etc/group", 4) if group in (one[0], one[2])), None)
        own_group = int(found[2]) if found else int(group) if group.isdigit() else own_group
    known = entry[0] if entry else name
    members = (one for one in _lines(view, "/etc/group", 4) if known in one[3].split(","))
    groups = tuple(int(one[2]) for one in members) if entry and not group else ()
    return ImageUser(name, user, own_group, groups, (entry[5] if entry else "") or "/")


def _lines(view: ImageView, path: str, fields: int) -> Iterator[list[str]]:
    for line in (view.read(path) or b"").decode("utf-8", "replace").splitlines():
        parts = line.split(":")
        if len(parts) >= fields and parts[2].isdigit():
            yield parts
