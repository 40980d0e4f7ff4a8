"""Invented deliveries in the shape of Novu 3.15: jobs, messages and execution details of events."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from delivery_words import (
    CHANNELS,
    FAILURE_REASONS,
    MESSAGE_STATUSES,
    SKIP_REASONS,
    STEP_TYPES,
)

Document = dict[str, Any]
Item = tuple[str, Document]

HOUR = 3600
ABSENT = object()

ODD_PROVIDERS: tuple[object, ...] = (ABSENT, None, 42, "Our Own Gateway", "sendgrid\n", "a" * 65)
ODD_PROVIDERS += ("", ["sendgrid"])
_ODD_WORDS: tuple[object, ...] = (ABSENT, None, 7, "carrier pigeon", ["email"], {"is": "odd"})
_ODD_EVENTS: tuple[object, ...] = (ABSENT, None, "an event")
_PROVIDERS = {
    "in_app": ("novu",),
    "email": ("sendgrid", "mailgun"),
    "sms": ("twilio", "africas-talking"),
    "chat": ("slack",),
    "push": ("fcm", "apns"),
}
_MESSAGE_WEIGHTS = (940, 40, 20)
_JOB_WEIGHTS = {"completed": 860, "failed": 40, "canceled": 50, "merged": 10, "skipped": 10}
_JOB_WEIGHTS |= {"queued": 8, "running": 5, "delayed": 17}
_DELAY_WEIGHTS = {-1: 2, 0: 400, 1: 300, 2: 100, 10: 50, 11: 40, 60: 30, 61: 20, 600: 20, 601: 10}
_DELAY_WEIGHTS |= {3600: 10, 3601: 5, 90_000: 5}

_THROWN = {"name": "Error", "message": "connect ECONNREFUSED 192.0.2.7:587", "stack": "at send"}
_ERRORS: tuple[object, ...] = (*FAILURE_REASONS, ["Unexpected provider error"], _THROWN)
_ERRORS += ("no route to mail.example.org", ABSENT, None)
_SKIPPED = [{"status": "skipped", "detail": detail} for detail in (*SKIP_REASONS, "new", None)]
_STATES: tuple[object, ...] = (*_SKIPPED, {"status": "skipped"}, {}, "skipped", ABSENT)
_STOPPED = {"status": "canceled", "detail": "execution_stopped"}

_TEXT = "Your order is on its way. "
_JOB: Document = {
    "overrides": {},
    "step": {"template": {"content": _TEXT * 24, "name": "Order shipped"}, "filters": []},
    "stepOutput": {"skip": False},
    "preferences": {"all": {"enabled": True, "readOnly": False}},
    "__v": 0,
}
_MESSAGE: Document = {
    "templateIdentifier": "order-shipped",
    "subject": "Order shipped",
    "content": _TEXT * 10,
    "seen": False,
    "read": False,
    "archived": False,
    "tags": ["order"],
    "__v": 0,
}
_DIGEST = {"amount": 1, "unit": "days", "type": "regular", "events": []}
_IDS = ("_environmentId", "_organizationId", "_subscriberId", "transactionId")


class Deliveries:
    """Makes what Novu writes for an event, all of it before `end`, Unix time in seconds.

    Args:
        source: gives the same documents for the same seed.
        new_id: makes an id of a second.
        end: no `_id` is of this second or a later one.
        outage_of: a provider whose messages all fail.
    """

    def __init__(
        self,
        source: random.Random,
        new_id: Callable[[int], ObjectId],
        end: int,
        outage_of: str | None = None,
    ) -> None:
        self.random, self.new_id, self.end, self.outage_of = source, new_id, end, outage_of
        self._numbers = itertools.count()

    def of(self, event: Document, jobs: int, *, message: bool = True) -> Iterator[Item]:
        """Make jobs, a message and an execution detail for a document of `notifications`."""
        second = second_of(event["_id"])
        channel, provider, status = self._delivery(next(self._numbers))
        ids = {name: event[name] for name in _IDS} | {"_notificationId": event["_id"]}
        failed = message and status == "error"
        parent: object = ABSENT
        for kind, state in self._steps(channel, jobs, failed=failed):
            more = {"_templateId": str(event["_templateId"]), "_parentId": parent, "type": kind}
            job = self._job(second, ids | more | state)
            parent = job["_id"]
            yield "jobs", job
        if message:
            delivery = {"channel": channel, "providerId": provider, "status": status}
            document = self._message(second, ids | {"_jobId": parent} | delivery)
            yield "messages", document
            yield "executiondetails", self._detail(document)

    def _delivery(self, number: int) -> tuple[object, object, object]:
        """Choose channel, provider and status; one of 200 of each is odd."""
        name = CHANNELS[number % len(CHANNELS)]
        channel: object = name
        provider: object = self.random.choice(_PROVIDERS[name])
        status: object = self.random.choices(MESSAGE_STATUSES, _MESSAGE_WEIGHTS)[0]
        if provider == self.outage_of:
            status = "error"
        turn, place = divmod(number, 200)
        if place == 50:  # noqa: PLR2004 - any
            provider = ODD_PROVIDERS[turn % len(ODD_PROVIDERS)]
        elif place == 101:  # noqa: PLR2004 - any
            channel = _ODD_WORDS[turn % len(_ODD_WORDS)]
        elif place == 152:  # noqa: PLR2004 - any
            status = _ODD_WORDS[turn % len(_ODD_WORDS)]
        return channel, provider, status

    def _steps(
        self, channel: object, count: int, *, failed: bool
    ) -> Iterator[tuple[object, Document]]:
        """Type and state of each job: `pending` behind a digest or delay, `canceled` if stopped."""
        waits = stopped = False
        statuses = self.random.choices(list(_JOB_WEIGHTS), list(_JOB_WEIGHTS.values()), k=count)
        kinds = ("trigger", channel, *self.random.choices(STEP_TYPES, k=max(0, count - 2)))
        for n, kind, status in zip(range(count), kinds, statuses, strict=False):
            if waits:
                yield kind, {"status": "pending"}
            elif stopped:
                yield kind, {"status": "canceled", "deliveryLifecycleState": _STOPPED}
            elif n == 0:
                yield kind, {"status": "completed"}
            elif n == 1 and failed:
                yield kind, {"status": "failed", "error": "Unexpected provider error"}
            else:
                waits = kind in ("digest", "delay") and self.random.randrange(8) == 0
                stopped = status == "failed" and self.random.randrange(2) == 0
                yield kind, {"status": "delayed"} if waits else self._state(status)

    def _state(self, status: str) -> Document:
        if status == "failed":
            return {"status": status, "error": self.random.choice(_ERRORS)}
        if status == "canceled":
            return {"status": status, "deliveryLifecycleState": self.random.choice(_STATES)}
        return {"status": status}

    def _job(self, second: int, fields: Document) -> Document:
        number, created = self.random.getrandbits(24), datetime.fromtimestamp(second, UTC)
        document = {
            "_id": self.new_id(second),
            "identifier": f"step-{number}",
            "payload": {"orderId": f"A-{number}", "items": [_TEXT * 6]},
            **fields,
            "subscriberId": f"user-{number}",
            "createdAt": created,
            "updatedAt": created,
            **_JOB,
        }
        if fields["type"] in ("digest", "delay"):
            document["digest"] = _DIGEST
        if number % 500 == 0:
            document["type"] = self.random.choice(_ODD_WORDS)
        return drop_absent(document)

    def _message(self, second: int, fields: Document) -> Document:
        number, event = self.random.getrandbits(24), fields["_notificationId"]
        delay = self.random.choices(list(_DELAY_WEIGHTS), list(_DELAY_WEIGHTS.values()))[0]
        if 0 <= delay < self.end - second:
            second += delay
        else:  # it belongs to an event of another hour
            event = self.new_id(second - delay)
        created = datetime.fromtimestamp(second, UTC)
        failed = fields["status"] == "error"
        document = {
            "_id": self.new_id(second),
            **fields,
            "_notificationId": _ODD_EVENTS[number % 3] if number % 300 < 3 else event,  # noqa: PLR2004 - any
            "email": f"user-{number}@example.org",
            "phone": f"+49000{number}",
            "errorText": f"550 no mailbox of user-{number}" if failed else ABSENT,
            "payload": {"orderId": f"A-{number}"},
            "createdAt": created,
            "updatedAt": created,
            **_MESSAGE,
        }
        return drop_absent(document)

    def _detail(self, message: Document) -> Document:
        failed = message.get("status") == "error"
        names = (*_IDS, "_notificationId", "providerId", "channel", "createdAt", "updatedAt")
        return {
            "_id": self.new_id(second_of(message["_id"])),
            **{name: message[name] for name in names if name in message},
            "_jobId": str(message.get("_jobId")),
            "_messageId": str(message["_id"]),
            "detail": "Unexpected provider error" if failed else "Message sent",
            "source": "Internal",
            "status": "Failed" if failed else "Success",
            "isTest": False,
            "isRetry": False,
            "raw": '{"to": "user@example.org"}',
            "__v": 0,
        }


def second_of(document_id: ObjectId) -> int:
    """The second in which an id was made, Unix time."""
    return int.from_bytes(document_id.binary[:4], "big")


def drop_absent(document: Document) -> Document:
    """Leave out the fields whose value is `ABSENT`."""
    return {name: value for name, value in document.items() if value is not ABSENT}


def environments(seed: int) -> list[Document]:
    """Environments of an organization; Novu takes those without a type by their name."""
    source = random.Random(seed)  # noqa: S311 - no secret
    organization = _random_id(source, 0)
    rows: tuple[tuple[str, object], ...] = (("Development", "dev"), ("Production", "prod"))
    rows += (("Development", ABSENT), ("Production", None), ("Staging", ABSENT))
    rows += (("Development", "prod"), ("Production", "dev"), ("development", ""))
    return [
        drop_absent(
            {
                "_id": _random_id(source, 1_700_000_000 + n),
                "name": name,
                "_organizationId": organization,
                "identifier": f"id-{seed}-{n}",
                "apiKeys": [{"key": f"nvsk.{seed}-{n}", "hash": f"hash-{seed}-{n}"}],
                "type": kind,
            }
        )
        for n, (name, kind) in enumerate(rows)
    ]


def _random_id(source: random.Random, second: int) -> ObjectId:
    return ObjectId(second.to_bytes(4, "big") + source.randbytes(8))


def generate_hour(
    seed: int,
    begin: int,
    messages: int,
    jobs: int,
    places: Sequence[Document],
    *,
    outage_of: str | None = None,
) -> list[Item]:
    """Generate the documents of an hour, in the order of their ids, as Novu inserts them.

    Args:
        seed: the same arguments give the same documents.
        begin: Unix time in seconds; the second of each `_id` is in the hour from then on.
        messages: how many; each belongs to an event of its own.
        jobs: how many; the events share them.
        places: the documents of the environments; one event in a thousand is of a deleted one.
        outage_of: a provider whose messages all fail.
    """
    source = random.Random(f"{seed} {begin}")  # noqa: S311 - no secret
    deleted = {"_id": _random_id(source, begin), "_organizationId": _random_id(source, begin)}
    deliveries = Deliveries(
        source, lambda second: _random_id(source, second), begin + HOUR, outage_of
    )
    items: list[Item] = []
    events = max(messages, -(-jobs // 5))
    for n in range(events):
        place = deleted if n % 1000 == 99 else places[n % len(places)]  # noqa: PLR2004 - any
        event = _event(_random_id(source, begin + n * HOUR // events), place, source)
        items.append(("notifications", event))
        share = (n + 1) * jobs // events - n * jobs // events
        items += deliveries.of(event, share, message=n < messages)
    return sorted(items, key=lambda item: item[1]["_id"])


def _event(event: ObjectId, place: Document, source: random.Random) -> Document:
    second = second_of(event)
    return {
        "_id": event,
        "_environmentId": place["_id"],
        "_organizationId": place["_organizationId"],
        "_templateId": _random_id(source, second),
        "_subscriberId": _random_id(source, second),
        "transactionId": f"txn_{event}",
        "channels": ["in_app", "email"],
        "payload": {"orderId": "A-1"},
        "createdAt": event.generation_time,
        "updatedAt": event.generation_time,
        "__v": 0,
    }
