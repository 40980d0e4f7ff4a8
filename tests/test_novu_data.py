import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import delivery_data
import delivery_tally
import delivery_writes
import novu_data
import pytest
from bson import ObjectId, encode
from delivery_data import Item
from delivery_words import DELAYS, FAILURE_REASONS, JOB_STATUSES, OPEN_STATUSES, SKIP_REASONS, WORDS
from pymongo.database import Database

from otel_novu.metrics.usage import COLLECTIONS

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
BEGIN = int(NOW.timestamp())
END = BEGIN + 3600
PLACES = delivery_data.environments(1)


def values(value: Any) -> Iterator[Any]:
    """All values in a document, and the names in free fields."""
    if isinstance(value, dict):
        for name, element in value.items():
            free = name in ("payload", "data", "credentials", "stepOutput")
            yield from element if free and isinstance(element, dict) else ()
            yield from values(element)
    elif isinstance(value, list):
        for element in value:
            yield from values(element)
    else:
        yield value


def test_the_same_seed_gives_the_same_valid_documents_of_the_last_month() -> None:
    first, again, other = (list(novu_data.generate(seed, "small", NOW)) for seed in (1, 1, 2))
    assert first == again
    assert {d["_id"] for _, d in first}.isdisjoint(d["_id"] for _, d in other)
    assert len({d["_id"] for _, d in first}) == len(first)
    assert {name for name, _ in first} == set(novu_data.COLLECTIONS) == set(COLLECTIONS)
    for _, document in first:
        assert encode(document)
        assert document["createdAt"] == document["_id"].generation_time
        assert NOW - timedelta(days=31) <= document["createdAt"] <= NOW - timedelta(days=1)


@pytest.mark.parametrize(("size", "events"), [(0, 0), ("small", 200), ("1000", 1000)])
def test_size_is_the_number_of_events(size: int | str, events: int) -> None:
    names = [name for name, _ in novu_data.generate(1, size, NOW)]
    assert names.count("notifications") == events


@pytest.mark.parametrize("size", ["-1", "1h", "", "huge", -5, "1.5"])
def test_an_invalid_size_is_an_error_that_says_what_is_accepted(size: int | str) -> None:
    with pytest.raises(ValueError, match="neither small, medium, large nor a number from 0 on"):
        novu_data.generate(1, size, NOW)


def test_events_refer_to_workflows_and_subscribers_of_their_environment() -> None:
    items = list(novu_data.generate(1, "small", NOW))
    places = {(d.get("_environmentId"), d["_id"]) for _, d in items}
    for event in (d for name, d in items if name == "notifications"):
        assert (event["_environmentId"], event["_templateId"]) in places
        assert (event["_environmentId"], event["_subscriberId"]) in places


def test_marks_are_in_every_text_and_id_but_known_words_and_change_no_count() -> None:
    marked = list(novu_data.generate(1, "small", NOW, marked=True))
    plain = novu_data.count(novu_data.generate(1, "small", NOW))
    assert novu_data.count(marked) == plain
    assert plain.providers == {"novu": 4, "sendgrid": 2, "twilio": 2, "unknown": 2, "other": 6}
    found = [value for _, document in marked for value in values(document)]
    kept = {"novu", "sendgrid", "mailgun", "twilio", "africas-talking", "fcm", "apns", "slack"}
    kept.update(*WORDS.values())
    texts = [v for v in found if isinstance(v, str) and v not in kept]
    assert (
        kept >= {v for v in found if isinstance(v, str)} - set(texts) >= {"failed", "email", "dev"}
    )
    assert [text for text in texts if not re.fullmatch(r"CANARY[0-9]{10}X*\n?", text)] == []
    assert len(set(texts)) == len(texts) > 1000
    assert any(text.endswith("\n") for text in texts)
    assert all(b"CANARY" in v.binary for v in found if isinstance(v, ObjectId))
    with pytest.raises(ValueError, match="at most 5000 events can be marked, not 5001"):
        novu_data.generate(1, 5001, NOW, marked=True)


