"""Generates kubecore/api/v1pb from proto/: `make proto`, or `python proto/generate.py`.

protoc's Python output refuses runtimes older than itself, though nothing in it needs a newer one; that check is left
out, so that kubecore works with every protobuf its users' other packages want.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
SOURCE = "kubecore/v1/objects.proto"
TARGET = ROOT.parent / "kubecore" / "api" / "v1pb"

_VERSION_CHECK = re.compile(r"_runtime_version\.ValidateProtobufRuntimeVersion\(.*?\n\)\n", re.DOTALL)


def generate() -> dict[str, str]:
    """The generated files by name."""
    with tempfile.TemporaryDirectory() as scratch:
        bundled = Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{ROOT}", f"-I{bundled}", f"--python_out={scratch}", f"--pyi_out={scratch}", SOURCE]
        if protoc.main(arguments) != 0:
            sys.exit("protoc failed")
        made = Path(scratch) / "kubecore" / "v1"
        code = (made / "objects_pb2.py").read_text()
        stub = (made / "objects_pb2.pyi").read_text()
    code = _VERSION_CHECK.sub("", code)
    code = code.replace("from google.protobuf import runtime_version as _runtime_version\n", "")
    code = code.replace("'kubecore.v1.objects_pb2'", "'kubecore.api.v1pb.objects_pb2'")
    stub = stub.replace(", _Mapping]", ", _Mapping[str, _Any]]")
    stub = stub.replace("from typing import ", "from typing import Any as _Any, ")
    code = re.sub(r"# Protobuf Python Version: .*\n", "", code)
    return {"objects_pb2.py": code, "objects_pb2.pyi": stub}


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, text in generate().items():
        (TARGET / name).write_text(text)


if __name__ == "__main__":
    main()
