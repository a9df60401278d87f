"""A whole Kubernetes (API v1.35) that installs with pip."""


def installed_version() -> str:
    """The version of the installed distribution; `unreleased` in a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kubecore")
    except PackageNotFoundError:
        return "unreleased"
