import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import novu_data
import pytest
from bson import ObjectId, encode

from otel_novu.metrics.question import PROVIDER_PATTERN
from otel_novu.metrics.usage import COLLECTIONS

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
MARKED_TEXT = re.compile(r"CANARY[0-9]{10}X*\n?")

# The documents of Novu's data model: each collection's fields with the types of their values.
SHAPES = {
    "users": "_id:ObjectId firstName:str lastName:str email:str password:str tokens:list",
    "organizations": "_id:ObjectId name:str apiServiceLevel:str defaultLocale:str domain:str",
    "notificationtemplates": "_id:ObjectId name:str active:bool type:str origin:str status:str "
    "draft:bool tags:list triggers:list steps:list _environmentId:ObjectId "
    "_organizationId:ObjectId deleted:bool",
    "notifications": "_id:ObjectId _templateId:ObjectId _environmentId:ObjectId "
    "_organizationId:ObjectId _subscriberId:ObjectId transactionId:str channels:list to:dict "
    "payload:dict tags:list",
    "topics": "_id:ObjectId _environmentId:ObjectId _organizationId:ObjectId key:str name:str",
    "subscribers": "_id:ObjectId _organizationId:ObjectId _environmentId:ObjectId firstName:str "
    "lastName:str phone:str subscriberId:str email:str locale:str data:dict deleted:bool",
    "integrations": "_id:ObjectId _environmentId:ObjectId _organizationId:ObjectId "
    "providerId:str channel:str credentials:dict active:bool name:str identifier:str "
    "primary:bool deleted:bool",
}
STAMPS = " createdAt:datetime updatedAt:datetime __v:int"
STEP = (
    "_id:ObjectId active:bool stepId:str type:str filters:list _templateId:ObjectId "
    "metadata:dict variants:list"
)


def documents(collection: str, size: int | str = "small", **more: Any) -> list[dict[str, Any]]:
    return [
        document
        for name, document in novu_data.generate(1, size, NOW, **more)
        if name == collection
    ]


def shape(document: dict[str, Any]) -> set[str]:
    return {f"{field}:{type(value).__name__}" for field, value in document.items()}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for element in value.values():
            yield from texts(element)
    elif isinstance(value, list):
        for element in value:
            yield from texts(element)


def ids(value: Any) -> Iterator[ObjectId]:
    if isinstance(value, ObjectId):
        yield value
    elif isinstance(value, dict):
        for element in value.values():
            yield from ids(element)
    elif isinstance(value, list):
        for element in value:
            yield from ids(element)


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data() -> None:
    first, again, other = (list(novu_data.generate(seed, "small", NOW)) for seed in (1, 1, 2))
    assert first == again
    assert {d["_id"] for _, d in first}.isdisjoint({d["_id"] for _, d in other})


@pytest.mark.parametrize("size", [0, 1, 1000, "small", "1000", 12_345])
def test_size_is_the_number_of_events(size: int | str) -> None:
    wanted = novu_data.SIZES.get(str(size)) or int(size)
    assert len(documents("notifications", size)) == wanted


@pytest.mark.parametrize("size", ["-1", "1h", "", "huge", -5, "1.5"])
def test_a_size_that_is_none_is_an_error_that_names_what_is_accepted(size: int | str) -> None:
    with pytest.raises(ValueError, match="neither small, medium, large nor a number from 0 on"):
        novu_data.generate(1, size, NOW)


def test_all_seven_collections_are_filled_and_ids_are_unique() -> None:
    items = list(novu_data.generate(1, "small", NOW))
    assert set(COLLECTIONS) <= {collection for collection, _ in items}
    assert {collection for collection, _ in items} == set(novu_data.COLLECTIONS)
    assert len({document["_id"] for _, document in items}) == len(items)


@pytest.mark.parametrize("collection", sorted(SHAPES))
def test_documents_have_the_shape_of_novus(collection: str) -> None:
    wanted = set((SHAPES[collection] + STAMPS).split())
    shapes = Counter(frozenset(shape(document)) for document in documents(collection))
    assert frozenset(wanted) in shapes
    deleted = wanted | {"deletedAt:datetime", "deletedBy:ObjectId"}
    old = {entry for entry in wanted if entry != "deleted:bool"}
    if "deleted:bool" in wanted:
        assert {frozenset(deleted), frozenset(old)} <= set(shapes)
    else:
        assert set(shapes) == {frozenset(wanted)}
    assert all(encode(document) for document in documents(collection))


def test_steps_and_triggers_have_the_shape_of_novus() -> None:
    for workflow in documents("notificationtemplates"):
        steps = workflow.get("steps")
        for step in steps if isinstance(steps, list) else []:
            assert shape(step) == set(STEP.split())
        for trigger in workflow["triggers"]:
            assert set(trigger) == {"_id", "type", "identifier", "variables"}


def test_each_organization_has_two_environments_with_copies_of_the_same() -> None:
    environments = documents("environments", 12_000)
    by_organization = Counter(document["_organizationId"] for document in environments)
    organizations = {document["_id"] for document in documents("organizations", 12_000)}
    assert by_organization == dict.fromkeys(organizations, 2)
    for collection, key in [("topics", "key"), ("subscribers", "subscriberId")]:
        copies = Counter(
            (document["_organizationId"], document[key])
            for document in documents(collection, 12_000)
        )
        assert set(copies.values()) == {2}


def test_a_fresh_organization_has_two_integrations_of_the_provider_novu() -> None:
    fresh = documents("organizations")[-1]["_id"]
    providers = [
        document["providerId"]
        for document in documents("integrations")
        if document["_organizationId"] == fresh
    ]
    assert providers == ["novu", "novu"]
    for collection in ("notificationtemplates", "topics", "subscribers", "notifications"):
        assert fresh not in {document["_organizationId"] for document in documents(collection)}


