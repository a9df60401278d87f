import asyncio
import gc
import uuid
from collections.abc import Iterable

import pytest

from kubecore.api import errors
from kubecore.client.client import Client, Object, Outcomes
from kubecore.client.events import EventRecorder
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI

POD: Object = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "default", "uid": "u1"}}


def about(index: int) -> Object:
    """One of many pods."""
    return {**POD, "metadata": {"name": f"web-{index}", "namespace": "default", "uid": f"u{index}"}}


@pytest.fixture
def recorder(api: FakeAPI, clock: VirtualClock) -> EventRecorder:
    return EventRecorder(api.client(), clock, "tester", host="node-1")


async def test_an_event_names_the_object_the_source_and_the_time(api: FakeAPI, recorder: EventRecorder) -> None:
    recorder.event(POD, "Warning", "Failed", "it failed", field_path="spec.containers{main}")
    await recorder.flush()
    (event,) = api.all("events")
    assert event["involvedObject"] == {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": "default",
        "name": "web",
        "uid": "u1",
        "fieldPath": "spec.containers{main}",
    }
    assert event["source"] == {"component": "tester", "host": "node-1"}
    assert (event["type"], event["reason"], event["message"], event["count"]) == ("Warning", "Failed", "it failed", 1)
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("name", ["d" * 250, "system:node-proxier"])
async def test_an_event_has_a_name_even_where_it_cannot_have_its_objects(
    api: FakeAPI, recorder: EventRecorder, name: str
) -> None:
    recorder.event({**POD, "metadata": {**POD["metadata"], "name": name}}, "Normal", "Pulled", "image is there")
    await recorder.flush()
    (event,) = api.all("events")
    assert event["involvedObject"]["name"] == name
    assert str(uuid.UUID(event["metadata"]["name"])) == event["metadata"]["name"]


async def test_a_long_message_is_told_to_its_end(api: FakeAPI, recorder: EventRecorder) -> None:
    told = f"{'refused, for ' * 200}this reason"
    recorder.event(POD, "Warning", "FailedCreate", told)
    await recorder.flush()
    (event,) = api.all("events")
    assert event["message"] == told


