"""Which plugins run, and what an AdmissionConfiguration tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.admission.names import OFF, ON, ORDERED
from kubecore.apiserver.admission.options import AdmissionOptions, misnamed, read_configuration
from kubecore.apiserver.admission.plugins import configured

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"


def test_by_default_those_run_that_are_on() -> None:
    assert AdmissionOptions().plugins == ON


def test_the_order_is_the_servers_and_enabling_wins() -> None:
    found = AdmissionOptions(enable=(OFF[0],), disable=("ResourceQuota", OFF[0])).plugins
    assert found == tuple(name for name in ORDERED if name == OFF[0] or (name in ON and name != "ResourceQuota"))


def test_names_are_judged_in_upstreams_words() -> None:
    assert misnamed(["Odd", "Priority"], ["Priority", "Even"]) == [
        'enable-admission-plugins plugin "Odd" is unknown',
        'disable-admission-plugins plugin "Even" is unknown',
        "[Priority] in enable-admission-plugins and disable-admission-plugins overlapped",
    ]


def test_a_configuration_is_in_the_file_or_in_one_it_names(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("podNodeSelectorPluginConfig: {}")
    (tmp_path / "admission.yaml").write_text(
        HEAD
        + "plugins:\n- {name: PodSecurity, configuration: {kind: A}}\n- {name: PodNodeSelector, path: other.yaml}\n"
    )
    assert read_configuration(tmp_path / "admission.yaml") == {
        "PodSecurity": '{"kind":"A"}',
        "PodNodeSelector": "podNodeSelectorPluginConfig: {}",
    }


def test_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "admission.yaml").write_text(HEAD.replace("Admission", "Other"))
    with pytest.raises(InvalidConfiguration, match='no kind "OtherConfiguration" is registered for version'):
        read_configuration(tmp_path / "admission.yaml")


def test_what_a_plugin_cannot_read_names_it() -> None:
    with pytest.raises(InvalidConfiguration, match='couldn\'t init admission plugin "PodSecurity": '):
        configured(AdmissionOptions(configuration={"PodSecurity": "kind: Odd\napiVersion: v1"}))
