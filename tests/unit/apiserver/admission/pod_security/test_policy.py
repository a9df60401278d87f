"""What labels of a namespace ask for, and how a configuration is read."""

from __future__ import annotations

import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.admission.pod_security.configuration import load
from kubecore.apiserver.admission.pod_security.policy import Policy, Standard, asked_for


def labels(**given: str) -> dict[str, str]:
    return {f"pod-security.kubernetes.io/{key.replace('_', '-')}": value for key, value in given.items()}


def test_without_labels_the_defaults_hold() -> None:
    defaults = Policy(enforce=Standard("baseline", 20))
    assert asked_for({"other": "label"}, defaults) == (defaults, [])


def test_who_enforces_is_warned_by_the_same_standard() -> None:
    policy, causes = asked_for(labels(enforce="restricted", enforce_version="v1.25"), Policy())
    assert causes == []
    assert policy == Policy(enforce=Standard("restricted", 25), warn=Standard("restricted", 25))


def test_warnings_that_are_asked_for_stay_as_they_are() -> None:
    policy, _ = asked_for(labels(enforce="restricted", warn="baseline"), Policy())
    assert policy.warn == Standard("baseline")


def test_what_cannot_be_read_refuses_most_and_is_told() -> None:
    policy, causes = asked_for(labels(enforce="odd", enforce_version="1.2", audit="odd", warn="odd"), Policy())
    assert policy == Policy(enforce=Standard("restricted"))
    assert [str(cause) for cause in causes] == [
        'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "odd": '
        "must be one of privileged, baseline, restricted",
        'metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "1.2": must be "latest" or "v1.x"',
        'metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: "odd": '
        "must be one of privileged, baseline, restricted",
        'metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "odd": '
        "must be one of privileged, baseline, restricted",
    ]


class TestConfiguration:
    HEAD = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n"

    def test_none_is_privileged(self) -> None:
        assert load("").defaults == Policy()

    def test_defaults_and_exemptions_are_read(self) -> None:
        found = load(
            self.HEAD + "defaults: {enforce: baseline, enforce-version: v1.30}\n"
            "exemptions: {usernames: [me], namespaces: [kube-system], runtimeClasses: [gvisor]}\n"
        )
        assert found.defaults == Policy(enforce=Standard("baseline", 30))
        assert (found.usernames, found.namespaces, found.runtime_classes) == ({"me"}, {"kube-system"}, {"gvisor"})

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("default: {}", 'strict decoding error: unknown field "default"'),
            (
                "defaults: {enforce: odd}",
                'PodSecurity invalid: defaults.enforce: Invalid value: "odd": must be one of ',
            ),
            ("exemptions: {namespaces: [a, a]}", 'exemptions.namespaces[1]: Duplicate value: "a"'),
            ("exemptions: {namespaces: [a.b]}", 'exemptions.namespaces[0]: Invalid value: "a.b"'),
            ('exemptions: {usernames: [""]}', 'exemptions.usernames[0]: Invalid value: "": username must not be empty'),
        ],
    )
    def test_what_is_wrong_is_told(self, text: str, words: str) -> None:
        with pytest.raises(InvalidConfiguration) as caught:
            load(self.HEAD + text)
        assert words in str(caught.value)
