"""ServiceAccount: each pod runs as an account, and gets its token, the CA and its namespace mounted.

After upstream plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.admission.held_objects import HeldObjects
from kubecore.apiserver.admission.pod_references import secret_names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.clock import Clock

JSON = dict[str, Any]

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_MIRROR = "kubernetes.io/config.mirror"
_TOKEN_SECONDS = 3607
# A pod of such an account uses no secret but those that the account lists.
_ENFORCED = "kubernetes.io/enforce-mountable-secrets"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_DEFAULT = "default"
# As long as upstream looks for an account that is about to be made, but more often.
_LOOKS, _SECONDS_BETWEEN_LOOKS = 60, 0.025


class ServiceAccount(Plugin):
    name = "ServiceAccount"

    def __init__(self, cacher: Cacher, clock: Clock) -> None:
        self._cacher = cacher
        self._accounts = HeldObjects(cacher, "serviceaccounts")
        self._clock = clock

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and (operation, subresource) in ((CREATE, ""), (UPDATE, "ephemeralcontainers"))

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        """The default account, which a controller makes in each new namespace."""
        spec = obj.get("spec")
        if not isinstance(spec, dict) or _MIRROR in meta.annotations(obj) or _account_name(spec) != _DEFAULT:
            return None
        if self._cacher.get("serviceaccounts", ctx.namespace, _DEFAULT) is not None:
            return None
        return self._default_account(ctx.namespace)

    async def _default_account(self, namespace: str) -> None:
        for _ in range(_LOOKS):
            await self._clock.sleep(_SECONDS_BETWEEN_LOOKS)
            if self._cacher.get("serviceaccounts", namespace, _DEFAULT) is not None:
                return

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if ctx.operation != CREATE or not isinstance(spec, dict):
            return False
        if _MIRROR in meta.annotations(obj):
            _check_mirror(ctx, obj)
            return False
        name = _account_name(spec)
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = self._account(ctx, name)
        if _mounts_token(account, spec):
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(one) for one in account["imagePullSecrets"]]
        _check_secrets(ctx, account, spec)
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Of a new pod, or of ephemeral containers, whatever webhooks have made of them."""
        pod = obj or {}
        spec = pod.get("spec") or {}
        name = spec.get("serviceAccountName") or ""
        if ctx.operation == CREATE and _MIRROR in meta.annotations(pod):
            _check_mirror(ctx, pod)
            return
        if not name:
            detail = f"no service account specified for pod {ctx.namespace}/{meta.name(pod)}"
            raise errors.forbidden("", "pods", ctx.called, detail)
        _check_secrets(ctx, self._account(ctx, name), spec)

    def _account(self, ctx: RequestContext, name: str) -> JSON:
        """Raises 403 for one that is not there."""
        account = self._accounts.get(ctx.namespace, name)
        if account is None:
            detail = f'error looking up service account {ctx.namespace}/{name}: serviceaccount "{name}" not found'
            raise errors.forbidden("", "pods", ctx.called, detail)
        return account


def _account_name(spec: JSON) -> str:
    name: str = spec.get("serviceAccountName") or spec.get("serviceAccount") or _DEFAULT
    return name


def _check_mirror(ctx: RequestContext, pod: JSON) -> None:
    """Mirror pods show what a node runs anyway; they may not use the API's secrets."""
    spec = pod.get("spec") or {}
    detail = ""
    if spec.get("serviceAccountName"):
        detail = "a mirror pod may not reference service accounts"
    elif any(secret_names(pod)):
        detail = "a mirror pod may not reference secrets"
    for volume in spec.get("volumes") or []:
        sources = (volume.get("projected") or {}).get("sources") or []
        if not detail and any("serviceAccountToken" in one for one in sources):
            detail = "a mirror pod may not use ServiceAccountToken volume projections"
    if detail:
        raise errors.forbidden("", "pods", ctx.called, detail)


def _check_secrets(ctx: RequestContext, account: JSON, spec: JSON) -> None:
    if meta.annotations(account).get(_ENFORCED) in _TRUE and (wrong := _unreferenced(account, spec, ctx.subresource)):
        raise errors.forbidden("", "pods", ctx.called, wrong)


def _unreferenced(account: JSON, spec: JSON, subresource: str) -> str:
    """What is wrong with a pod that uses a secret which its account does not list, "" when nothing is."""
    known = {one.get("name") for one in account.get("secrets") or ()}
    because = f"is not allowed because service account {meta.name(account)} does not reference that"
    if subresource:
        return next(_of_containers(spec, "ephemeralContainers", "ephemeral container", known, because), "")
    for volume in spec.get("volumes") or ():
        name = (volume.get("secret") or {}).get("secretName")
        if name is not None and name not in known:
            return f'volume with secret.secretName="{name}" {because} secret'
    for part, what in (("initContainers", "init container"), ("containers", "container")):
        for wrong in _of_containers(spec, part, what, known, because):
            return wrong
    pulled = {one.get("name") for one in account.get("imagePullSecrets") or ()}
    for index, one in enumerate(spec.get("imagePullSecrets") or ()):
        if one.get("name") not in pulled:
            return f'imagePullSecrets[{index}].name="{one.get("name") or ""}" {because} imagePullSecret'
    return ""


def _of_containers(spec: JSON, part: str, what: str, known: set[Any], because: str) -> Iterator[str]:
    for container in spec.get(part) or ():
        named = f"{what} {container.get('name')} with"
        for variable in container.get("env") or ():
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference is not None and reference.get("name") not in known:
                told = f'envVar {variable.get("name")} referencing secret.secretName="{reference.get("name") or ""}"'
                yield f"{named} {told} {because} secret"
        for origin in container.get("envFrom") or ():
            reference = origin.get("secretRef")
            if reference is not None and reference.get("name") not in known:
                told = f'envFrom referencing secret.secretName="{reference.get("name") or ""}"'
                yield f"{named} {told} {because} secret"


def _mounts_token(account: JSON, spec: JSON) -> bool:
    """The pod's own word counts before the account's; nobody's word is a yes."""
    for flag in (spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken")):
        if flag is not None:
            return bool(flag)
    return True


def _mount_token(spec: JSON) -> None:
    volumes = spec.setdefault("volumes", []) or []
    spec["volumes"] = volumes
    name = next((volume["name"] for volume in volumes if volume.get("name", "").startswith("kube-api-access-")), "")
    made = not name
    if made:
        taken = {volume.get("name") for volume in volumes}
        name = "kube-api-access-" + meta.random_suffix()
        while name in taken:
            name = "kube-api-access-" + meta.random_suffix()
    mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
    used = False
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or []:
            mounts = container.get("volumeMounts") or []
            if all(one.get("mountPath") != MOUNT_PATH for one in mounts):
                container["volumeMounts"] = [*mounts, dict(mount)]
                used = True
    if made and used:
        volumes.append({"name": name, "projected": token_projection()})


def token_projection() -> JSON:
    """The projected volume Kubernetes gives each pod: token, CA, namespace."""
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ],
        "defaultMode": 420,
    }
