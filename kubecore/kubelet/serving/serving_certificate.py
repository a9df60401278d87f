"""A self-signed serving certificate for a kubelet that was given none, as upstream's kubelet makes itself one."""

from __future__ import annotations

from pathlib import Path

from kubecore import self_signed
from kubecore.clock import Clock
from kubecore.whole_file import write_whole


def ensure_certificate(directory: Path, node_name: str, address: str, clock: Clock) -> tuple[Path, Path]:
    """Paths of certificate and key, made on first use; the key is readable by its owner only."""
    certificate, key = directory / "kubelet.crt", directory / "kubelet.key"
    if not (certificate.exists() and key.exists()):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        made, private = self_signed.make(f"{node_name}@kubelet", clock, hosts=[node_name], addresses=[address])
        # The certificate comes last: while there is none, both are made anew.
        write_whole(key, private, mode=0o600)
        write_whole(certificate, made)
    return certificate, key