async def test_the_same_event_again_counts_up(api: FakeAPI, clock: VirtualClock, recorder: EventRecorder) -> None:
    for _ in range(3):
        recorder.event(POD, "Normal", "Pulled", "image is there")
        await recorder.flush()
        await clock.advance(60)
    (event,) = api.all("events")
    assert event["count"] == 3
    assert (event["firstTimestamp"], event["lastTimestamp"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z")


async def test_an_event_that_expired_is_written_anew(api: FakeAPI, recorder: EventRecorder) -> None:
    recorder.event(POD, "Normal", "Pulled", "image is there")
    await recorder.flush()
    api.remove("events", api.all("events")[0]["metadata"]["name"])
    recorder.event(POD, "Normal", "Pulled", "image is there")
    await recorder.flush()
    assert [event["count"] for event in api.all("events")] == [2]


async def test_many_events_that_differ_in_their_message_only_are_combined(
    api: FakeAPI, recorder: EventRecorder
) -> None:
    for index in range(14):
        recorder.event(POD, "Normal", "Sync", f"message {index}")
    await recorder.flush()
    events = api.all("events")
    combined = [event for event in events if event["message"].startswith("(combined from similar events): ")]
    assert len(events) == 10 and [event["count"] for event in combined] == [5]
    assert [(event["source"]["component"], event["reportingComponent"]) for event in combined] == [("tester", "")]


async def test_a_source_that_floods_is_held_back_and_recovers(
    api: FakeAPI, clock: VirtualClock, recorder: EventRecorder
) -> None:
    for index in range(40):
        recorder.event(POD, "Normal", f"Reason{index}", "x")
    await recorder.flush()
    assert len(api.all("events")) == 25
    await clock.advance(300)
    recorder.event(POD, "Normal", "Later", "x")
    await recorder.flush()
    assert len(api.all("events")) == 26


async def test_a_server_that_is_away_is_tried_again(api: FakeAPI, clock: VirtualClock, recorder: EventRecorder) -> None:
    api.react("create events", ConnectionError("down"), times=2)
    recorder.event(POD, "Normal", "Pulled", "image is there")
    await clock.advance(25)
    assert len(api.all("events")) == 1


async def test_of_a_burst_only_what_was_not_written_is_tried_again(
    api: FakeAPI, clock: VirtualClock, recorder: EventRecorder
) -> None:
    api.react("create events", errors.internal_error("full"))
    for index in range(3):
        recorder.event(about(index), "Normal", "Pulled", "image is there")
    recorder.event(about(0), "Normal", "Pulled", "image is there")
    await clock.advance(15)
    await recorder.flush()
    assert len(api.writes("create events")) == 4
    counts = {event["involvedObject"]["name"]: event["count"] for event in api.all("events")}
    assert counts == {"web-0": 2, "web-1": 1, "web-2": 1}


async def test_an_event_that_is_refused_is_dropped(api: FakeAPI, recorder: EventRecorder) -> None:
    api.react("create events", errors.forbidden("", "events", "", "namespace is terminating"))
    recorder.event(POD, "Normal", "One", "x")
    recorder.event(POD, "Normal", "Two", "x")
    await recorder.flush()
    assert [event["reason"] for event in api.all("events")] == ["Two"]


async def test_an_event_that_cannot_be_sent_takes_none_with_it(api: FakeAPI, recorder: EventRecorder) -> None:
    recorder.event(POD, "Normal", "One", "x")
    recorder.event(POD, "Normal", "Two", "no Unicode: \udcff")
    recorder.event(POD, "Normal", "Three", "x")
    await recorder.flush()
    assert [event["reason"] for event in api.all("events")] == ["One", "Three"]


async def test_an_event_about_an_object_without_namespace_is_kept_in_default(
    api: FakeAPI, recorder: EventRecorder
) -> None:
    recorder.event({"kind": "Node", "metadata": {"name": "n1", "uid": "n1"}}, "Normal", "Ready", "x")
    await recorder.flush()
    assert [event["metadata"]["namespace"] for event in api.all("events")] == ["default"]


async def test_events_of_a_burst_are_written_together_and_count_up_in_order(
    api: FakeAPI, recorder: EventRecorder
) -> None:
    for index in range(40):
        other: Object = {**POD, "metadata": {"name": f"web-{index}", "namespace": "default", "uid": f"u{index}"}}
        recorder.event(other, "Normal", "Scheduled", "assigned")
        recorder.event(POD, "Normal", "Pulled", "image is there")
    await recorder.flush()
    assert sorted(event["count"] for event in api.all("events")) == [1] * 40 + [25]
    counts = [request.body["count"] for request in api.writes("patch events")]
    assert counts == list(range(2, 26))


async def test_a_burst_of_events_is_one_call_for_each_namespace(
    api: FakeAPI, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str, list[str]]] = []
    post_all = Client.post_all

    async def counted(client: Client, resource: str, objects: Iterable[Object], namespace: str = "") -> Outcomes:
        events = list(objects)
        calls.append((resource, namespace, [event["involvedObject"]["name"] for event in events]))
        return await post_all(client, resource, events, namespace)

    monkeypatch.setattr(Client, "post_all", counted)
    system: Object = {**POD, "metadata": {"name": "dns", "namespace": "kube-system", "uid": "d"}}
    for pod in (about(0), system, about(1), about(2)):
        recorder.event(pod, "Normal", "Scheduled", "assigned")
    await recorder.flush()
    assert calls == [("events", "default", ["web-0", "web-1", "web-2"]), ("events", "kube-system", ["dns"])]
    # nothing was left to be written one by one
    assert len(api.writes("create events")) == 4


async def test_a_mistake_in_how_a_burst_is_written_shows(
    api: FakeAPI, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mistaken(*_: object) -> Outcomes:
        raise AttributeError("no such thing")

    monkeypatch.setattr(Client, "post_all", mistaken)
    unhandled: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context["exception"]))
    recorder.event(POD, "Normal", "Scheduled", "assigned")
    await recorder.flush()
    gc.collect()
    assert [str(error) for error in unhandled] == ["no such thing"]


async def test_what_never_ends_is_cut_off(
    api: FakeAPI, recorder: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(20_002):
        recorder.event(about(index), "Normal", f"Reason{index}", "x")
    await recorder.stop()
    assert [record.message for record in caplog.records] == ["events are dropped, 20000 wait: Reason20000 x"]


async def test_what_is_too_much_of_one_object_takes_no_room(
    api: FakeAPI, recorder: EventRecorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubecore.client.events._QUEUED", 100)
    for index in range(200):
        recorder.event(POD, "Normal", f"Reason{index}", "x")
    recorder.event(about(1), "Normal", "Pulled", "image is there")
    await recorder.flush()
    assert len(api.writes("create events")) == 25 + 1
    assert caplog.records == []


async def test_a_burst_that_is_too_long_is_told_of_once_though_room_for_a_few_comes_between(
    api: FakeAPI, recorder: EventRecorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubecore.client.events._QUEUED", 100)

    async def burst() -> None:
        for index in range(400):
            recorder.event(about(index), "Normal", "Pulled", "image is there")
            if index % 40 == 0:
                await asyncio.sleep(0)
        await recorder.flush()

    for bursts in (1, 2):
        await burst()
        assert len(caplog.records) == bursts
    assert 100 < len(api.writes("create events")) < 400