def hour(seed: int = 1, **more: Any) -> list[Item]:
    return delivery_data.generate_hour(seed, BEGIN, 2000, 10_000, PLACES, **more)


def tally(items: list[Item]) -> delivery_tally.Counts:
    places = [("environments", place) for place in PLACES]
    return delivery_tally.tally([*places, *items], BEGIN, END)


def test_an_hour_has_so_many_messages_and_jobs_in_the_order_of_their_ids() -> None:
    items = hour()
    assert items == hour() != hour(seed=2)
    names = [name for name, _ in items]
    assert (names.count("messages"), names.count("jobs")) == (2000, 10_000)
    ids = [document["_id"] for _, document in items]
    assert ids == sorted(set(ids))
    assert BEGIN <= delivery_data.second_of(ids[0]) < delivery_data.second_of(ids[-1]) < END
    for _, document in items:
        assert encode(document)
        assert document["createdAt"] == document["_id"].generation_time


def test_an_hour_has_every_status_type_reason_and_delay() -> None:
    items = hour()
    assert {job["status"] for name, job in items if name == "jobs"} == set(JOB_STATUSES)
    seen: dict[str, set[str]] = {}
    for name, value in (pair for by in tally(items).values() for key in by for pair in key):
        seen.setdefault(name.removeprefix("novu."), set()).add(value)
    types = {"in_app", "email", "sms", "chat", "push", "other"}
    assert seen["channel"] == types
    assert seen["step.type"] > types
    assert len(seen["step.type"]) == 11 + 1
    assert seen["message.status"] == {"sent", "error", "warning", "other"}
    assert seen["provider.id"] > {"novu", "sendgrid", "unknown", "other"}
    assert seen["environment.type"] == {"dev", "prod"}
    assert seen["failure.reason"] == {*FAILURE_REASONS.values(), "other"}
    assert seen["skip.reason"] == {*SKIP_REASONS, "unknown", "other"}
    assert (seen["job.status"], seen["job.age"]) == (set(OPEN_STATUSES), {"1h"})
    assert seen["delay"] == {*DELAYS, "longer"}


def test_jobs_are_pending_only_behind_a_digest_or_a_delay() -> None:
    jobs = {job["_id"]: job for name, job in hour() if name == "jobs"}
    pending = [job for job in jobs.values() if job["status"] == "pending"]
    assert len(pending) > 50
    for job in pending:
        assert jobs[job["_parentId"]]["status"] in ("pending", "delayed")


def test_every_message_of_a_provider_fails_while_it_has_an_outage() -> None:
    def share(items: list[Item]) -> float:
        of = [
            m["status"]
            for name, m in items
            if m.get("providerId") == "sendgrid" and name == "messages"
        ]
        return of.count("error") / len(of)

    assert share(hour()) < 0.1
    assert share(hour(outage_of="sendgrid")) > 0.95


def test_the_tally_counts_documents_of_the_window_by_every_label() -> None:
    place, untyped, gone = ObjectId(), ObjectId(), ObjectId()
    items: list[Item] = [
        ("environments", {"_id": place, "type": "dev", "name": "Ours"}),
        ("environments", {"_id": untyped, "name": "Development"}),
    ]

    def add(name: str, second: int, environment: ObjectId = place, **more: Any) -> None:
        ids = {"_id": ObjectId(second.to_bytes(4, "big") + bytes([len(items)] * 8))}
        items.append((name, {**ids, "_environmentId": environment, **more}))

    event = ObjectId((BEGIN - 10).to_bytes(4, "big") + bytes(8))
    mail: dict[str, Any] = {
        "channel": "email",
        "providerId": "ses",
        "status": "sent",
        "_notificationId": event,
    }
    for second in (BEGIN - 1, BEGIN, BEGIN + 1, END - 1, END):
        add("messages", second, **mail)
    add("messages", BEGIN, gone, channel="fax", status="bounced", _notificationId="?")
    add("jobs", BEGIN, type="sms", status="failed", error="Unexpected provider error")
    add("jobs", BEGIN, untyped, type="fax", status="failed", error={"message": "?"})
    add("jobs", BEGIN, gone, type="push", status="canceled")
    for detail in ("preference", "?"):
        add(
            "jobs", BEGIN, type="push", status="canceled", deliveryLifecycleState={"detail": detail}
        )
    for status in ("queued", "pending", "completed"):
        add("jobs", BEGIN, type="delay", status=status)
    by = {
        f"{metric.removeprefix('novu.')} {' '.join(value for _, value in labels)}".strip(): number
        for metric, counts in delivery_tally.tally(items, BEGIN, END, age="1d").items()
        for labels, number in counts.items()
    }
    assert by == {
        "message.created email dev sent ses": 3,
        "message.created other prod other unknown": 1,
        "message.delay email 10s": 1,
        "message.delay email 1m": 1,
        "message.delay email longer": 1,
        "job.created": 8,
        "job.failed dev provider_error sms": 1,
        "job.failed dev other other": 1,
        "job.skipped unknown push": 1,
        "job.skipped preference push": 1,
        "job.skipped other push": 1,
        "job.unfinished dev 1d queued delay": 1,
    }


