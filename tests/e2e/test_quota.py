"""ResourceQuotas as kubectl sees them."""

from __future__ import annotations

import pytest

from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_quota_is_charged_told_of_and_given_back(kubectl: Kubectl, namespace: str) -> None:
    hard = "--hard=count/configmaps=3,pods=1,requests.cpu=1"
    assert "resourcequota/q created" in kubectl("-n", namespace, "create", "quota", "q", hard)
    counted = "--for=jsonpath={.status.used.pods}=0"
    kubectl("-n", namespace, "wait", "resourcequota/q", counted, "--timeout=180s")

    run = ("run", "--image=i", "--restart=Never", "--command")
    refused = kubectl.run("-n", namespace, *run, "bare", "--", "true")
    assert 'pods "bare" is forbidden: failed quota: q: must specify requests.cpu for: bare' in refused.errors
    overrides = '{"spec":{"containers":[{"name":"a","image":"i","resources":{"requests":{"cpu":"2"}}}]}}'
    refused = kubectl.run("-n", namespace, "run", "a", "--image=i", f"--overrides={overrides}")
    told = 'pods "a" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=0, limited:'
    assert told in refused.errors

    kubectl("-n", namespace, "create", "configmap", "mine")
    # kube-root-ca.crt is the other one
    both = "--for=jsonpath={.status.used.count/configmaps}=2"
    kubectl("-n", namespace, "wait", "resourcequota/q", both, "--timeout=180s")
    described = kubectl("-n", namespace, "describe", "quota", "q").splitlines()
    assert [line.split() for line in described if line.startswith("count/")] == [["count/configmaps", "2", "3"]]
    kubectl("-n", namespace, "delete", "configmap", "mine")
    given_back = "--for=jsonpath={.status.used.count/configmaps}=1"
    kubectl("-n", namespace, "wait", "resourcequota/q", given_back, "--timeout=180s")
    described = kubectl("describe", "namespace", namespace)
    assert "Resource Quotas" in described and "requests.cpu" in described
