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
    assert read_configuration(tmp_path / "admission.yaml", ORDERED) == {
        "PodSecurity": '{"kind":"A"}',
        "PodNodeSelector": "podNodeSelectorPluginConfig: {}",
    }


def test_files_of_plugins_that_do_not_run_are_not_read(tmp_path: Path) -> None:
    named = "plugins:\n- {name: PodSecurity, path: none.yaml}\n- {name: Odd, path: none.yaml}\n"
    (tmp_path / "admission.yaml").write_text(HEAD + named)
    assert read_configuration(tmp_path / "admission.yaml", ["PodNodeSelector"]) == {}
    with pytest.raises(FileNotFoundError):
        read_configuration(tmp_path / "admission.yaml", ["PodSecurity"])


def test_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "admission.yaml").write_text(HEAD.replace("Admission", "Other"))
    with pytest.raises(InvalidConfiguration, match='no kind "OtherConfiguration" is registered for version'):
        read_configuration(tmp_path / "admission.yaml", ORDERED)


def test_what_a_plugin_cannot_read_names_it() -> None:
    with pytest.raises(InvalidConfiguration, match='couldn\'t init admission plugin "PodSecurity": '):
        configured(AdmissionOptions(configuration={"PodSecurity": "kind: Odd\napiVersion: v1"}))


@pytest.mark.parametrize(
    ("plugin", "text", "told"),
    [
        ("PodNodeSelector", "podNodeSelectorPluginConfig: 5", "podNodeSelectorPluginConfig: selectors by namespace"),
        ("PodNodeSelector", "podNodeSelectorPluginConfig: {a: [b]}", "podNodeSelectorPluginConfig: selectors by"),
        ("PodNodeSelector", "[]", ""),
        ("ImagePolicyWebhook", "", "no config specified"),
        ("ImagePolicyWebhook", "imagePolicy: {}", "imagePolicy.kubeConfigFile: Required value"),
        (
            "ImagePolicyWebhook",
            "imagePolicy: {allowTTL: a}",
            'strict decoding error: "imagePolicy.allowTTL" is no integer',
        ),
        ("ImagePolicyWebhook", "imagePolicy: {allowTTL: 5000}", "valid value is between 1s and 30m0s, got 1h23m20s"),
        (
            "ImagePolicyWebhook",
            "imagePolicy: {retryBackoff: 1000000}",
            "valid value is between 1ns and 5m0s, got 16m40s",
        ),
        ("ImagePolicyWebhook", "imagePolicy: {kubeConfigFile: /none}", "open /none: no such file or directory"),
    ],
)
def test_what_plugins_refuse_is_told_by_field_and_cause(plugin: str, text: str, told: str) -> None:
    options = AdmissionOptions(enable=(plugin,), configuration={plugin: text})
    if not told:
        assert configured(options)[plugin] == {}
        return
    with pytest.raises(InvalidConfiguration) as refused:
        configured(options)
    assert str(refused.value).startswith(f'couldn\'t init admission plugin "{plugin}": {told}')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "default: [{key: a, operator: Odd}]",
            'default[0].operator: Unsupported value: "Odd": supported values: "Equal"',
        ),
        ("whitelist: [{key: a, effect: Odd}]", 'whitelist[0].effect: Unsupported value: "Odd": supported values: '),
        ("default: [{key: a b}]", 'default[0].key: Invalid value: "a b": name part must consist of'),
        (
            "default: [{key: a, operator: Exists, value: b}]",
            'default[0].operator: Invalid value: "b": value must be empty',
        ),
    ],
)
def test_tolerations_are_judged_as_those_of_a_pod(text: str, told: str) -> None:
    head = "apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1\nkind: Configuration\n"
    name = "PodTolerationRestriction"
    with pytest.raises(InvalidConfiguration) as refused:
        configured(AdmissionOptions(enable=(name,), configuration={name: head + text}))
    assert f"invalid config: [podtolerationrestriction.{told}" in str(refused.value)
