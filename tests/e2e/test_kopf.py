"""kopf's own example operators, all of them, from its source package, each against a namespace of its own."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client_sources import ClientSources
from tests.support.kubectl import Kubectl
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 180.0
"""Seconds for what takes one or a few: the machine may be busy."""


@dataclass(frozen=True)
class Example:
    """What an example operator says, in this order, of an object that is created, changed and deleted."""

    folder: str
    created: tuple[str, ...]
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


EXAMPLES = [
    Example("01-minimal", ("And here we are! Creating: .*'field': 'value'", "Creation is processed: 1 succeeded")),
    Example("02-children", ("Creation is processed: 1 succeeded",)),
    Example(
        "03-exceptions",
        ("'eventual_failure_with_tracebacks' failed with an exception and will stop", "Creation is processed:"),
    ),
    Example("04-events", ("Creation is processed: 1 succeeded",)),
    Example(
        "05-handlers",
        ("FIELD CHANGED: None -> value", "Creation is processed"),
        ("UPDATED", "FIELD CHANGED: value -> changed", "Updating is processed"),
        ("DELETED 1st", "DELETED 2nd", "Deletion is processed"),
    ),
    Example("07-subhandlers", ("Handling creation for item1", "Handling creation for item2", "Creation is processed")),
    Example("08-events", ("Event received: ",), ("'type': 'MODIFIED'",), ("'type': 'DELETED'",)),
    Example("09-testing", ("Something was logged here.", "Creation is processed: 1 succeeded")),
    Example("11-filtering-handlers", ("Creation is processed: 10 succeeded",), ("Field change is satisfied.",)),
    Example(
        "14-daemons",
        ("=> Ping from a",),
        (),
        ("Daemon 'background_(async|sync)' (is cancelled|has exited|has finished)",),
    ),
    Example("15-timers", ("Ping from a sync timer: field='value'",)),
    Example("16-indexing", ("Timer 'intervalled' succeeded",)),
    Example(
        "99-all-at-once",
        ("Starting retried...", "This pod is special for us.", "Creation is processed: 3 succeeded"),
        ("Handling the diff", "Updating is processed"),
        ("Deletion is processed: 1 succeeded",),
    ),
]


class Operator:
    """A running `kopf run`; what it says is read as it comes, so that a test waits for words and not for time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def expect(self, words: str) -> None:
        """Wait until it says a line with `words`, a regular expression, after those expected before."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"never said {words!r}:\n{''.join(self.said[-60:])}")
            self.said.append(line)
            if re.search(words, line):
                return

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


QUICK = """
import kopf

@kopf.on.startup()
def retry_soon(settings, **_):
    settings.execution.default_backoff = 1
"""


# kopf makes certificates, and looks at the API server's, with libraries that do not know the OpenSSL of today.
CERTIFIED = """
import datetime, ipaddress
import kopf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

def build_certificate(hostnames, password=None):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    made = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), made

async def guess_host(*_):
    return None

kopf.WebhookServer.build_certificate = staticmethod(build_certificate)
kopf.WebhookAutoServer.guess_host = guess_host
"""


# Runs the example of a program with an operator within, which sleeps for a second wherever its operator has something
# to do: an object that goes before that is never greeted. Here it waits for what its operator says.
EMBEDDED = """
import importlib.util, sys, threading

definition = importlib.util.spec_from_file_location("example", sys.argv[1])
example = importlib.util.module_from_spec(definition)
definition.loader.exec_module(example)
handled = threading.Semaphore(0)

def say(words):
    print(words)
    if words.startswith(("Hello", "Good bye")):
        handled.release()

class UntilHandled:
    @staticmethod
    def sleep(_seconds):
        handled.acquire()