def test_events_refer_to_workflows_and_subscribers_of_their_environment() -> None:
    targets = {
        (document["_environmentId"], document["_id"])
        for collection in ("notificationtemplates", "subscribers")
        for document in documents(collection)
    }
    for event in documents("notifications"):
        environment = event["_environmentId"]
        assert (environment, event["_templateId"]) in targets
        assert (environment, event["_subscriberId"]) in targets


def test_ids_tell_the_time_of_creation_within_the_month_before_and_mostly_at_work() -> None:
    events = documents("notifications", 5000)
    moments = [document["createdAt"] for document in events]
    assert moments == [document["_id"].generation_time for document in events]
    assert all(NOW - timedelta(days=34) < moment < NOW - timedelta(days=1) for moment in moments)
    assert len({moment.date() for moment in moments}) > 20
    at_work = sum(moment.weekday() < 5 and 8 <= moment.hour < 18 for moment in moments)
    assert 0.75 < at_work / len(moments) < 0.97


def test_every_odd_provider_and_every_odd_steps_is_there() -> None:
    absent = object()
    providers = [document.get("providerId", absent) for document in documents("integrations")]
    for odd in (absent, None, 42, "Our Own Gateway", "sendgrid\n", "a" * 65, ""):
        assert odd in providers
    steps = [document.get("steps", absent) for document in documents("notificationtemplates")]
    for odd_steps in (absent, None, [], "in-app-step", {"0": "in-app-step"}):
        assert odd_steps in steps


def test_the_counts_are_those_of_the_documents() -> None:
    items: list[tuple[str, dict[str, Any]]] = [
        ("integrations", {"providerId": "slack", "deleted": False}),
        ("integrations", {"providerId": "slack"}),
        ("integrations", {"providerId": "slack", "deleted": True}),
        ("integrations", {"providerId": "Slack"}),
        ("integrations", {"providerId": "slack\n"}),
        ("integrations", {"providerId": None}),
        ("integrations", {}),
        ("notificationtemplates", {"steps": [1, 2]}),
        ("notificationtemplates", {"steps": [1], "deleted": True}),
        ("notificationtemplates", {"steps": "ab"}),
        ("notificationtemplates", {}),
        ("users", {}),
    ]
    expected = novu_data.count(items)
    assert expected.documents == {"integrations": 7, "notificationtemplates": 4, "users": 1}
    assert expected.steps == 2
    assert expected.providers == {"slack": 2, "other": 2, "unknown": 2}


def test_the_small_data_set_has_these_figures() -> None:
    expected = novu_data.count(novu_data.generate(1, "small", NOW))
    assert expected.documents == {
        "organizations": 2,
        "users": 3,
        "environments": 4,
        "integrations": 18,
        "notificationtemplates": 29,
        "topics": 8,
        "subscribers": 70,
        "notifications": 200,
    }
    assert expected.providers["novu"] == 4
    assert expected.providers["unknown"] == 2
    assert expected.providers["other"] == 6
    assert expected.steps > 0


@pytest.mark.parametrize(
    "provider",
    ["sendgrid", "a", "a" * 64, "9.a_b-c", "a" * 65, "", "-a", "A", "a b", "a\n", "ä", "a\0"],
)
def test_a_provider_is_lawful_here_as_on_the_server(provider: str) -> None:
    pattern = re.compile(PROVIDER_PATTERN.replace(r"\z", r"\Z"), re.ASCII)
    assert novu_data.is_lawful_provider(provider) == bool(pattern.search(provider))


def test_marked_data_has_the_figures_of_the_same_data_unmarked() -> None:
    plain, marked = (
        novu_data.count(novu_data.generate(1, "small", NOW, marked=marked))
        for marked in (False, True)
    )
    assert plain == marked


def test_every_text_of_marked_data_but_lawful_providers_is_a_mark_of_its_own() -> None:
    seen: list[str] = []
    for _, document in novu_data.generate(1, "small", NOW, marked=True):
        if novu_data.is_lawful_provider(document.get("providerId")):
            del document["providerId"]
        seen += texts(document)
    assert [text for text in seen if not MARKED_TEXT.fullmatch(text)] == []
    assert len(set(seen)) == len(seen)
    assert all(len(text) >= 16 and text == text.upper() for text in seen)


def test_names_that_operators_choose_are_marked_too() -> None:
    names = [
        name
        for collection, field in [
            ("notifications", "payload"),
            ("subscribers", "data"),
            ("integrations", "credentials"),
        ]
        for document in documents(collection, marked=True)
        for name in document[field]
    ]
    assert [name for name in names if not MARKED_TEXT.fullmatch(name)] == []
    assert len(set(names)) == len(names) > 0


def test_every_id_of_marked_data_holds_the_mark() -> None:
    items = list(novu_data.generate(1, "small", NOW, marked=True))
    found = [element for _, document in items for element in ids(document)]
    assert found
    assert all(b"CANARY" in element.binary for element in found)
    assert len({document["_id"] for _, document in items}) == len(items)


def test_marked_odd_providers_stay_odd() -> None:
    providers = [d.get("providerId") for d in documents("integrations", marked=True)]
    marked = [p for p in providers if isinstance(p, str) and "CANARY" in p]
    assert any(provider.endswith("\n") for provider in marked)
    assert any(len(provider) == 65 for provider in marked)


def test_no_more_is_marked_than_ids_can_tell_apart() -> None:
    with pytest.raises(ValueError, match="at most 10000 events can be marked, not 10001"):
        novu_data.generate(1, 10_001, NOW, marked=True)
