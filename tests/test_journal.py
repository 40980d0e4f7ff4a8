"""The journal: each failure once, until it changes or passes."""

import logging
import threading

import pytest

from otel_novu.journal import LOG, Journal


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, LOG.name)
    return caplog


def lines(said: pytest.LogCaptureFixture, least: int = logging.INFO) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()) for r in said.records if r.levelno >= least]


def test_a_failure_is_said_once_however_often_it_comes(said: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    for _ in range(3):
        journal.failed("delivery", "Nothing listens.")
    assert lines(said) == [("WARNING", "Nothing listens.")]
    # Who wants to know sees that it is still so.
    assert len(lines(said, logging.DEBUG)) == 3


def test_a_failure_that_changes_is_said_again(said: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    for sentence in ("Nothing listens.", "It hangs.", "Nothing listens."):
        journal.failed("delivery", sentence)
    assert [sentence for _, sentence in lines(said)] == [
        "Nothing listens.",
        "It hangs.",
        "Nothing listens.",
    ]


def test_what_is_over_is_said_once_and_only_where_it_failed(
    said: pytest.LogCaptureFixture,
) -> None:
    journal = Journal()
    journal.passed("delivery", "Delivered again.")
    assert lines(said) == []
    journal.failed("delivery", "Nothing listens.")
    for _ in range(2):
        journal.passed("delivery", "Delivered again.")
    journal.failed("delivery", "Nothing listens.")
    assert lines(said) == [
        ("WARNING", "Nothing listens."),
        ("INFO", "Delivered again."),
        ("WARNING", "Nothing listens."),
    ]


def test_subjects_do_not_mix(said: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    journal.failed("beacon", "It hangs.")
    journal.failed("usage", "It hangs.")
    journal.passed("beacon", "The beacon is well again.")
    journal.failed("usage", "It hangs.")
    assert [sentence for _, sentence in lines(said)] == [
        "It hangs.",
        "It hangs.",
        "The beacon is well again.",
    ]


def test_a_percent_sign_in_a_sentence_is_only_one(said: pytest.LogCaptureFixture) -> None:
    Journal().failed("database", "It is 100 %s full.")
    assert lines(said) == [("WARNING", "It is 100 %s full.")]


def test_one_failure_that_many_threads_tell_is_said_once(said: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    start = threading.Barrier(8)

    def tell() -> None:
        start.wait()
        journal.failed("delivery", "Nothing listens.")

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(said)) == 1
