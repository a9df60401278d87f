"""The command line that scripts rely on: names of commands and options, help, version, words and status of refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from kubecore.cli.main import app

OF_UP = {
    "--data-dir",
    "--secure-port",
    "--bind-address",
    "--grpc-port",
    "--insecure-port",
    "--nodes",
    "--default-runtime",
    "--simulated-nodes",
    "--dns-port",
    "--proxy-mode",
    "--authorization-mode",
    "--storage",
    "--etcd-servers",
    "--pod-network",
}
OF_LEADERS = {
    "--leader-elect",
    "--leader-elect-lease-duration",
    "--leader-elect-renew-deadline",
    "--leader-elect-retry-period",
    "--leader-elect-resource-name",
    "--leader-elect-resource-namespace",
}
OF_SERVERS = {"--secure-port", "--bind-address", "--tls-cert-file", "--tls-private-key-file"}
OF_CONTROLLERS = {
    "--node-monitor-grace-period",
    "--node-startup-grace-period",
    "--node-eviction-rate",
    "--secondary-node-eviction-rate",
    "--large-cluster-size-threshold",
    "--unhealthy-zone-threshold",
    "--terminated-pod-gc-threshold",
    "--horizontal-pod-autoscaler-sync-period",
    "--horizontal-pod-autoscaler-tolerance",
    "--horizontal-pod-autoscaler-downscale-stabilization",
    "--horizontal-pod-autoscaler-cpu-initialization-period",
    "--horizontal-pod-autoscaler-initial-readiness-delay",
    "--legacy-service-account-token-clean-up-period",
    "--resource-quota-sync-period",
}
OF_ACCESS = {
    "--encryption-provider-config",
    "--encryption-provider-config-automatic-reload",
    "--anonymous-auth",
    "--client-ca-file",
    "--token-auth-file",
    "--enable-bootstrap-token-auth",
    "--requestheader-client-ca-file",
    "--requestheader-allowed-names",
    "--requestheader-username-headers",
    "--requestheader-uid-headers",
    "--requestheader-group-headers",
    "--requestheader-extra-headers-prefix",
    "--authentication-token-webhook-config-file",
    "--authentication-token-webhook-version",
    "--authentication-token-webhook-cache-ttl",
    "--authentication-config",
    "--oidc-issuer-url",
    "--oidc-client-id",
    "--oidc-ca-file",
    "--oidc-username-claim",
    "--oidc-username-prefix",
    "--oidc-groups-claim",
    "--oidc-groups-prefix",
    "--oidc-signing-algs",
    "--oidc-required-claim",
    "--service-account-issuer",
    "--service-account-key-file",
    "--service-account-signing-key-file",
    "--service-account-jwks-uri",
    "--service-account-max-token-expiration",
    "--service-account-extend-token-expiration",
    "--api-audiences",
    "--authorization-policy-file",
    "--authorization-webhook-config-file",
    "--authorization-webhook-version",
    "--authorization-webhook-cache-authorized-ttl",
    "--authorization-webhook-cache-unauthorized-ttl",
    "--authorization-config",
    "--enable-admission-plugins",
    "--disable-admission-plugins",
    "--admission-control-config-file",
    "--default-not-ready-toleration-seconds",
    "--default-unreachable-toleration-seconds",
    "--tracing-config-file",
    "--audit-policy-file",
    "--audit-log-path",
    "--audit-log-version",
    "--audit-webhook-config-file",
    "--audit-webhook-mode",
    "--audit-webhook-version",
}
OF_COMPONENTS = {
    "apiserver": {
        "--data-dir",
        "--secure-port",
        "--bind-address",
        "--authorization-mode",
        *OF_ACCESS,
        "--service-cluster-ip-range",
        "--service-node-port-range",
    },
    "controller-manager": {
        "--kubeconfig",
        "--root-ca-file",
        "--use-service-account-credentials",
        *OF_LEADERS,
        *OF_CONTROLLERS,
    },
    "scheduler": {"--kubeconfig", *OF_LEADERS},
    "kubelet": {
        "--kubeconfig",
        "--hostname-override",
        "--root-dir",
        "--client-ca-file",
        "--tls-cert-file",
        "--tls-private-key-file",
        "--cluster-dns",
        "--cluster-domain",
    },
    "proxy": {
        "--kubeconfig",
        "--proxy-mode",
        "--ipvs-scheduler",
        "--hostname-override",
        "--cluster-cidr",
        "--nodeport-addresses",
        "--healthz-bind-address",
        "--metrics-bind-address",
    },
    "dns": {"--kubeconfig"},
}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def run(*arguments: str) -> tuple[int, str]:
    """Status, and what was said in one line without the frame."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())


