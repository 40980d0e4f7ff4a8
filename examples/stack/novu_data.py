"""Invented data in the shape of Novu's database: any size, the same for the same seed.

    python examples/stack/novu_data.py --size 1000 --url mongodb://127.0.0.1/novu-db    load it
    python examples/stack/novu_data.py --write 2 --url mongodb://127.0.0.1/novu-db      add to it

The documents are those of Novu 3.15: each organization has two environments, and each environment
its own workflows, integrations, subscribers, topics and events, an event its jobs and its message.
"""

import argparse
import itertools
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from string import Template
from typing import Any, NamedTuple

from bson import ObjectId
from bson.json_util import loads
from delivery_data import ABSENT, ODD_PROVIDERS, Deliveries
from delivery_words import WORDS
from delivery_writes import BATCH, insert
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

Document = dict[str, Any]
Item = tuple[str, Document]

SIZES = {"small": 200, "medium": 10_000, "large": 1_000_000}  # events: documents of `notifications`
MARK = "CANARY"
MARKED_SIZE = 5_000  # the mark leaves two bytes of an id
DEFAULT_DATABASE = "novu-db"

_VALID_PROVIDER = re.compile("[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_PROVIDERS: tuple[str, ...] = (
    "sendgrid:email",
    "twilio:sms",
    "fcm:push",
    "slack:chat",
    "mailgun:email",
)
_PROVIDERS += ("africas-talking:sms", "novu-email:email", "smscountry:sms", "ozeki:sms")
_ODD_STEPS: tuple[object, ...] = (ABSENT, None, [], "in-app-step", {"0": "in-app-step"})
_WORKFLOWS = ("Order shipped", "Welcome", "Password reset", "Weekly digest", "Invoice due")
_TOPICS = ("orders:eu", "orders:us", "news", "incidents")
_SYLLABLES = ("ba", "do", "fe", "ki", "lo", "mu", "na", "ri", "su", "ta", "ve", "zo")
# Users choose the names in them.
_FREE_FIELDS = frozenset({"payload", "data", "credentials", "stepOutput"})

# Extended JSON without what every document has; `_Maker` replaces `$word` etc.
_SHAPES = {
    "organizations": """{"name": "$word", "apiServiceLevel": "free", "defaultLocale": "en_US",
        "domain": "example.org"}""",
    "users": """{"firstName": "$word", "lastName": "$word", "email": "$word@example.org",
        "password": "$$2b$$10$$$key", "tokens": []}""",
    "environments": """{"name": "Development", "identifier": "$key",
        "apiKeys": [{"key": "nvsk.$key:$key", "hash": "$key$key", "_userId": {"$$oid": "$id"}}]}""",
    "integrations": """{"providerId": "", "channel": "", "active": true, "name": "$word",
        "credentials": {"apiKey": "nvsk.$key:$key", "from": "no-reply@example.org"},
        "identifier": "$word-$key", "primary": true, "deleted": false}""",
    "notificationtemplates": """{"name": "", "active": true, "type": "BRIDGE",
        "origin": "novu-cloud", "status": "ACTIVE", "draft": false, "tags": ["$word"], "steps": [],
        "triggers": [{"_id": {"$$oid": "$id"}, "type": "event", "identifier": "$word-$word",
        "variables": []}], "deleted": false}""",
    "step": """{"_id": {"$$oid": "$id"}, "active": true, "stepId": "$word", "type": "REGULAR",
        "filters": [], "_templateId": {"$$oid": "$id"}, "metadata": {}, "variants": []}""",
    "preferences": """{"type": "WORKFLOW_RESOURCE",
        "preferences": {"all": {"enabled": true}, "channels": {"sms": {"enabled": false}}}}""",
    "topics": """{"key": "", "name": "$word"}""",
    "subscribers": """{"firstName": "$word", "lastName": "$word", "phone": "+49000$number",
        "subscriberId": "", "email": "$word@example.org", "locale": "en_US",
        "data": {"plan": "pro"}, "deleted": false}""",
    "notifications": """{"transactionId": "txn_$key", "channels": ["in_app", "email"],
        "to": {"subscriberId": ""}, "payload": {"orderId": "A-$number"}, "tags": ["order"]}""",
}
_TEMPLATES = {name: Template(text) for name, text in _SHAPES.items()}
COLLECTIONS = tuple(name for name in _SHAPES if name != "step")
COLLECTIONS += ("jobs", "messages", "executiondetails")


