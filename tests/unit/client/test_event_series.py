import socket
from collections.abc import AsyncIterator

import pytest

from kubecore.client.client import Object
from kubecore.client.event_series import SeriesRecorder
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI

EVENTS = "events"
POD: Object = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "default", "uid": "u1", "resourceVersion": "7"},
}


@pytest.fixture
async def recorder(api: FakeAPI, clock: VirtualClock) -> AsyncIterator[SeriesRecorder]:
    recorder = SeriesRecorder(api.client(), clock, "tester")
    yield recorder
    await recorder.stop()


async def tell(recorder: SeriesRecorder, message: str = "no room", pod: Object = POD) -> None:
    recorder.event(pod, "Warning", "Failed", message, action="Trying")
    await recorder.flush()


async def test_an_event_is_as_those_of_the_newer_group_are(api: FakeAPI, recorder: SeriesRecorder) -> None:
    await tell(recorder)
    (event,) = api.all(EVENTS)
    assert event["involvedObject"] == {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": "default",
        "name": "web",
        "uid": "u1",
        "resourceVersion": "7",
    }
    assert (event["type"], event["reason"], event["message"], event["action"]) == (
        "Warning",
        "Failed",
        "no room",
        "Trying",
    )
    assert event["eventTime"] == "2026-01-01T00:00:00.000000Z"
    assert event["reportingComponent"] == "tester"
    assert event["reportingInstance"] == f"tester-{socket.gethostname()}"
    # what the older recorder tells with
    assert not event.keys() & {"series", "count"}
    assert (event["source"], event["firstTimestamp"], event["lastTimestamp"]) == ({}, None, None)


async def test_the_second_of_a_kind_begins_a_series_whatever_its_words(
    api: FakeAPI, clock: VirtualClock, recorder: SeriesRecorder
) -> None:
    await tell(recorder)
    await clock.advance(60)
    await tell(recorder, "other words")
    (event,) = api.all(EVENTS)
    assert event["message"] == "no room"
    assert event["series"] == {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}


async def test_what_a_series_gets_later_is_told_when_it_has_ended(
    api: FakeAPI, clock: VirtualClock, recorder: SeriesRecorder
) -> None:
    for _ in range(5):
        await tell(recorder)
    assert [event["series"]["count"] for event in api.all(EVENTS)] == [2]
    await clock.advance(800)
    assert [event["series"]["count"] for event in api.all(EVENTS)] == [5]
    await tell(recorder)
    assert len(api.all(EVENTS)) == 2


async def test_a_series_that_goes_on_is_told_anew_every_half_hour(
    api: FakeAPI, clock: VirtualClock, recorder: SeriesRecorder
) -> None:
    for _ in range(31):
        await tell(recorder)
        await clock.advance(60)
    (event,) = api.all(EVENTS)
    assert event["series"]["count"] > 2


async def test_an_event_long_after_one_of_its_kind_is_a_new_one(
    api: FakeAPI, clock: VirtualClock, recorder: SeriesRecorder
) -> None:
    await tell(recorder)
    await clock.advance(400)
    await tell(recorder)
    assert ["series" in event for event in api.all(EVENTS)] == [False, False]


async def test_an_object_that_has_changed_has_events_of_its_own(api: FakeAPI, recorder: SeriesRecorder) -> None:
    await tell(recorder)
    await tell(recorder, pod={**POD, "metadata": {**POD["metadata"], "resourceVersion": "8"}})
    assert len(api.all(EVENTS)) == 2


async def test_the_series_of_an_event_that_expired_is_written_whole(api: FakeAPI, recorder: SeriesRecorder) -> None:
    await tell(recorder)
    api.remove(EVENTS, api.all(EVENTS)[0]["metadata"]["name"])
    await tell(recorder)
    (event,) = api.all(EVENTS)
    assert (event["message"], event["series"]["count"]) == ("no room", 2)


async def test_of_too_many_series_the_busiest_goes_on(
    api: FakeAPI, recorder: SeriesRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubecore.client.events._REMEMBERED", 2)

    async def twice(version: str) -> None:
        for _ in range(2):
            await tell(recorder, pod={**POD, "metadata": {**POD["metadata"], "resourceVersion": version}})

    await twice("busy")
    await twice("idle")
    await twice("busy")
    await twice("other")
    await twice("busy")
    assert [event["involvedObject"]["resourceVersion"] for event in api.all(EVENTS)] == ["busy", "idle", "other"]