def options_of(command: str) -> dict[str, Any]:
    return {name: parameter for parameter in COMMANDS[command].params for name in parameter.opts}


def test_node_ports_at_a_nodes_own_addresses_need_its_name() -> None:
    status, said = run("proxy", "--kubeconfig", __file__, "--nodeport-addresses", "primary")
    assert status == 2
    assert "primary needs --hostname-override" in said


@pytest.mark.parametrize(("command", "options"), [("up", OF_UP | OF_ACCESS), *OF_COMPONENTS.items()])
def test_a_command_has_its_options(command: str, options: set[str]) -> None:
    assert options - options_of(command).keys() == set()


def test_every_command_and_every_option_that_is_shown_has_a_help_text() -> None:
    for command, found in COMMANDS.items():
        assert found.help, command
        for name, parameter in options_of(command).items():
            assert getattr(parameter, "hidden", False) or getattr(parameter, "help", "") or not name.startswith("-")


@pytest.mark.parametrize("verbosity", ["99", "-1"])
def test_any_number_does_as_a_verbosity(verbosity: str) -> None:
    """As for klog."""
    option = options_of("apiserver")["--v"]
    assert option.type.convert(verbosity, option, None) == int(verbosity)


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_to_be_had_of_everything(command: str, option: str) -> None:
    status, said = run(*filter(None, (command, option)))
    assert status == 0
    assert "Usage:" in said


def test_help_has_options_that_belong_together_under_a_heading() -> None:
    text = CliRunner().invoke(app, ["up", "--help"]).output
    parts = {one.partition(":")[0]: one for one in re.split(r"\n\n(?=\w)", text)}
    assert "--audit-log-path" in parts["Audit options"]
    assert "--nodes" in parts["Node and pod options"]
    assert "--proxy-mode" in parts["Service, DNS and Ingress options"]
    for name in ("--data-dir", "--help"):
        assert name in parts["Options"]
    assert "--audit-log-path" not in parts["Options"]


