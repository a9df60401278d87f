"""Which OCI runtimes a node has, by the handlers of RuntimeClasses."""

from __future__ import annotations

from collections.abc import Mapping

from kubecore.kubelet.runtime.oci_programs.finding import USUAL

OWN = "oci"
"""The handler of our own launcher, or of the program that stands in for it."""


def of_node(default: str, handlers: Mapping[str, str], *, others: bool) -> dict[str, str]:
    """Programs (paths, or names on PATH) by their handlers: `default` is that of runtime `oci`, "" for our launcher.
    `others`: a container runtime outside of kubecore has names of its own, and may mean something else by runc."""
    found = {} if others else {USUAL: USUAL}
    found |= handlers
    return {**found, OWN: default} if default else found
