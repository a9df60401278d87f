"""What a start does without: clusters in tests come and go by the thousand."""

from __future__ import annotations

import subprocess
import sys


def test_a_start_imports_no_yaml_library() -> None:
    program = "import sys; import kubecore.cli.up, kubecore.cluster; print([m for m in sys.modules if m == 'yaml'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
