"""Novu's own documents: field names, order, times and what is not known."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from otel_novu.metrics.beacon import BeaconReading, Host
from otel_novu.metrics.usage import UsageReading
from otel_novu.novu_report import beacon_document, delivery_document, usage_document

INSTANCE = UUID("ba54fb29-6422-4a83-a0e4-951d767efa73")
# 2024-10-04T11:54:14Z, as in Novu's documentation.
AT = 1_728_042_854.9
HOST = Host(115703808, 8589934592, "somemachine", "192.168.1.4", "darwin", "23.6.0")


def test_the_beacon_is_the_document_of_novus_documentation_to_the_letter() -> None:
    document = beacon_document(BeaconReading(AT, HOST, usage_enabled=True), INSTANCE)
    assert json.dumps(document) == (
        '{"freeMemory": 115703808, "hostname": "somemachine", '
        '"instanceId": "ba54fb29-6422-4a83-a0e4-951d767efa73", '
        '"ipAddress": "192.168.1.4", "platform": "darwin", "release": "23.6.0", '
        '"timestamp": "2024-10-04T11:54:14", "totalMemory": 8589934592}'
    )


@pytest.mark.parametrize(("os_type", "platform"), [("linux", "linux"), ("darwin", "darwin")])
def test_the_platform_is_nodes_word(os_type: str, platform: str) -> None:
    host = replace(HOST, os_type=os_type)
    document = beacon_document(BeaconReading(AT, host, usage_enabled=True), INSTANCE)
    assert document["platform"] == platform


def test_what_the_host_can_not_tell_is_null() -> None:
    host = replace(HOST, memory_free=None, memory_total=None, ip=None)
    document = beacon_document(BeaconReading(AT, host, usage_enabled=True), INSTANCE)
    for field in ("freeMemory", "totalMemory", "ipAddress"):
        assert document[field] is None


def usage(values: dict[str, Any]) -> UsageReading:
    return UsageReading(AT + 16, values, {}, {}, {}, {})


TOTALS = {"event": 1, "organization": 1, "subscriber": 1, "topic": 3, "user": 3, "workflow": 6}
VALUES: dict[str, Any] = {f"{name}.count": {(): count} for name, count in TOTALS.items()}
VALUES |= {"workflow.step.count": {(): 10}}
BY_PROVIDER = {"integration.count": {("novu",): 1, ("example",): 1}}


def test_the_usage_is_the_document_of_novus_documentation_to_the_letter() -> None:
    assert json.dumps(usage_document(usage(VALUES | BY_PROVIDER))) == (
        '{"eventCount": 1, "integrationCount": [{"count": 1, "providerId": "example"}, '
        '{"count": 1, "providerId": "novu"}], "orgCount": 1, "subscriberCount": 1, '
        '"timestamp": "2024-10-04T11:54:30", "topicCount": 3, "totalSteps": 10, '
        '"userCount": 3, "workflowCount": 6}'
    )


def test_a_figure_that_failed_is_null_and_the_others_stand() -> None:
    document = usage_document(usage({"user.count": {(): 3}}))
    assert document["userCount"] == 3
    assert document["eventCount"] is None
    assert document["integrationCount"] is None
    assert list(document) == sorted(document)


def test_the_deliveries_are_told_with_their_labels_and_without_zeros() -> None:
    values = {
        "created.timestamp": {("event",): AT},
        "job.created": {(): 4},
        "message.created": {
            ("email", "sendgrid", "prod", "sent"): 3,
            ("email", "sendgrid", "prod", "error"): 0,
        },
    }
    email = {"channel": "email", "provider.id": "sendgrid", "environment.type": "prod"}
    assert delivery_document(usage(values)) == {
        "created.timestamp": [{"figure": "event", "value": "2024-10-04T11:54:14Z"}],
        "job.created": [{"value": 4}],
        "message.created": [{**email, "message.status": "sent", "value": 3}],
    }
