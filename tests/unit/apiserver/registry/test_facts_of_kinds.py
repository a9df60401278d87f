"""What kinds decide by one word, as the strategies and stores of Kubernetes v1.35 do (`pkg/registry`)."""

from __future__ import annotations

import pytest

from kubecore.api import scheme
from kubecore.apiserver.registry.resources import Strategies


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEED_A_REVISION = words(
    "apiservices clustertrustbundles csidrivers csinodes csistoragecapacities customresourcedefinitions "
    "leasecandidates leases mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations "
    "podcertificaterequests poddisruptionbudgets runtimeclasses storageversionmigrations storageversions "
    "validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations volumeattachments"
)
MADE_BY_AN_UPDATE = words(
    "clusterrolebindings clusterroles endpoints events leasecandidates leases limitranges rolebindings roles "
    "runtimeclasses services"
)
# Namespaces, too: theirs is answered since it stays.
ANSWER_WHAT_IS_GONE = words(
    "csidrivers csinodes deviceclasses devicetaintrules persistentvolumeclaims persistentvolumes pods podtemplates "
    "resourceclaims resourceclaimtemplates resourcequotas resourceslices serviceaccounts services storageclasses "
    "volumeattachments volumeattributesclasses"
)
STORED = sorted({one.storage_key for one in scheme.every().resources if {"update", "get"} <= one.verbs})


@pytest.mark.parametrize("key", STORED)
def test_a_kind_is_written_and_deleted_as_upstream_has_it(key: str) -> None:
    strategy, plural = Strategies().strategy_for(key), key.partition(".")[0]
    assert strategy.allow_unconditional_update == (plural not in NEED_A_REVISION)
    assert strategy.allow_create_on_update == (plural in MADE_BY_AN_UPDATE)
    assert strategy.returns_deleted == (plural in ANSWER_WHAT_IS_GONE)