@pytest.mark.parametrize("argument", ["version", "--version"])
def test_the_version_is_one_line(argument: str) -> None:
    status, said = run(argument)
    assert status == 0
    assert re.fullmatch(r"kubecore \S+ \(Kubernetes API v1\.35\)", said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("up --secure-port 70000", "Invalid value for '--secure-port'"),
        ("up --grpc-port -1", "Invalid value for '--grpc-port'"),
        ("up --insecure-port x", "Invalid value for '--insecure-port'"),
        ("up --dns-port 65536", "Invalid value for '--dns-port'"),
        ("up --nodes -1", "Invalid value for '--nodes'"),
        ("up --service-cidr 10.96.0.0/16,10.97.0.0/16", "[0] and [1] must be of different IP family"),
        ("up --pod-cidr 10.0.0.0/16,fd00::/56,fd01::/56", "length of clusterCIDRs is:3 more than max allowed of 2"),
        ("up --pod-cidr 10.0.0.0/16,10.1.0.0/16", "len of ClusterCIDRs==2 and they are not configured as dual stack"),
        ("up --pod-cidr 10.0.0.0/25", "10.0.0.0/25 has no room for a node's /24"),
        ("up --pod-cidr fd00::/112", "fd00::/112 has no room for a node's /64"),
        ("up --pod-cidr nonsense", "invalid CIDR address: 'nonsense'"),
        ("up --ip-family both", "Invalid value for '--ip-family'"),
        ("up --service-cidr fd00::/112 --ip-family dual", "Invalid value for '--ip-family': the ranges are of IPv6"),
        (
            "up --service-cidr 10.0.0.0/16,fd00::/112 --pod-cidr fd01::/56,10.1.0.0/16",
            "must have the IP families of --service-cidr, in the same order",
        ),
        ("up --proxy-mode magic", "Invalid value for '--proxy-mode'"),
        ("up --pod-network cloud", "Invalid value for '--pod-network'"),
        ("up --default-runtime docker", "'docker' is not one of: host, oci, cri, simulated"),
        ("up --container-runtime-endpoint /run/x", "'/run/x' is not of the form unix:///path/of/the.sock"),
        ("up --scheduler-config nowhere.yaml", "Invalid value for '--scheduler-config': nowhere.yaml: No such file"),
        ("up --simulated-nodes -1", "Invalid value for '--simulated-nodes'"),
        ("up --storage etcd", "'etcd' is not part of this version yet; there is: lmdb"),
        ("up --storage sqlite", "'sqlite' is not one of: lmdb"),
        ("up --etcd-servers http://127.0.0.1:2379", "storage in etcd is not part of this version yet"),
        (
            "up --authorization-mode Everybody",
            "'Everybody' is not one of: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny",
        ),
        ("up --authorization-mode Webhook", "authorization-mode Webhook's authorization config file not passed"),
        ("up --authorization-mode ABAC", "authorization-mode ABAC's authorization policy file not passed"),
        ("apiserver --authorization-policy-file /dev/null", "cannot specify --authorization-policy-file without mode"),
        (
            "apiserver --authorization-mode RBAC --authorization-config /dev/null",
            "--authorization-config can not be specified when --authorization-mode or",
        ),
        (
            "apiserver --oidc-client-id us",
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
        ),
        ("apiserver --oidc-required-claim us", "'us' is not KEY=VALUE"),
        (
            "apiserver --authentication-config /dev/null --oidc-issuer-url https://x --oidc-client-id us",
            "authentication-config file and oidc-* flags are mutually exclusive",
        ),
        ("apiserver --service-account-issuer=", "service-account-issuer should not be an empty string"),
        (
            "apiserver --service-account-issuer a --service-account-issuer a",
            'service-account-issuer "a" is already specified',
        ),
        (
            "apiserver --service-account-issuer https://[a",
            "service-account-issuer \"https://[a\" contained a ':' but was not a valid URL: parse",
        ),
        (
            "apiserver --service-account-jwks-uri http://a/keys",
            "service-account-jwks-uri requires https scheme, parsed as: http://a/keys",
        ),
        (
            "apiserver --service-account-max-token-expiration 59m",
            "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds",
        ),
        ("apiserver --service-account-key-file /nowhere", "File '/nowhere' does not exist"),
        (
            "apiserver --audit-log-truncate-enabled --audit-log-truncate-max-event-size 0",
            "invalid audit truncate log max event size 0, must be a positive number",
        ),
        (
            "apiserver --audit-log-truncate-enabled --audit-log-truncate-max-batch-size 5",
            "invalid audit truncate log max batch size 5, must be greater than max event size (102400)",
        ),
        ("apiserver --audit-webhook-mode blocking", "'blocking' is not part of this version yet; there is: batch"),
        ("apiserver --audit-log-version audit.k8s.io/v1beta1", "'audit.k8s.io/v1beta1' is not one of: audit.k8s.io/v1"),
        (
            "apiserver --audit-webhook-truncate-enabled --audit-webhook-truncate-max-event-size 0",
            "invalid audit truncate webhook max event size 0, must be a positive number",
        ),
        ("up --encryption-provider-config-automatic-reload", "must be set with --encryption-provider-config"),
        ("apiserver --token-auth-file /nowhere", "File '/nowhere' does not exist"),
        ("apiserver --requestheader-username-headers a,,b", "empty value in the list"),
        (
            "apiserver --requestheader-uid-headers X-Id",
            "--requestheader-uid-headers is set without specifying the standard X-Remote-Uid header",
        ),
        ("apiserver --authorization-webhook-cache-authorized-ttl 5", 'time: missing unit in duration "5"'),
        ("up --authorization-mode RBAC,Node,RBAC", "'RBAC' is specified more than once"),
        ("up --authorization-mode=,", "at least one authorization-mode must be passed"),
        ("up --ingress-access-log /nowhere/at/all", "there is no folder /nowhere/at"),
        # What follows keeps a cluster from being started in the working directory where this is not refused.
        ("up --data-dir= -v 99", "Invalid value for '--data-dir': it must name a folder"),
        ("apiserver --data-dir= -v 99", "Invalid value for '--data-dir': it must name a folder"),
        ("kubelet --root-dir= -v 99", "Invalid value for '--root-dir': it must name a folder"),
        ("up --frobnicate", "No such option: --frobnicate"),
        ("up now", "Got unexpected extra argument(s) (now)"),
        ("frobnicate", "No such command 'frobnicate'"),
        ("apiserver --service-cluster-ip-range nonsense", "'nonsense' is not a valid cidr"),
        ("apiserver --service-cluster-ip-range 10.96.0.0/30", "the service cluster IP range must be at least 8 IP"),
        (
            "apiserver --service-cluster-ip-range 10.96.0.0/16,10.97.0.0/16",
            "[0] and [1] must be of different IP family",
        ),
        ("apiserver --service-cluster-ip-range 10.96.0.0/16,x", "'x' is not a valid cidr"),
        ("up --service-cidr 10.96.0.0/99", "'10.96.0.0/99' is not a valid cidr (such as 10.96.0.0/16)"),
        (
            "apiserver --service-cluster-ip-range 10.0.0.0/16,fd00::/64,fd01::/64",
            "must not contain more than two entries",
        ),
        ("apiserver --service-cluster-ip-range fd00::/48", "shortest allowed prefix length for service CIDR is"),
        (
            "apiserver --service-cluster-ip-range fd00::/112",
            'service IP family "fd00::/112" must match public address family "127.0.0.1"',
        ),
        ("apiserver --service-node-port-range 5", "'5' is not a range of ports such as 30000-32767"),
        ("apiserver --service-node-port-range 40000-30000", "is not a range of ports such as 30000-32767"),
        ("apiserver --enable-admission-plugins Nonsense", 'enable-admission-plugins plugin "Nonsense" is unknown'),
        ("scheduler", "Missing option '--kubeconfig'"),
        ("kubelet --kubeconfig /nowhere", "'/nowhere' does not exist"),
        ("kubeconfig user", "Missing option '--client-name'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_status_2_and_says_why(arguments: str, words: str) -> None:
    status, said = run(*arguments.split())
    assert status == 2
    assert words in said


def test_a_plugin_that_is_not_installed_is_told_before_anything_is_made(tmp_path: Path) -> None:
    file, data = tmp_path / "scheduler.yaml", tmp_path / "data"
    kind = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
    file.write_text(kind + "profiles: [{plugins: {filter: {enabled: [{name: Nope}]}}}]\n")
    status, said = run("up", "--data-dir", str(data), "--scheduler-config", str(file))
    assert (status, data.exists()) == (2, False)
    told = "initializing profiles: creating profile for scheduler name default-scheduler: FilterPlugin"
    assert f'scheduler.yaml: {told} "Nope" does not exist' in said


@pytest.mark.parametrize("component", ["controller-manager", "scheduler", "kubelet", "proxy"])
def test_a_file_that_is_no_kubeconfig_is_refused_by_name(component: str, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("apiVersion: v1\nkind: Config\ncurrent-context: there\n")
    status, said = run(component, "--kubeconfig", str(file))
    assert status == 1
    assert said.endswith("no context named 'there'")
    assert f"kubecore: {file}: " in said


def test_an_api_server_on_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, said = run("apiserver", "--data-dir", str(tmp_path / "file" / "data"))
    assert status == 1
    assert "Not a directory" in said
    assert "Errno" not in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--leader-elect=perhaps"], "--leader-elect=perhaps: true or false is expected"),
        (["--leader-elect-retry-period=2"], "'2' is not a duration such as 15s or 1m30s"),
        (["--leader-elect-lease-duration=5s"], "leaseDuration must be greater than renewDeadline"),
    ],
)
def test_options_of_leader_election_are_checked_first(tmp_path: Path, options: list[str], told: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("")
    for command in ("scheduler", "controller-manager"):
        status, said = run(command, "--kubeconfig", str(kubeconfig), *options)
        assert status == 2
        assert told in said
