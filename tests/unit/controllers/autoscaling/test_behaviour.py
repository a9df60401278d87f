"""HorizontalPodAutoscalers: policies and windows of the size's growth and shrinking."""

from __future__ import annotations

from kubecore.client.client import Object

from .conftest import Scaled, ScalingAPI


def rules(*policies: tuple[str, int, int], select: str = "Max", window: int = 0) -> Object:
    listed = [{"type": kind, "value": value, "periodSeconds": period} for kind, value, period in policies]
    return {"policies": listed, "selectPolicy": select, "stabilizationWindowSeconds": window}


ANY = rules(("Percent", 100, 15))


async def test_policies_limit_how_much_is_added_in_a_period(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "500m"}}
    up = rules(("Pods", 2, 60), ("Percent", 10, 60))
    await scaled.start(1, maxReplicas=50, behavior={"scaleUp": up, "scaleDown": ANY})
    sizes = [await scaled.later() for _ in range(8)]
    assert sizes == [3, 3, 3, 5, 5, 5, 5, 7]
    assert api.condition("ScalingLimited")[:2] == ("True", "ScaleUpLimit")


async def test_the_narrowest_policy_may_be_chosen(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "500m"}}
    await scaled.start(
        4,
        maxReplicas=50,
        behavior={"scaleUp": rules(("Pods", 9, 60), ("Percent", 50, 60), select="Min"), "scaleDown": ANY},
    )
    assert api.size() == 6


async def test_a_direction_may_be_disabled(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "1m"}}
    down = rules(("Percent", 100, 15), select="Disabled")
    await scaled.start(4, behavior={"scaleUp": ANY, "scaleDown": down})
    assert await scaled.later(600) == 4
    assert api.condition("ScalingLimited")[:2] == ("True", "ScaleDownLimit")


async def test_shrinking_by_policy(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "1m"}}
    await scaled.start(9, behavior={"scaleUp": ANY, "scaleDown": rules(("Pods", 3, 30))})
    assert [await scaled.later() for _ in range(4)] == [6, 3, 3, 1]


async def test_growing_may_have_to_last(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "50m"}}
    await scaled.start(2, behavior={"scaleUp": rules(("Pods", 4, 15), window=60), "scaleDown": ANY})
    api.usage = {"": {"cpu": "100m"}}
    assert await scaled.later(45) == 2
    assert api.condition("AbleToScale")[1] == "ScaleUpStabilized"
    assert await scaled.later(45) == 4
