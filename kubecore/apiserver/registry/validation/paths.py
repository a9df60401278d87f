"""Paths in volumes: they stay below where they start.

After kubernetes `pkg/apis/core/validation/validation.go`, validateLocalDescendingPath and its relatives.
"""

from __future__ import annotations

from kubecore.apiserver.registry.validation.problems import Problems


def validate_no_backsteps(problems: Problems, text: str, path: str) -> None:
    if ".." in text and ".." in text.split("/"):
        problems.invalid(path, text, "must not contain '..'")


def validate_relative_path(problems: Problems, text: str, path: str) -> None:
    if text.startswith("/"):
        problems.invalid(path, text, "must be a relative path")
    validate_no_backsteps(problems, text, path)


def validate_file_path(problems: Problems, text: str, path: str) -> None:
    """A path of a file that the kubelet writes: names that start with `..` are its own."""
    validate_relative_path(problems, text, path)
    if text.startswith("..") and not text.startswith("../"):
        problems.invalid(path, text, "must not start with '..'")