def test_the_tally_of_what_has_no_window() -> None:
    items = list(novu_data.generate(1, "small", NOW))
    active = delivery_tally.active_integrations(items)
    assert sum(active.values()) == sum(
        d["active"] and d.get("deleted") is not True for name, d in items if name == "integrations"
    )
    key = (("novu.channel", "in_app"), ("novu.environment.type", "dev"))
    assert active[key] == 2
    newest = delivery_tally.created_timestamps(items)
    assert set(newest) == {"event", "message", "job", "subscriber"}
    assert BEGIN - 31 * 86_400 < newest["message"] <= BEGIN - 86_400
    assert all(
        86_400 < age <= 31 * 86_400 for age in delivery_tally.oldest_ages(items, BEGIN).values()
    )
    assert delivery_tally.index_counts(items[:1], created=False)["jobs"] == 0
    assert delivery_tally.index_counts(items, created=False) == dict.fromkeys(
        delivery_tally.COLLECTIONS, 1
    )
    assert delivery_tally.index_counts(items, created=True)["jobs"] == 5


@pytest.mark.contract
def test_what_changes_late_changes_in_the_database_and_in_the_documents(
    database: Database[dict[str, Any]],
) -> None:
    items = delivery_data.generate_hour(1, BEGIN, 200, 2000, PLACES)
    delivery_writes.insert(database, items)
    delivery_writes.create_indexes(database)
    unfinished = tally(items)["novu.job.unfinished"].total()
    delivery_writes.finish_late(database, items, seed=1)
    assert 0 < tally(items)["novu.job.unfinished"].total() < unfinished
    left = delivery_writes.delete_some(database, items, seed=1)
    assert len(left) < len(items)
    for name in {name for name, _ in items}:
        stored = list(database[name].find().sort("_id"))
        assert stored == [document for collection, document in left if collection == name]
        indexes = delivery_tally.index_counts(left, created=True)[name]
        assert len(list(database[name].list_indexes())) == indexes


@pytest.mark.contract
def test_the_live_writer_prunes_only_events_that_are_old_enough(
    database: Database[dict[str, Any]],
) -> None:
    loaded = novu_data.load(database, seed=1, size=50, now=NOW)
    written = novu_data.write(database, rate=100, seconds=0.5)
    assert written == {"notifications": 40, "subscribers": 10, "deleted": 10}
    assert database["notifications"].count_documents({}) == 50 + 40 - 10
    people = database["subscribers"].count_documents({})
    assert people == loaded.documents["subscribers"] + 10


@pytest.mark.contract
def test_the_command_keeps_what_is_in_the_database(mongo_url: str) -> None:
    command = [sys.executable, novu_data.__file__, "--size", "1", "--url", mongo_url]
    for more, code in (([], 0), ([], 1), (["--replace"], 0), (["--size", "big"], 2)):
        assert subprocess.run([*command, *more], check=False).returncode == code
    command[-1] = "mongodb://root:S3cret@127.0.0.1:1/?serverSelectionTimeoutMS=100"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == "The database can't be used: ServerSelectionTimeoutError\n"