class Expected(NamedTuple):
    """What Novu's queries answer; soft-deleted documents count only in `documents`."""

    documents: Mapping[str, int]
    steps: int
    providers: Mapping[str, int]


@dataclass
class _Environment:
    """An environment, and what its events refer to."""

    ids: Document
    workflows: list[ObjectId] = field(default_factory=list)
    subscribers: list[Document] = field(default_factory=list)


class _Maker(dict[str, str]):
    """Makes documents; the same seed gives the same ones. As a mapping it fills in templates."""

    def __init__(self, seed: int, now: datetime, *, marked: bool = False) -> None:
        super().__init__()
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.now = now.astimezone(UTC).replace(microsecond=0)
        self.tails = itertools.count() if marked else None

    def everything(self, events: int) -> Iterator[Item]:
        organizations = 2 + events // 5000
        yesterday = int(self.now.timestamp()) - 86_400 + 1
        deliveries = Deliveries(self.random, self.id_of, yesterday)
        environments: list[_Environment] = []
        for n in range(organizations):
            pair: list[_Environment] = []
            yield from self.organization(n, pair)
            if n < organizations - 1:  # the last one is new and empty
                yield from self.contents(n, pair, events // (4 * organizations) + 10)
                environments += pair
        for n in range(events):
            place, index = environments[n % len(environments)], n // len(environments)
            event = self.event(place, index)
            yield "notifications", event
            yield from deliveries.of(event, 1 + n % 4)

    def organization(self, n: int, pair: list[_Environment]) -> Iterator[Item]:
        """An organization with its users, and two environments with Novu's own integration."""
        organization = self.make("organizations")
        yield "organizations", organization
        yield from (("users", self.make("users")) for _ in range(1 + n % 3))
        for name in ("Development", "Production"):
            parent = {"_organizationId": organization["_id"]}
            typed = (name == "Production") == bool(n % 2)  # Novu takes the others by their name
            kind = {"type": "prod" if n % 2 else "dev"} if typed else {}
            environment = self.make("environments", parent, name=name, **kind)
            pair.append(_Environment({"_environmentId": environment["_id"], **parent}))
            yield "environments", environment
            yield "integrations", self.integration(pair[-1], 0, "novu:in_app")

    def contents(self, n: int, pair: list[_Environment], subscribers: int) -> Iterator[Item]:
        """The same in both environments; the very first one also has everything odd."""
        for place in pair:
            for i in range(3 + n % 4):
                provider = _PROVIDERS[(n + i) % len(_PROVIDERS)]
                yield "integrations", self.integration(place, i + 1, provider)
            for i in range(12):
                workflow = self.workflow(place, i)
                place.workflows.append(workflow["_id"])
                yield "notificationtemplates", workflow
                ids = {**place.ids, "_templateId": workflow["_id"]}
                yield "preferences", self.make("preferences", ids)
            yield from (("topics", self.make("topics", place.ids, key=key)) for key in _TOPICS)
            for i in range(subscribers):
                subscriber = self.subscriber(place, i)
                if i < 1000:  # noqa: PLR2004 - bounds the memory
                    place.subscribers.append(subscriber)
                yield "subscribers", subscriber
        for odd in ODD_PROVIDERS if n == 0 else ():
            yield "integrations", _with(self.integration(pair[0], 0, "x:sms"), "providerId", odd)
        for odd in _ODD_STEPS if n == 0 else ():
            yield "notificationtemplates", _with(self.workflow(pair[0], 0), "steps", odd)

    def integration(self, place: _Environment, index: int, provider: str) -> Document:
        name, _, channel = provider.partition(":")
        more = {"providerId": name, "channel": channel, "active": index % 4 != 1}
        document = self.make("integrations", place.ids, **more)
        return self.deletable(index, document)

    def workflow(self, place: _Environment, index: int) -> Document:
        name = f"{_WORKFLOWS[index % len(_WORKFLOWS)]} {index}"
        steps = [self.fields("step") for _ in range(1 + index % 4)]
        document = self.make("notificationtemplates", place.ids, name=name, steps=steps)
        return self.deletable(index, document)

    def subscriber(self, place: _Environment, index: int) -> Document:
        document = self.make("subscribers", place.ids, subscriberId=f"user-{index:06d}")
        return self.deletable(index, document)

    def event(self, place: _Environment, index: int) -> Document:
        subscriber = place.subscribers[index % len(place.subscribers)]
        workflow = place.workflows[index % len(place.workflows)]
        ids = {**place.ids, "_templateId": workflow, "_subscriberId": subscriber["_id"]}
        return self.make("notifications", ids, to={"subscriberId": subscriber["subscriberId"]})

    def make(self, shape: str, ids: Document | None = None, **more: object) -> Document:
        """A document with id, times and version."""
        created = self.moment()
        updated = created + timedelta(seconds=self.random.randrange(86_400))
        times = {"createdAt": created, "updatedAt": updated, "__v": 0}
        return {"_id": self.id(created), **self.fields(shape), **more, **(ids or {}), **times}

    def fields(self, shape: str) -> Document:
        return dict(loads(_TEMPLATES[shape].substitute(self)))

    def __missing__(self, name: str) -> str:
        if name == "id":
            return str(self.id(self.moment()))
        if name == "word":
            return "".join(self.random.choices(_SYLLABLES, k=3))
        return (
            self.random.randbytes(8).hex() if name == "key" else f"{self.random.random():.7f}"[2:]
        )

    def deletable(self, index: int, document: Document) -> Document:
        """Make one in ten soft-deleted, and one in ten so old that it lacks `deleted`."""
        if index % 10 == 3:  # noqa: PLR2004 - any
            who = self.id(self.moment())
            return document | {"deleted": True, "deletedAt": self.now, "deletedBy": who}
        return _with(document, "deleted", ABSENT) if index % 10 == 2 else document  # noqa: PLR2004

    def moment(self) -> datetime:
        """A time of the last month, but not of the last day."""
        return self.now - timedelta(seconds=self.random.randint(86_400, 31 * 86_400))

    def id(self, when: datetime) -> ObjectId:
        return self.id_of(int(when.timestamp()))

    def id_of(self, second: int) -> ObjectId:
        tail = self.random.randbytes(8)
        if self.tails:
            tail = MARK.encode() + (next(self.tails) % 2**16).to_bytes(2, "big")
        return ObjectId(second.to_bytes(4, "big") + tail)


def _with(document: Document, name: str, value: object) -> Document:
    rest = {key: kept for key, kept in document.items() if key != name}
    return rest if value is ABSENT else rest | {name: value}


def _mark(value: object, numbers: Iterator[int], *, names: bool = False) -> Any:  # noqa: ANN401
    """Replace every text by a unique one with the mark, as long, and with its line feed."""
    if isinstance(value, str):
        mark = f"{MARK}{next(numbers):010d}".ljust(len(value.rstrip("\n")), "X")
        return mark + ("\n" if value.endswith("\n") else "")
    if isinstance(value, list):
        return [_mark(element, numbers, names=names) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        _mark(key, numbers) if names else key: element
        if _is_known(key, element)
        else _mark(element, numbers, names=names or key in _FREE_FIELDS)
        for key, element in value.items()
    }


def _is_known(name: str, value: object) -> bool:
    if name == "providerId":
        return is_valid_provider(value)
    return isinstance(value, str) and value in WORDS.get(name, ())


def generate(seed: int, size: int | str, now: datetime, *, marked: bool = False) -> Iterator[Item]:
    """Generate documents of the month before `now`, each with the name of its collection.

    Args:
        seed: the same arguments give the same documents.
        size: how many events there are, or a name of `SIZES`; everything else grows with it.
        now: the newest documents are a day older.
        marked: for tests that look for leaks: `MARK` in every id, and in every text but valid
            provider ids and `delivery_words.WORDS`. Raises ValueError beyond `MARKED_SIZE`.
    """
    events = size_of(size)
    if marked and events > MARKED_SIZE:
        raise ValueError(f"at most {MARKED_SIZE} events can be marked, not {events}")
    items = _Maker(seed, now, marked=marked).everything(events)
    numbers = itertools.count()
    return ((name, _mark(document, numbers)) for name, document in items) if marked else items


def size_of(size: int | str) -> int:
    """The number of events that a size means; raises ValueError if it is invalid."""
    events = str(SIZES.get(str(size), size))
    if not events.isdecimal():
        raise ValueError(f"size {size!r} is neither {', '.join(SIZES)} nor a number from 0 on")
    return int(events)


def count(items: Iterable[Item]) -> Expected:
    """Count what Novu's queries answer to these documents."""
    documents: Counter[str] = Counter()
    providers: Counter[str] = Counter()
    steps = 0
    for collection, document in items:
        documents[collection] += 1
        if document.get("deleted") is True:
            continue
        if collection == "integrations":
            providers[provider_of(document)] += 1
        if collection == "notificationtemplates" and isinstance(document.get("steps"), list):
            steps += len(document["steps"])
    return Expected(dict(documents), steps, dict(providers))


def provider_of(integration: Mapping[str, Any]) -> str:
    """The provider that an integration counts for: its own, `unknown` or `other`."""
    provider = integration.get("providerId")
    if provider is None:
        return "unknown"
    return str(provider) if is_valid_provider(provider) else "other"


def is_valid_provider(provider: object) -> bool:
    """Whether a provider id is sent as it is."""
    return isinstance(provider, str) and _VALID_PROVIDER.fullmatch(provider) is not None


def load(
    database: Database[Document], *, seed: int, size: int | str, now: datetime, marked: bool = False
) -> Expected:
    """Insert generated documents; returns what Novu's queries answer if the database was empty."""
    return count(_insert(database, generate(seed, size, now, marked=marked)))


def _insert(database: Database[Document], items: Iterator[Item]) -> Iterator[Item]:
    while batch := list(itertools.islice(items, BATCH)):
        insert(database, batch)
        yield from batch


def write(database: Database[Document], rate: float, seconds: float) -> Mapping[str, int]:
    """Write as a live Novu does: of five documents four are events; then one old event is deleted.

    Args:
        database: where to.
        rate: insertions per second.
        seconds: for how long; a slow database takes longer.

    Returns:
        What was inserted, by collection, and what was "deleted".
    """
    maker, started, done = _Maker(1, datetime.now(UTC)), time.monotonic(), Counter[str]()
    ids = {name: maker.id(maker.now) for name in ("_environmentId", "_organizationId")}
    place = _Environment(ids, [maker.id(maker.now)], [maker.subscriber(_Environment(ids), 0)])
    for n in range(int(rate * seconds)):
        time.sleep(max(0.0, started + n / rate - time.monotonic()))
        name = "subscribers" if n % 5 == 4 else "notifications"  # noqa: PLR2004
        document = maker.subscriber(place, 0) if name == "subscribers" else maker.event(place, 0)
        now = datetime.now(UTC)
        document |= {"_id": ObjectId(), "createdAt": now, "updatedAt": now}
        database[name].insert_one(document)
        done[name] += 1
        if n % 5 == 0:
            # Not the last hour's, so that everything deleted was counted as created before.
            old = {"_id": {"$lt": ObjectId.from_datetime(now - timedelta(hours=1))}}
            found = database["notifications"].find_one_and_delete(old, sort=[("_id", 1)])
            done["deleted"] += found is not None
    return done


def main(arguments: list[str]) -> int:
    """Load or write; returns the exit code."""
    sizes = ", ".join(f"{name} ({events})" for name, events in SIZES.items())
    parser = argparse.ArgumentParser(description="Data in the shape of Novu's database.")
    parser.add_argument("--url", required=True, help="the database")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same data")
    parser.add_argument(
        "--size", type=size_of, default="small", help=f"how many events: a number, or {sizes}"
    )
    parser.add_argument("--replace", action="store_true", help="drop the collections first")
    parser.add_argument("--write", type=float, metavar="RATE", help="write so many per second")
    parser.add_argument("--seconds", type=float, default=60, help="for how long (default: 60)")
    options = parser.parse_args(arguments)
    try:
        with MongoClient[Document](options.url, appname="novu-data") as client:
            return _fill(client.get_default_database(DEFAULT_DATABASE), options)
    except (PyMongoError, ValueError) as error:  # the text may contain a part of the URL
        print(f"The database can't be used: {type(error).__name__}", file=sys.stderr)
        return 1


def _fill(database: Database[Document], options: argparse.Namespace) -> int:
    if options.write is not None:
        print(dict(write(database, options.write, options.seconds)))
        return 0
    found = sorted(set(COLLECTIONS) & set(database.list_collection_names()))
    if found and not options.replace:
        print(f"{database.name} already has {', '.join(found)}; --replace drops them first")
        return 1
    for collection in found:
        database.drop_collection(collection)
    print(load(database, seed=options.seed, size=options.size, now=datetime.now(UTC)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
