"""Certificates through the API: asked for, approved with kubectl, and good for the API."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.kubectl import Kubectl
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REQUEST = """
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: NAME}
spec: {request: REQUEST, signerName: SIGNER, usages: [digital signature, client auth]}
"""
CLIENT, KUBELET = "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet"


def ask(
    kubectl: Kubectl, name: str, signer: str, common_name: str, *groups: str, flags: tuple[str, ...] = ()
) -> tuple[int, str, bytes]:
    """Status, errors, and PEM of the key that the request is for."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    encoded = base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()
    manifest = REQUEST.replace("REQUEST", encoded).replace("NAME", name).replace("SIGNER", signer)
    answer = kubectl.run("create", "-f", "-", *flags, stdin=manifest)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return answer.status, answer.errors, private


def certificate(kubectl: Kubectl, name: str) -> bytes:
    kubectl("wait", "--for=jsonpath={.status.certificate}", f"csr/{name}", "--timeout=180s")
    return base64.b64decode(kubectl("get", "csr", name, "-o", "jsonpath={.status.certificate}"))


def test_an_approved_request_gives_a_certificate_that_identifies_its_user(
    kubectl: Kubectl, cluster: RunningCluster, tmp_path: Path
) -> None:
    status, errors, key = ask(kubectl, "jane", CLIENT, "jane", "devs")
    assert (status, errors) == (0, "")
    assert "Pending" in kubectl("get", "csr", "jane")
    kubectl("certificate", "approve", "jane")
    signed = certificate(kubectl, "jane")
    assert "Approved,Issued" in kubectl("get", "csr", "jane")

    (tmp_path / "jane.crt").write_bytes(signed)
    (tmp_path / "jane.key").write_bytes(key)
    files = ("--client-certificate", str(tmp_path / "jane.crt"), "--client-key", str(tmp_path / "jane.key"))
    authority = tmp_path / "ca.crt"
    kubectl("wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=180s")
    authority.write_text(kubectl("get", "configmap", "kube-root-ca.crt", "-o", r"jsonpath={.data.ca\.crt}"))
    server = ("--server", cluster.url, "--certificate-authority", str(authority), "--kubeconfig", "/dev/null")
    said = kubectl("auth", "whoami", *server, *files)
    assert "jane" in said
    assert "devs" in said
    kubectl("delete", "csr", "jane")


def test_a_denied_request_gets_none(kubectl: Kubectl) -> None:
    ask(kubectl, "denied", CLIENT, "jane")
    kubectl("certificate", "deny", "denied")
    assert "Denied" in kubectl("get", "csr", "denied")
    assert kubectl("get", "csr", "denied", "-o", "jsonpath={.status.certificate}") == ""
    kubectl("delete", "csr", "denied")


def test_nobody_becomes_an_administrator_by_a_request(kubectl: Kubectl) -> None:
    status, errors, _ = ask(kubectl, "root", CLIENT, "jane", "system:masters")
    assert status == 1
    assert f"use of {CLIENT} signer with system:masters group is not allowed" in errors


def test_a_nodes_certificate_is_renewed_without_being_asked(kubectl: Kubectl) -> None:
    node = "system:node:elsewhere"
    flags = ("--as", node, "--as-group", "system:nodes")
    status, errors, _ = ask(kubectl, "renewed", KUBELET, node, "system:nodes", flags=flags)
    assert (status, errors) == (0, "")
    made = x509.load_pem_x509_certificate(certificate(kubectl, "renewed"))
    assert made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == node
    assert "Approved,Issued" in kubectl("get", "csr", "renewed")
    kubectl("delete", "csr", "renewed")
