"""Files of a volume that would lie on or below one another: only one of them can be there.

After kubernetes `pkg/api/pod/warnings.go`, warningsForOverlappingVirtualPaths.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from kubecore.api.quoting import quoted
from kubecore.apiserver.registry.validation.ports_alike import MOST_TOLD

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
            yield from (told for _, told in _overlaps([(path, "") for path in items], f"volume {name} ({kind})"))
        if (projected := volume.get("projected")) is not None:
            files: list[_File] = []
            empty: list[tuple[int, str]] = []
            for source in projected.get("sources") or ():
                if all(value is None for value in source.values()):
                    empty.append((len(files), f"volume {name} (Projected) has no sources provided"))
                files += _projected(source)
            found = [*empty, *_overlaps(files, f"volume {name} (Projected)")]
            yield from (told for _, told in sorted(found, key=itemgetter(0)))


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


def _overlaps(files: list[_File], volume: str) -> Iterator[tuple[int, str]]:
    """Each file, by its place, with those before it that it is in the way of, at most MOST_TOLD in all."""
    files = [(path.rstrip("/"), source) for path, source in files]
    # In this order what lies below a path comes right after it.
    below = sorted((f"{path}/", index) for index, (path, _) in enumerate(files) if path)
    around: list[tuple[str, int]] = []
    pairs: list[tuple[int, int]] = []
    for place, index in below:
        while around and not place.startswith(around[-1][0]):
            around.pop()
        pairs += [(max(index, other), min(index, other)) for _, other in around[: MOST_TOLD - len(pairs)]]
        around.append((place, index))
        if len(pairs) >= MOST_TOLD:
            break
    for later, earlier in sorted(pairs):
        yield later, f"{volume}: overlapping paths: {_shown(files[later])} with {_shown(files[earlier])}"


def _shown(file: _File) -> str:
    path, source = file
    return f"{quoted(path)} ({source})" if source else quoted(path)
