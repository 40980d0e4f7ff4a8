"""Data in the shape of Novu's database: any size, the same for the same seed, all invented.

As a command it prints the documents, one a line, or loads them into a database:

    python examples/stack/novu_data.py --seed 1 --size small
    python examples/stack/novu_data.py --seed 1 --size 1000 --url mongodb://127.0.0.1/novu-db

The shapes are those of novuhq/novu in October 2024: each organization has two environments, each
with its own copies of workflows, integrations, subscribers and topics.
"""

import argparse
import itertools
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from bson.json_util import RELAXED_JSON_OPTIONS, dumps
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

Document = dict[str, Any]
Item = tuple[str, Document]

SIZES = {"small": 200, "medium": 10_000, "large": 1_000_000}
"""Named sizes: how many events (documents of `notifications`) there are."""

MARK = "CANARY"
"""What every marked text and, as bytes, every marked id holds."""

MARKED_SIZE = 10_000  # of marked ids two bytes differ within a second

DEFAULT_DATABASE = "novu-db"
COLLECTIONS = (
    "organizations",
    "environments",
    "users",
    "integrations",
    "notificationtemplates",
    "topics",
    "subscribers",
    "notifications",
)

_LAWFUL_PROVIDER = re.compile("[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
# Novu's own and, at the end, two that forks store.
_PROVIDERS = (
    ("sendgrid", "email"),
    ("twilio", "sms"),
    ("fcm", "push"),
    ("slack", "chat"),
    ("mailgun", "email"),
    ("africas-talking", "sms"),
    ("novu-email", "email"),
    ("smscountry", "sms"),
    ("ozeki", "sms"),
)
_ABSENT = object()
_ODD_PROVIDERS: tuple[object, ...] = (
    _ABSENT,
    None,
    42,
    "Our Own Gateway",
    "sendgrid\n",
    "a" * 65,
    "",
    ["sendgrid"],
)
_ODD_STEPS: tuple[object, ...] = (_ABSENT, None, [], "in-app-step", {"0": "in-app-step"})
_WORKFLOWS = ("Order shipped", "Welcome", "Password reset", "Weekly digest", "Invoice due")
_TOPICS = ("orders:eu", "orders:us", "news", "incidents")
_SYLLABLES = ("ba", "do", "fe", "ki", "lo", "mu", "na", "ri", "su", "ta", "ve", "zo")
_TARGETS = 1000  # subscribers of an environment that get its events, to bound the memory
_FREE_FIELDS = frozenset({"payload", "data", "credentials"})  # operators choose the names in them


@dataclass(frozen=True, slots=True)
class Expected:
    """What Novu's own queries must answer to the data.

    Args:
        documents: by collection, how many documents there are, soft-deleted ones included.
        steps: elements of `steps` in the workflows that are not soft-deleted.
        providers: integrations that are not soft-deleted, by provider id; `unknown` where it is
            missing or null, `other` where it is no lawful id.
    """

    documents: Mapping[str, int]
    steps: int
    providers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Written:
    """What a live writer did.

    Args:
        events: documents inserted into `notifications`.
        subscribers: documents inserted into `subscribers`.
        deleted: old documents deleted from `notifications`.
    """

    events: int
    subscribers: int
    deleted: int


@dataclass(frozen=True, slots=True)
class _Place:
    """An environment of an organization, whose documents all bear both ids."""

    organization: ObjectId
    environment: ObjectId
    owner: ObjectId

    def ids(self) -> Document:
        return {"_environmentId": self.environment, "_organizationId": self.organization}


@dataclass(frozen=True, slots=True)
class _Target:
    """What the events of an environment refer to."""

    place: _Place
    workflows: list[ObjectId] = field(default_factory=list)
    subscribers: list[Document] = field(default_factory=list)

    def note(self, collection: str, document: Document) -> None:
        if document.get("_environmentId") != self.place.environment:
            return
        if collection == "notificationtemplates":
            self.workflows.append(document["_id"])
        elif collection == "subscribers" and len(self.subscribers) < _TARGETS:
            self.subscribers.append(document)


class _Dice:
    """All that is random: times, ids, words. The same seed gives the same row of answers."""

    def __init__(self, seed: int, now: datetime, *, marked: bool) -> None:
        self.random = random.Random(seed)  # noqa: S311 - invented data, no secret
        self._now = now
        self._marked = marked
        self._made = itertools.count()

    def moment(self) -> datetime:
        """Draw a time of the last month, mostly in business hours; none of the last day."""
        day = self._now.astimezone(UTC) - timedelta(days=self.random.randint(2, 31))
        if day.weekday() > 4 and self.random.random() < 0.8:  # noqa: PLR2004 - after Friday
            day -= timedelta(days=day.weekday() - 4)
        busy = self.random.random() < 0.9  # noqa: PLR2004 - nine of ten
        hour = self.random.triangular(8, 18) if busy else self.random.uniform(0, 24)
        midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + timedelta(seconds=int(hour * 3600))

    def object_id(self, when: datetime) -> ObjectId:
        """Make an id of that second, as the driver would."""
        tail = self.random.randbytes(8)
        if self._marked:
            tail = MARK.encode() + (next(self._made) % 2**16).to_bytes(2, "big")
        return ObjectId(int(when.timestamp()).to_bytes(4, "big") + tail)

    def word(self) -> str:
        """Invent a name."""
        return "".join(self.random.choices(_SYLLABLES, k=3))

    def hex(self, size: int) -> str:
        """Invent a key."""
        return self.random.randbytes(size).hex()

    def stamped(self, fields: Document) -> Document:
        """Put `_id` before the fields, and the times and version of Novu's documents after."""
        created = self.moment()
        updated = created + timedelta(seconds=self.random.randrange(86_400))
        times = {"createdAt": created, "updatedAt": updated, "__v": 0}
        return {"_id": self.object_id(created), **fields, **times}

    def deletable(self, index: int, place: _Place, fields: Document) -> Document:
        """Make one in ten soft-deleted, and one in ten so old that it lacks `deleted`."""
        document = self.stamped({**fields, "deleted": index % 10 == 3})  # noqa: PLR2004 - any
        if document["deleted"]:
            document |= {"deletedAt": document["updatedAt"], "deletedBy": place.owner}
        if index % 10 == 2:  # noqa: PLR2004 - any
            del document["deleted"]
        return document


class _Marker:
    """Replaces every text by one of its own, that nobody could mistake for another."""

    def __init__(self) -> None:
        self._made = itertools.count()

    def mark_document(self, document: Document) -> Document:
        kept = {k: v for k, v in document.items() if k == "providerId" and is_lawful_provider(v)}
        return {**self.mark(document), **kept}  # type: ignore[dict-item]  # of a dict comes one

    def mark(self, value: object, *, names: bool = False) -> object:
        if isinstance(value, str):
            return self._replace(value)
        if isinstance(value, list):
            return [self.mark(element, names=names) for element in value]
        if isinstance(value, dict):
            return {
                self._replace(key) if names else key: self.mark(
                    element, names=names or key in _FREE_FIELDS
                )
                for key, element in value.items()
            }
        return value

    def _replace(self, text: str) -> str:
        """Keep the length where it is longer than a mark, and a line feed at the end."""
        mark = f"{MARK}{next(self._made):010d}"
        return mark.ljust(len(text.rstrip("\n")), "X") + ("\n" if text.endswith("\n") else "")


def generate(
    seed: int, size: int | str, now: datetime, *, marked: bool = False
) -> Iterator[tuple[str, Document]]:
    """Generate documents, each with the collection that it belongs to.

    Args:
        seed: the same seed, size and time give the same documents.
        size: how many events there are, or a name of `SIZES`; all else grows with it.
        now: the time before which all was created, most of it in business hours of a month.
        marked: every text but lawful provider ids, names of free fields and ids included, holds
            `MARK` and a number of its own, in upper case; for tests that seek leaks.

    Raises:
        ValueError: the size is no name and negative, or too large to be marked.
    """
    events = size_of(size)
    if marked and events > MARKED_SIZE:
        raise ValueError(f"at most {MARKED_SIZE} events can be marked, not {events}")
    items = _everything(_Dice(seed, now, marked=marked), events)
    if not marked:
        return items
    marker = _Marker()
    return ((collection, marker.mark_document(document)) for collection, document in items)


def size_of(size: int | str) -> int:
    """Tell how many events a size means.

    Raises:
        ValueError: it is neither a name of `SIZES` nor a whole number from 0 on.
    """
    try:
        events = SIZES.get(str(size)) or int(size)
    except ValueError:
        events = -1
    if events < 0:
        raise ValueError(f"size {size!r} is neither {', '.join(SIZES)} nor a number from 0 on")
    return events


def count(items: Iterable[tuple[str, Document]]) -> Expected:
    """Count in plain Python what Novu's queries must answer to these documents."""
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
    """Tell under which provider an integration counts: its own, `unknown` or `other`."""
    provider = integration.get("providerId")
    if provider is None:
        return "unknown"
    return str(provider) if is_lawful_provider(provider) else "other"


def is_lawful_provider(provider: object) -> bool:
    """Tell whether a provider id may leave as it is."""
    return isinstance(provider, str) and _LAWFUL_PROVIDER.fullmatch(provider) is not None


def load(
    database: Database[Document],
    *,
    seed: int,
    size: int | str,
    now: datetime,
    marked: bool = False,
    batch: int = 1000,
) -> Expected:
    """Insert generated documents into a database.

    Args:
        database: where to; what it holds already stays.
        seed: as in `generate`.
        size: as in `generate`.
        now: as in `generate`.
        marked: as in `generate`.
        batch: documents of one insertion.

    Returns:
        What Novu's queries must answer if the database was empty.

    Raises:
        pymongo.errors.PyMongoError: the database can't be reached or refuses.
    """
    return count(_insert(database, generate(seed, size, now, marked=marked), batch))


def write(
    database: Database[Document],
    rate: float,
    seconds: float,
    *,
    seed: int = 1,
    stop: threading.Event | None = None,
    keep: float = 3600,
) -> Written:
    """Write to a database as a living Novu does: events, subscribers, and old events pruned.

    Of five documents inserted four are events; for five inserted one old event is deleted. The
    ids are made by the driver at the moment of the insertion.

    Args:
        database: where to.
        rate: insertions a second.
        seconds: for how long; a database slower than the rate takes longer.
        seed: of the contents.
        stop: set by another thread to end early.
        keep: only events whose id is older than this many seconds are deleted, so that a test
            can delete nothing that has not been counted as created.

    Returns:
        How many documents were written and deleted.

    Raises:
        pymongo.errors.PyMongoError: the database can't be reached or refuses.
    """
    stop = stop or threading.Event()
    dice = _Dice(seed, datetime.now(UTC), marked=False)
    target = _invent_target(dice)
    done: Counter[str] = Counter()
    begin = time.monotonic()
    for n in range(int(rate * seconds)):
        if stop.wait(max(0.0, begin + n / rate - time.monotonic())):
            break
        collection = "subscribers" if n % 5 == 4 else "notifications"  # noqa: PLR2004 - the fifth
        database[collection].insert_one(_live(dice, target, collection))
        done[collection] += 1
        if n % 5 == 0:
            done["deleted"] += _delete_oldest(database, keep)
    return Written(done["notifications"], done["subscribers"], done["deleted"])


def _live(dice: _Dice, target: _Target, collection: str) -> Document:
    if collection == "subscribers":
        document = _subscriber(dice, target.place, 0, _person(dice, dice.random.randrange(10**6)))
    else:
        document = _event(dice, target, 0)
    now = datetime.now(UTC)
    return document | {"_id": ObjectId(), "createdAt": now, "updatedAt": now}


def _delete_oldest(database: Database[Document], keep: float) -> int:
    oldest = ObjectId.from_datetime(datetime.now(UTC) - timedelta(seconds=keep))
    found = database["notifications"].find_one_and_delete(
        {"_id": {"$lt": oldest}}, projection={"_id": 1}, sort=[("_id", 1)]
    )
    return 0 if found is None else 1


def _everything(dice: _Dice, events: int) -> Iterator[Item]:
    organizations = 2 + events // 5000
    targets: list[_Target] = []
    for n in range(organizations):
        places, items = _organization(dice, n)
        yield from items
        if n == organizations - 1:
            break  # the last one is fresh: it has what Novu makes for it, and nothing else
        pair = [_Target(place) for place in places]
        for item in _contents(dice, places, n, events // (4 * organizations) + 10):
            for target in pair:
                target.note(*item)
            yield item
        targets += pair
    for n in range(events):
        yield "notifications", _event(dice, targets[n % len(targets)], n // len(targets))


def _organization(dice: _Dice, n: int) -> tuple[list[_Place], list[Item]]:
    """Make an organization as Novu does: with two environments, each with its inbox."""
    owner = dice.stamped(_user(dice))
    organization = dice.stamped(
        {
            "name": dice.word().title(),
            "apiServiceLevel": "free",
            "defaultLocale": "en_US",
            "domain": "example.org",
        }
    )
    items: list[Item] = [("organizations", organization), ("users", owner)]
    items += [("users", dice.stamped(_user(dice))) for _ in range(n % 3)]
    places = []
    for name in ("Development", "Production"):
        environment = _environment(dice, name, organization["_id"], owner["_id"])
        place = _Place(organization["_id"], environment["_id"], owner["_id"])
        items.append(("environments", environment))
        items.append(("integrations", _integration(dice, place, 0, ("novu", "in_app"))))
        places.append(place)
    return places, items


def _contents(dice: _Dice, places: list[_Place], n: int, subscribers: int) -> Iterator[Item]:
    """Fill both environments of an organization alike; the first also with all that is odd."""
    providers = [_PROVIDERS[(n + i) % len(_PROVIDERS)] for i in range(3 + n % 4)]
    people = (_person(dice, i) for i in range(subscribers))
    for place in places:
        for i, provider in enumerate(providers, start=1):
            yield "integrations", _integration(dice, place, i, provider)
        for i in range(12):
            yield "notificationtemplates", _workflow(dice, place, i)
        for i in range(len(_TOPICS)):
            yield "topics", _topic(dice, place, i)
    for i, person in enumerate(people):
        for place in places:
            yield "subscribers", _subscriber(dice, place, i, person)
    if n == 0:
        yield from _oddities(dice, places[0])


def _oddities(dice: _Dice, place: _Place) -> Iterator[Item]:
    for odd in _ODD_PROVIDERS:
        integration = _integration(dice, place, 0, ("sendgrid", "email"))
        yield "integrations", _with(integration, "providerId", odd)
    for odd in _ODD_STEPS:
        yield "notificationtemplates", _with(_workflow(dice, place, 0), "steps", odd)


def _with(document: Document, field: str, value: object) -> Document:
    if value is _ABSENT:
        return {name: kept for name, kept in document.items() if name != field}
    return document | {field: value}


def _user(dice: _Dice) -> Document:
    first, last = dice.word(), dice.word()
    return {
        "firstName": first,
        "lastName": last,
        "email": f"{first}.{last}@example.org",
        "password": f"$2b$10${dice.hex(11)}",
        "tokens": [],
    }


def _environment(dice: _Dice, name: str, organization: ObjectId, owner: ObjectId) -> Document:
    key = {"key": f"nvsk.{dice.hex(16)}:{dice.hex(16)}", "hash": dice.hex(32), "_userId": owner}
    fields = {
        "name": name,
        "identifier": dice.hex(6),
        "_organizationId": organization,
        "apiKeys": [key],
    }
    return dice.stamped(fields)


def _integration(dice: _Dice, place: _Place, index: int, provider: tuple[str, str]) -> Document:
    name, channel = provider
    secrets = {
        "apiKey": f"nvsk.{dice.hex(16)}:{dice.hex(16)}",
        "from": "no-reply@example.org",
    }
    fields = {
        **place.ids(),
        "providerId": name,
        "channel": channel,
        "credentials": {"hmac": False} if channel == "in_app" else secrets,
        "active": True,
        "name": name.title(),
        "identifier": f"{name}-{dice.hex(4)}",
        "primary": index == 1,
    }
    return dice.deletable(index, place, fields)


def _workflow(dice: _Dice, place: _Place, index: int) -> Document:
    name = f"{_WORKFLOWS[index % len(_WORKFLOWS)]} {index}"
    identifier = name.lower().replace(" ", "-")
    trigger = {
        "_id": dice.object_id(dice.moment()),
        "type": "event",
        "identifier": identifier,
        "variables": [],
    }
    fields = {
        "name": name,
        "active": True,
        "type": "BRIDGE",
        "origin": "novu-cloud",
        "status": "ACTIVE",
        "draft": False,
        "tags": [identifier.split("-", 1)[0]],
        "triggers": [trigger],
        "steps": [_step(dice, n) for n in range(1 + index % 4)],
        **place.ids(),
    }
    return dice.deletable(index, place, fields)


def _step(dice: _Dice, n: int) -> Document:
    return {
        "_id": dice.object_id(dice.moment()),
        "active": True,
        "stepId": f"step-{n}",
        "type": "REGULAR",
        "filters": [],
        "_templateId": dice.object_id(dice.moment()),
        "metadata": {},
        "variants": [],
    }


def _topic(dice: _Dice, place: _Place, index: int) -> Document:
    key = _TOPICS[index]
    return dice.stamped({**place.ids(), "key": key, "name": key.replace(":", " ").title()})


def _person(dice: _Dice, number: int) -> Document:
    first, last = dice.word(), dice.word()
    return {
        "firstName": first.title(),
        "lastName": last.title(),
        "phone": f"+49000{dice.random.randrange(10**7):07d}",
        "subscriberId": f"user-{number:06d}",
        "email": f"{first}.{last}@example.org",
        "locale": "en_US",
        "data": {"plan": dice.random.choice(("free", "pro"))},
    }


def _subscriber(dice: _Dice, place: _Place, index: int, person: Document) -> Document:
    return dice.deletable(index, place, {**place.ids(), **person})


def _event(dice: _Dice, target: _Target, index: int) -> Document:
    subscriber = target.subscribers[index % len(target.subscribers)]
    return dice.stamped(
        {
            "_templateId": target.workflows[index % len(target.workflows)],
            **target.place.ids(),
            "_subscriberId": subscriber["_id"],
            "transactionId": f"txn_{dice.hex(4)}",
            "channels": ["in_app", "email"],
            "to": {"subscriberId": subscriber["subscriberId"]},
            "payload": {"orderId": f"A-{dice.random.randrange(10**6)}"},
            "tags": ["order"],
        }
    )


def _invent_target(dice: _Dice) -> _Target:
    ids = [dice.object_id(dice.moment()) for _ in range(4)]
    place = _Place(ids[0], ids[1], ids[2])
    return _Target(place, [ids[3]], [dice.stamped(_person(dice, 0))])


def _insert(database: Database[Document], items: Iterator[Item], batch: int) -> Iterator[Item]:
    """Insert on the way; documents of one collection that follow each other go together."""
    for collection, run in itertools.groupby(items, key=lambda item: item[0]):
        documents = (document for _, document in run)
        while chunk := list(itertools.islice(documents, batch)):
            database[collection].insert_many(chunk, ordered=False)
            yield from ((collection, document) for document in chunk)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Data in the shape of Novu's database.")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same data")
    sizes = ", ".join(f"{name} ({events})" for name, events in SIZES.items())
    parser.add_argument("--size", default="small", help=f"how many events: a number, or {sizes}")
    parser.add_argument("--now", type=datetime.fromisoformat, help="all is older (default: now)")
    parser.add_argument("--url", help="load into this database; without it, print")
    parser.add_argument("--replace", action="store_true", help="drop the collections first")
    parser.add_argument("--marked", action="store_true", help=f"every text holds {MARK}")
    parser.add_argument("--write", type=float, metavar="RATE", help="write so many a second")
    parser.add_argument("--seconds", type=float, default=60, help="for how long (default: 60)")
    return parser.parse_args(arguments)


def _fill(database: Database[Document], options: argparse.Namespace, now: datetime) -> int:
    found = sorted(set(COLLECTIONS) & set(database.list_collection_names()))
    if found and not options.replace:
        print(f"{database.name} holds {', '.join(found)} already; --replace drops them first")
        return 1
    for collection in found:
        database.drop_collection(collection)
    expected = load(database, seed=options.seed, size=options.size, now=now, marked=options.marked)
    for collection, documents in expected.documents.items():
        print(f"{collection:22}{documents:>10}")
    print(f"{'steps':22}{expected.steps:>10}")
    for provider, integrations in sorted(expected.providers.items()):
        print(f"{'provider ' + provider:22}{integrations:>10}")
    return 0


def _print(options: argparse.Namespace, now: datetime) -> int:
    for collection, document in generate(options.seed, options.size, now, marked=options.marked):
        print(dumps({collection: document}, json_options=RELAXED_JSON_OPTIONS))
    return 0


def _connect(options: argparse.Namespace, now: datetime) -> int:
    client: MongoClient[Document] = MongoClient(options.url, appname="novu-data")
    with client:
        database = client.get_default_database(DEFAULT_DATABASE)
        if options.write is None:
            return _fill(database, options, now)
        written = write(database, options.write, options.seconds, seed=options.seed)
        print(
            f"{written.events} events and {written.subscribers} subscribers written, "
            f"{written.deleted} old events deleted"
        )
        return 0


def main(arguments: list[str]) -> int:
    """Print, load or write; the exit code."""
    options = _parse(arguments)
    now = (options.now or datetime.now(UTC)).astimezone(UTC)
    try:
        generate(options.seed, options.size, now, marked=options.marked)
    except ValueError as error:
        print(f"--size: {error}", file=sys.stderr)
        return 2
    try:
        return _print(options, now) if options.url is None else _connect(options, now)
    except BrokenPipeError:  # `| head` has enough; what is still in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (PyMongoError, ValueError) as error:  # its text may hold a piece of the URL
        print(f"The database can't be used: {type(error).__name__}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