example.print, example.time = say, UntilHandled
example.main()
"""


@dataclass(frozen=True)
class Kopf:
    clients: ClientSources
    environment: dict[str, str]
    quick: Path
    """An addition to operators that lets them retry after a second rather than a minute."""

    @property
    def source(self) -> Path:
        return self.clients.source("kopf")

    @contextmanager
    def operator(self, example: str, *arguments: str) -> Iterator[Operator]:
        kopf = self.clients.venv / "bin" / "kopf"
        with self.program(
            kopf, "run", "--verbose", *arguments, self.quick, f"examples/{example}/example.py"
        ) as operator:
            yield operator

    @contextmanager
    def program(self, *command: str | Path) -> Iterator[Operator]:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.source,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield Operator(process)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def kopf(
    client_sources: ClientSources, cluster: RunningCluster, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kopf]:
    """kopf with the definitions of what its examples handle."""
    home = tmp_path_factory.mktemp("home")
    quick = home / "quick.py"
    quick.write_text(QUICK + CERTIFIED)
    made = Kopf(client_sources, client_sources.environment(cluster.kubeconfig, kubectl.program, home), quick)
    definitions = str(made.source / "examples" / "crd.yaml")
    kubectl("apply", "-f", definitions)
    yield made
    kubectl("delete", "-f", definitions, "--wait=false")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.folder)
def test_an_example_operator_handles_creation_change_and_deletion(
    kopf: Kopf, kubectl: Kubectl, namespace: str, example: Example
) -> None:
    object_file = str(kopf.source / "examples" / "obj.yaml")
    with kopf.operator(example.folder, "--namespace", namespace, "--standalone") as operator:
        kubectl("-n", namespace, "apply", "-f", object_file)
        for words in example.created:
            operator.expect(words)
        kubectl("-n", namespace, "patch", "kex", "kopf-example-1", "--type=merge", "-p", '{"spec":{"field":"changed"}}')
        for words in example.changed:
            operator.expect(words)
        # Returns when the operator has done what its finalizer is for.
        kubectl("-n", namespace, "delete", "-f", object_file, f"--timeout={PATIENCE:.0f}s", timeout=PATIENCE + 10)
        for words in example.deleted:
            operator.expect(words)


@pytest.fixture
def peering(kopf: Kopf, kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """An object in which operators of the namespace tell each other of themselves; its name."""
    file = str(kopf.source / "peering.yaml")
    # kubectl looks for all kinds before it makes the first definition, and makes those it can.
    kubectl.run("apply", "-f", file)
    kubectl.established("kopfpeerings.kopf.dev")
    peering = f"apiVersion: kopf.dev/v1\nkind: KopfPeering\nmetadata: {{name: peers, namespace: {namespace}}}\n"
    kubectl("apply", "-f", "-", stdin=peering)
    yield "peers"
    kubectl("delete", "crd", "kopfpeerings.kopf.dev", "clusterkopfpeerings.kopf.dev", "--wait=false")


def test_an_operator_pauses_while_there_is_one_of_a_higher_priority(
    kopf: Kopf, kubectl: Kubectl, namespace: str, peering: str
) -> None:
    here = ("--namespace", namespace, "--peering", peering)
    object_file = str(kopf.source / "examples" / "obj.yaml")
    with kopf.operator("06-peering", *here) as deployed:
        deployed.expect("Starting Kopf|Initial authentication has finished")
        with kopf.operator("06-peering", *here, "--dev") as own:
            deployed.expect("Pausing operations in favour of .*priority=666")
            kubectl("-n", namespace, "apply", "-f", object_file)
            own.expect("Creation is processed: 1 succeeded")
            assert own.stop() == 0
        deployed.expect("Resuming operations after the pause")
        kubectl("-n", namespace, "delete", "-f", object_file, f"--timeout={PATIENCE:.0f}s", timeout=PATIENCE + 10)
        kubectl("-n", namespace, "apply", "-f", object_file)
        deployed.expect("Creation is processed: 1 succeeded")
        assert not [line for line in deployed.said if "Traceback" in line]
        kubectl("-n", namespace, "delete", "-f", object_file, f"--timeout={PATIENCE:.0f}s", timeout=PATIENCE + 10)


def test_an_operator_of_pods_follows_them_and_logs_in_by_itself(kopf: Kopf, kubectl: Kubectl, namespace: str) -> None:
    here = ("--namespace", namespace, "--standalone")
    kubectl("-n", namespace, "run", "p", "--image=none", "--command", "--", "sleep", "3600")
    with kopf.operator("13-hooks", *here) as operator:
        for words in ("Initialising the task-lock...", "Starting retried...", "Logging in in 2s..."):
            operator.expect(words)
        operator.expect("Served by the background task.")
        operator.process.send_signal(signal.SIGTERM)
        operator.expect("All pod-tasks are requested to stop...")
        assert operator.process.wait(timeout=PATIENCE) == 0
    with kopf.operator("10-builtins", *here) as operator:
        operator.expect("=== Pod killing happens in 30s.")
        kubectl("-n", namespace, "delete", "pod", "p", "--now", "--wait=false")
        operator.expect("=== Pod killing is cancelled!")


def test_an_operator_within_a_program_handles_what_the_program_does(kopf: Kopf) -> None:
    with kopf.program(kopf.clients.python, "-c", EMBEDDED, "examples/12-embedded/example.py") as program:
        for step in range(3):
            program.expect(f"Hello, kopf-example-{step}!")
            program.expect(f"Good bye, kopf-example-{step}!")
        program.expect("Exiting the main app.")
        assert program.process.wait(timeout=PATIENCE) == 0


def test_an_operator_admits_and_changes_objects_by_webhooks(kopf: Kopf, kubectl: Kubectl, namespace: str) -> None:
    object_file = (kopf.source / "examples" / "obj.yaml").read_text()

    def create(field: str, name: str) -> str:
        body = object_file.replace("field: value", f"field: {field}").replace("kopf-example-1", name)
        answer = kubectl.run("-n", namespace, "create", "-f", "-", stdin=body)
        return answer.output + answer.errors

    with kopf.operator("17-admission", "--namespace", namespace, "--standalone") as operator:
        for _ in ("validating", "mutating"):
            operator.expect("Reconfiguring the (validating|mutating) webhook auto.kopf.dev")
        try:
            for kind in ("validating", "mutating"):
                there = "--for=jsonpath={.webhooks[0].clientConfig.url}"
                kubectl("wait", there, f"{kind}webhookconfiguration/auto.kopf.dev", "--timeout=180s")
            assert "Meh! I don't like it. Change the field." in create("wrong", "a")
            assert "I'm too lazy anyway. Go away!" in create("not-allowed", "b")
            told = create("fine", "c")
            assert "Warning: Accessing as user-agent: kube-apiserver-admission" in told, told
            assert "created" in told
            injected = kubectl("-n", namespace, "get", "kex", "c", "-o", "jsonpath={.spec.injected}")
            assert injected == "123"
        finally:
            # Of the whole cluster: other tests make such objects, too.
            for kind in ("validating", "mutating"):
                kubectl("delete", f"{kind}webhookconfiguration", "auto.kopf.dev", "--ignore-not-found")
            kubectl("-n", namespace, "delete", "kex", "--all", "--wait=false")
