from kubecore.apiserver.registry.custom.versions import by_priority


def test_versions_are_ordered_as_kubernetes_prefers_them() -> None:
    """The documentation's own example."""
    preferred = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    assert sorted(reversed(preferred), key=by_priority) == preferred
