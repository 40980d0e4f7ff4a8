"""What the delivery figures are for given documents: counted in Python, one by one."""

from collections import Counter
from collections.abc import Iterable, Mapping

from bson import ObjectId
from delivery_data import Document, Item, second_of
from delivery_words import (
    CHANNELS,
    DELAYS,
    ENVIRONMENT_TYPES,
    FAILURE_REASONS,
    INDEXES,
    MESSAGE_STATUSES,
    OPEN_STATUSES,
    SKIP_REASONS,
    STEP_TYPES,
)
from novu_data import provider_of

Labels = tuple[tuple[str, str], ...]
Counts = dict[str, Counter[Labels]]

TIMESTAMPS = {
    "event": "notifications",
    "message": "messages",
    "job": "jobs",
    "subscriber": "subscribers",
}
COLLECTIONS = (*INDEXES, "subscribers", "preferences")


def tally(items: Iterable[Item], begin: int, end: int, *, age: str = "1h") -> Counts:
    """Count what was created in a window, by the second in `_id`.

    Args:
        items: documents with their collections, the environments among them.
        begin: Unix time in seconds.
        end: the same, not in the window.
        age: the label of the unfinished jobs in this window.
    """
    every = list(items)
    types = environment_types(every)
    counts: Counts = {}
    for collection, document in every:
        if collection not in ("messages", "jobs") or not begin <= second_of(document["_id"]) < end:
            continue
        kind = types.get(document.get("_environmentId"), "prod")
        if collection == "messages":
            _add_message(counts, document, kind)
        else:
            _add_job(counts, document, kind, age)
    return counts


def _add_message(counts: Counts, message: Document, environment: str) -> None:
    channel = word(message.get("channel"), CHANNELS)
    labels = {"channel": channel, "provider.id": provider_of(message)}
    labels["message.status"] = word(message.get("status"), MESSAGE_STATUSES)
    _add(counts, "novu.message.created", labels | {"environment.type": environment})
    event = message.get("_notificationId")
    if isinstance(event, ObjectId):
        late = second_of(message["_id"]) - second_of(event)
        delay = next((name for name, most in DELAYS.items() if late <= most), "longer")
        _add(counts, "novu.message.delay", {"channel": channel, "delay": delay})


def _add_job(counts: Counts, job: Document, environment: str, age: str) -> None:
    _add(counts, "novu.job.created", {})
    step, status = {"step.type": word(job.get("type"), STEP_TYPES)}, job.get("status")
    if status == "failed":
        error = job.get("error")
        reason = FAILURE_REASONS.get(error, "other") if isinstance(error, str) else "other"
        labels = step | {"failure.reason": reason, "environment.type": environment}
        _add(counts, "novu.job.failed", labels)
    elif status == "canceled":
        _add(counts, "novu.job.skipped", step | {"skip.reason": skip_reason(job)})
    elif status in OPEN_STATUSES:
        labels = step | {"job.status": status, "job.age": age, "environment.type": environment}
        _add(counts, "novu.job.unfinished", labels)


def _add(counts: Counts, metric: str, labels: Mapping[str, str]) -> None:
    key = tuple(sorted((f"novu.{name}", value) for name, value in labels.items()))
    counts.setdefault(metric, Counter())[key] += 1


def word(value: object, words: Iterable[str]) -> str:
    """The value if it is one of the words, else `other`."""
    return value if isinstance(value, str) and value in words else "other"


def skip_reason(job: Document) -> str:
    """Why a canceled job was skipped: `unknown` before Novu 3.11."""
    state = job.get("deliveryLifecycleState")
    detail = state.get("detail") if isinstance(state, dict) else None
    return "unknown" if detail is None else word(detail, SKIP_REASONS)


def environment_types(items: Iterable[Item]) -> Mapping[object, str]:
    """The type of each environment, by its id; one that is gone counts as `prod`."""
    return {
        document["_id"]: _environment_type(document)
        for collection, document in items
        if collection == "environments"
    }


def _environment_type(environment: Document) -> str:
    kind = environment.get("type")
    if kind in ENVIRONMENT_TYPES:
        return str(kind)
    return "dev" if not kind and environment.get("name") == "Development" else "prod"


def active_integrations(items: Iterable[Item]) -> Counter[Labels]:
    """Count for `novu.integration.active.count`; soft-deleted ones don't count."""
    every = list(items)
    types = environment_types(every)
    counts: Counts = {}
    for collection, document in every:
        active = document.get("active") is True and document.get("deleted") is not True
        if collection == "integrations" and active:
            kind = types.get(document.get("_environmentId"), "prod")
            labels = {"channel": word(document.get("channel"), CHANNELS), "environment.type": kind}
            _add(counts, "novu.integration.active.count", labels)
    return counts.get("novu.integration.active.count", Counter())


def created_timestamps(items: Iterable[Item]) -> Mapping[str, int]:
    """`novu.created.timestamp` by `novu.figure`; absent if there is no document."""
    seconds = _seconds(items)
    return {name: max(seconds[c]) for name, c in TIMESTAMPS.items() if c in seconds}


def oldest_ages(items: Iterable[Item], now: int) -> Mapping[str, int]:
    """`novu.collection.oldest.age` by `novu.collection`; absent if there is no document."""
    seconds = _seconds(items)
    return {name: now - min(seconds[name]) for name in COLLECTIONS if name in seconds}


def index_counts(items: Iterable[Item], *, created: bool) -> Mapping[str, int]:
    """`novu.collection.index.count`, after `delivery_data.create_indexes` or without it."""
    more = {name: 1 + len(fields) for name, fields in INDEXES.items()} if created else {}
    return (
        dict.fromkeys(COLLECTIONS, 0)
        | dict.fromkeys(set(_seconds(items)) & set(COLLECTIONS), 1)
        | more
    )


def _seconds(items: Iterable[Item]) -> dict[str, list[int]]:
    seconds: dict[str, list[int]] = {}
    for collection, document in items:
        seconds.setdefault(collection, []).append(second_of(document["_id"]))
    return seconds
