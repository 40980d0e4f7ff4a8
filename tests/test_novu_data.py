import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import novu_data
import pytest
from bson import ObjectId, encode
from pymongo.database import Database

from otel_novu.metrics.usage import COLLECTIONS

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def values(value: Any) -> Iterator[Any]:
    """All values in a document, and the names in free fields."""
    if isinstance(value, dict):
        for name, element in value.items():
            yield from element if name in ("payload", "data", "credentials") else ()
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
    assert {name for name, _ in first} == set(novu_data.COLLECTIONS) > set(COLLECTIONS)
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


def test_marks_are_in_every_text_and_id_but_valid_providers_and_change_no_count() -> None:
    marked = list(novu_data.generate(1, "small", NOW, marked=True))
    plain = novu_data.count(novu_data.generate(1, "small", NOW))
    assert novu_data.count(marked) == plain
    assert plain.providers == {"novu": 4, "sendgrid": 2, "twilio": 2, "unknown": 2, "other": 6}
    found = [value for _, document in marked for value in values(document)]
    providers = {"novu", "sendgrid", "twilio", "fcm"}
    texts = [v for v in found if isinstance(v, str) and v not in providers]
    assert [text for text in texts if not re.fullmatch(r"CANARY[0-9]{10}X*\n?", text)] == []
    assert len(set(texts)) == len(texts) > 1000
    assert any(text.endswith("\n") for text in texts)
    assert all(b"CANARY" in v.binary for v in found if isinstance(v, ObjectId))
    with pytest.raises(ValueError, match="at most 10000 events can be marked, not 10001"):
        novu_data.generate(1, 10_001, NOW, marked=True)


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
