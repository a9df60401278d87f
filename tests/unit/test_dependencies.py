"""What the package imports is what it declares: a wheel works where nothing else is installed."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What is there without installing it: `compression` since 3.14, where it is imported under that condition.
STANDARD = sys.stdlib_module_names | {"compression"}
# Packages whose modules another declared package loads for itself, so that nothing here imports them by name.
LOADED_BY_OTHERS: frozenset[str] = frozenset()
# Modules that are loaded by nobody but the program that they are for.
ADD_ONS = {"pytest": "pytest_plugin.py"}


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {normal(re.split(r"[<>=!~;\[ ]", line)[0]) for line in project["dependencies"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_time_imports(tree: ast.AST) -> Iterator[str]:
    """Full names of modules that are imported when the code runs, not only for a type checker."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from run_time_imports(node)


def test_every_import_is_the_standard_library_or_a_declared_dependency() -> None:
    owners = importlib.metadata.packages_distributions()
    used: dict[str, str] = {}
    for path in sorted((ROOT / "kubecore").rglob("*.py")):
        for module in run_time_imports(ast.parse(path.read_text())):
            top = module.partition(".")[0]
            if top == "kubecore" or top in STANDARD or ADD_ONS.get(top) == path.name:
                continue
            distributions = {normal(owner) for owner in owners.get(top, [top])}
            used.setdefault(next(iter(sorted(distributions & declared() or distributions))), f"{module} in {path.name}")
    assert {name: where for name, where in used.items() if name not in declared()} == {}
    assert declared() - used.keys() == LOADED_BY_OTHERS, "declared and imported nowhere"
