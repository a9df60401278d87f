"""Files of a volume that would lie on or below one another: only one of them can be there.

After kubernetes `pkg/api/pod/warnings.go`, warningsForOverlappingVirtualPaths.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubecore.api.quoting import quoted

JSON = dict[str, Any]

# A path, and what brings it ("" where it need not be said).
_File = tuple[str, str]

_CERTIFICATE_PATHS = (
    ("certificateChainPath", "PodCertificate chain"),
    ("keyPath", "PodCertificate key"),
    ("credentialBundlePath", "PodCertificate credential bundle"),
)


def overlapping_paths(volumes: list[JSON]) -> Iterator[str]:
    """Warnings, volume by volume."""
    for volume in volumes:
        name = quoted(volume.get("name") or "")
        for kind, items in _own_items(volume):
            yield from _overlaps(((path, "") for path in items), f"volume {name} ({kind})")
        if (projected := volume.get("projected")) is not None:
            files: list[_File] = []
            collected: list[str] = []
            for source in projected.get("sources") or ():
                if all(value is None for value in source.values()):
                    collected.append(f"volume {name} (Projected) has no sources provided")
                for file in _projected(source):
                    collected += _against(files, file, f"volume {name} (Projected)")
            yield from collected


def _own_items(volume: JSON) -> Iterator[tuple[str, Iterator[str]]]:
    if (config_map := volume.get("configMap")) is not None:
        yield f"ConfigMap {quoted(config_map.get('name') or '')}", _paths(config_map)
    if (secret := volume.get("secret")) is not None:
        yield f"Secret {quoted(secret.get('secretName') or '')}", _paths(secret)
    if (downward := volume.get("downwardAPI")) is not None:
        yield "DownwardAPI", _paths(downward)


def _paths(source: JSON) -> Iterator[str]:
    return (item.get("path") or "" for item in source.get("items") or ())


def _projected(source: JSON) -> Iterator[_File]:
    for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        if (found := source.get(field)) is not None:
            shown = f"{kind} {quoted(found.get('name') or '')}"
            yield from ((path, shown) for path in _paths(found))
    if (downward := source.get("downwardAPI")) is not None:
        yield from ((path, "DownwardAPI") for path in _paths(downward))
    if (token := source.get("serviceAccountToken")) is not None:
        yield token.get("path") or "", "ServiceAccountToken"
    if (bundle := source.get("clusterTrustBundle")) is not None:
        name = bundle["name"] if bundle.get("name") is not None else bundle.get("signerName") or ""
        yield bundle.get("path") or "", f"ClusterTrustBundle {quoted(name)}"
    if (certificate := source.get("podCertificate")) is not None:
        yield from ((certificate[field], kind) for field, kind in _CERTIFICATE_PATHS if certificate.get(field))


def _overlaps(wanted: Iterator[_File], volume: str) -> Iterator[str]:
    files: list[_File] = []
    for file in wanted:
        yield from _against(files, file, volume)


def _against(files: list[_File], file: _File, volume: str) -> list[str]:
    """What the file is in the way of; it is one of them then."""
    path = file[0].rstrip("/")
    file = path, file[1]
    told = [
        f"{volume}: overlapping paths: {_shown(file)} with {_shown(other)}"
        for other in files
        if path and other[0] and (f"{other[0]}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other[0]}/"))
    ]
    files.append(file)
    return told


def _shown(file: _File) -> str:
    path, source = file
    return f"{quoted(path)} ({source})" if source else quoted(path)
