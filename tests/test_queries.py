"""The queries of the usage figures, as data."""

import delivery_words as words
import pytest

from otel_novu.metrics import labels as by
from otel_novu.metrics.labels import OTHER, UNKNOWN, Label


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (by.CHANNEL, {*words.CHANNELS, OTHER}),
        (by.STEP_TYPE, {*words.STEP_TYPES, OTHER}),
        (by.MESSAGE_STATUS, {*words.MESSAGE_STATUSES, OTHER}),
        (by.JOB_STATUS, {*words.OPEN_STATUSES}),
        (by.FAILURE_REASON, {*words.FAILURE_REASONS.values(), OTHER}),
        (by.SKIP_REASON, {*words.SKIP_REASONS, UNKNOWN, OTHER}),
        (by.ENVIRONMENT, {*words.ENVIRONMENT_TYPES}),
        (by.DELAY, {*words.DELAYS, "longer"}),
    ],
    ids=lambda each: each.key if isinstance(each, Label) else "",
)
def test_the_lists_are_those_of_the_sample_data(label: Label, expected: set[str]) -> None:
    assert set(label.words) == expected
    assert all(label.pattern.fullmatch(word) for word in expected)


def test_the_texts_of_failures_are_those_of_the_sample_data() -> None:
    branches = by.FAILURE_REASON.group["$switch"]["branches"]
    found = {text: each["then"] for each in branches for text in each["case"]["$in"][1]}
    assert found == words.FAILURE_REASONS
