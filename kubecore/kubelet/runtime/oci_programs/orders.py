"""What a runtime and its monitor tell each other (MessagePack)."""

from __future__ import annotations

import msgspec

from kubecore.kubelet.runtime.launching import Step


class Order(msgspec.Struct, array_like=True, tag="run"):
    """A program to run. The descriptors that come along: stdin, stdout, stderr, those of `join` (CLONE_NEW* flags, in
    their order), and with a `pid_file` a pipe.

    `pid_file`: absolute, where the program writes the pid of a process that outlives it, and which is removed then; how
    that ends is written into the pipe (`launching.END`). `ends_group`: what is of its process group then
    is ended, too.
    """

    number: int
    arguments: list[str]
    directory: str
    join: list[int]
    namespaces: int
    steps: list[Step]
    pid_file: str
    ends_group: bool = False


class Cut(msgspec.Struct, array_like=True, tag="cut"):
    """The program of this number has had its time."""

    number: int


class Report(msgspec.Struct, array_like=True):
    """The program has ended, with this code as a shell has it. `pid`: of the process that outlives it, whose pidfd is
    sent along, 0 without one. `failure`: why it could not be run."""

    number: int
    code: int
    pid: int = 0
    failure: str = ""
