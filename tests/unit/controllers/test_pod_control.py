import asyncio

from kubecore.controllers.pod_control import pod_from_template, slow_start


async def test_batches_double_until_they_are_as_long_as_the_api_takes_at_once() -> None:
    asked = 0
    batches = []

    async def step() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked:
            batches.append(asked)
            asked = 0

    assert await slow_start(200, step) == (200, None)
    assert batches == [1, 2, 4, 8, 16, 32, 64, 64, 9]


async def test_a_batch_with_a_failure_is_the_last() -> None:
    asked = 0

    async def step() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise OSError("refused")

    done, error = await slow_start(100, step)
    assert (done, asked, str(error)) == (2, 3, "refused")


def test_the_name_of_an_owner_that_has_the_longest_begins_its_pods_names_without_a_dash() -> None:
    template = {"spec": {"containers": []}}
    for owner, begins in (("a" * 252, "a" * 252 + "-"), ("a" * 253, "a" * 253)):
        pod = pod_from_template({"metadata": {"name": owner, "namespace": "default"}}, template, {})
        assert pod["metadata"]["generateName"] == begins
