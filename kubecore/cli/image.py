"""`kubecore image`: the images that nodes of this machine run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubecore.cli import options
from kubecore.cli.up import told

if TYPE_CHECKING:
    from kubecore.images.store import ImageStore

app = typer.Typer(help="Images that nodes run with --default-runtime oci.", no_args_is_help=True)

DataDir = Annotated[
    Path, typer.Option(callback=options.folder, help="Of `kubecore up`, or the --root-dir of `kubecore kubelet`.")
]


def _store(data_dir: Path) -> ImageStore:
    from kubecore.images.store import ImageStore

    return ImageStore(data_dir / "images")


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="What `docker save` writes, an OCI archive, or an OCI layout's folder.")],
    data_dir: DataDir = options.DATA_DIR,
    name: Annotated[str, typer.Option(help="For an image that has none in the file.")] = "",
) -> None:
    """Take images from a file, under the names that they have there."""
    from kubecore.images.archives import BadArchive
    from kubecore.images.archives import load as load_images
    from kubecore.images.digests import WrongDigest
    from kubecore.images.layers import BadLayer
    from kubecore.images.references import InvalidReference

    try:
        found = load_images(file, _store(data_dir), name=name)
    except (BadArchive, BadLayer, InvalidReference, WrongDigest, KeyError, ValueError, OSError) as error:
        typer.echo(f"kubecore: {told(error)}", err=True)
        raise typer.Exit(1) from error
    for image in found:
        typer.echo(f"Loaded image: {', '.join(image.names) or image.id}")


@app.command("ls")
def list_images(data_dir: DataDir = options.DATA_DIR) -> None:
    """List images by name."""
    rows = [("IMAGE", "ID", "SIZE")]
    try:
        held = _store(data_dir).images()
    except OSError as error:
        typer.echo(f"kubecore: {told(error)}", err=True)
        raise typer.Exit(1) from None
    for image in held:
        short, size = image.id.removeprefix("sha256:")[:12], f"{image.size / 10**6:.1f}MB"
        rows += [(name, short, size) for name in image.names or image.digests or ("<none>",)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, short, size in [rows[0], *sorted(rows[1:])]:
        typer.echo(f"{name:<{widths[0]}}  {short:<{widths[1]}}  {size}")


@app.command("rm")
def remove(
    images: Annotated[list[str], typer.Argument(help="Names, or digests with all their names.")],
    data_dir: DataDir = options.DATA_DIR,
) -> None:
    """Remove images. What running containers need stays until they have ended."""
    from kubecore.images.references import InvalidReference

    failed = False
    for image in images:
        try:
            found = _store(data_dir).remove(image)
        except (InvalidReference, OSError) as error:
            typer.echo(f"kubecore: {told(error)}", err=True)
            failed = True
            continue
        typer.echo(f"Removed: {image}" if found else f"kubecore: no such image: {image}", err=not found)
        failed = failed or not found
    if failed:
        raise typer.Exit(1)
