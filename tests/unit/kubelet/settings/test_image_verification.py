"""What a KubeletConfiguration says of whom images must have been pulled for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.kubelet.pods.pull_records import Verification
from kubecore.kubelet.settings.configuration import KubeletFile, load

Object = dict[str, Any]

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
_VERIFY, _LIST = "imagePullCredentialsVerificationPolicy", "preloadedImagesVerificationAllowlist"
_LISTED = "NeverVerifyAllowlistedImages"
_PATTERN = f"invalid image pattern in `{_LIST}`"


def read(**given: Any) -> KubeletFile:
    return load(HEAD + yaml.safe_dump(given))


def test_whom_images_must_have_been_pulled_for_is_told() -> None:
    given = read(**{_VERIFY: _LISTED, _LIST: ["docker.io/library/app", "example.com:5000/*"]})
    wanted = Verification(_LISTED, ("docker.io/library/app", "example.com:5000/*"))
    assert (given.settings, given.ignored) == ({"image_verification": wanted}, ())
    assert read(**{_VERIFY: "AlwaysVerify"}).settings == {"image_verification": Verification("AlwaysVerify")}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {_VERIFY: "Sometimes"},
            f'option "Sometimes" specified for {_VERIFY}. Valid options are "NeverVerify", '
            f'"NeverVerifyPreloadedImages", "{_LISTED}" or "AlwaysVerify"',
        ),
        (
            {_LIST: ["app"]},
            f'can\'t set `{_LIST}` if `imagePullCredentialsVertificationPolicy` is not "{_LISTED}"',
        ),
        *(
            (
                {_VERIFY: _LISTED, _LIST: ["docker.io/library/app", pattern]},
                f"invalid image pattern in `{_LIST}`: {why}",
            )
            for pattern, why in {
                " a/b": "leading/trailing spaces are not allowed:  a/b",
                "": "the supplied pattern is too short: ",
                "a.io/*/b": "not a valid wildcard pattern, only patterns ending with '/*' are allowed: a.io/*/b",
                "/*": "at least registry hostname is required",
                "a.io/B": 'failed to parse as an image name: couldn\'t parse image name "a.io/B": '
                "invalid reference format",
                "a.io/b:1": "neither tag nor digest is accepted in an image reference: a.io/b:1",
            }.items()
        ),
    ],
)
def test_a_verification_that_there_is_not_is_refused(given: Object, problem: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        read(**given)
    assert str(refused.value) == f"invalid configuration: {problem}"
