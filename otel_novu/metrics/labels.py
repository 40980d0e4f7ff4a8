"""The attributes of the usage figures: the database turns what it holds into closed lists."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

OTHER, UNKNOWN = "other", "unknown"

# The words below are those of Novu 3.15.
_CHANNELS = ("in_app", "email", "sms", "chat", "push")
_STEP_TYPES = (*_CHANNELS, "digest", "trigger", "delay", "throttle", "custom", "http_request")
OPEN_STATUSES = ("queued", "running", "delayed")
# What a failed step leaves in `jobs.error`: constants of `DetailEnum`.
_FAILURE_REASONS: Mapping[str, tuple[str, ...]] = {
    "provider_error": ("Unexpected provider error",),
    "no_integration": ("Subscriber does not have an active integration",),
    "no_channel": ("Subscriber does not have a configured channel",),
    "content": ("Message content could not be generated",),
    "chat_failed": ("All chat channels failed to send the message",),
    "push_failed": ("There was one or more errors when trying to execute the notification",),
    "provider_limit": ("Novu's provider limit has been reached",),
    "action_step": (
        "Action step execution failed",
        "Response body schema validation failed",
        "HTTP request step received a non-object response",
    ),
}
# Values of `jobs.deliveryLifecycleState.detail`, since Novu 3.11.
_SKIP_REASONS = (
    "step_condition",
    "preference",
    "missing_phone",
    "missing_email",
    "missing_push_token",
    "missing_webhook_url",
    "some_channels_missing_credentials",
    "workflow_missing_channel_step",
    "unknown_error",
    "execution_stopped",
    "execution_canceled_by_user",
)
_DELAYS = {"1s": 1, "10s": 10, "1m": 60, "10m": 600, "1h": 3600}  # at most so many seconds
_PROVIDER = "[a-z0-9][a-z0-9_.-]{0,63}"

Expression = Any  # of MongoDB's aggregation


@dataclass(frozen=True, slots=True)
class Label:
    """One attribute; documents are grouped by `group`, and `value` maps a path to that."""

    key: str  # the attribute's name
    words: tuple[str, ...] = ()  # all values that it can have; empty where `form` says it
    group: Expression = None  # over a document
    value: Callable[[str], Expression] = lambda path: path  # over a group
    form: str = ""  # a regular expression

    @property
    def pattern(self) -> re.Pattern[str]:
        """All values that can be sent; `other` also sums what is beyond a limit."""
        return re.compile(self.form or "|".join(map(re.escape, (*self.words, OTHER))))


def _closed(key: str, field: str, words: tuple[str, ...]) -> Label:
    def value(path: str) -> Expression:
        return {"$cond": [{"$in": [path, list(words)]}, path, OTHER]}

    return Label(key, (*words, OTHER), field, value)


def _missing(path: str) -> Expression:
    return {"$in": [{"$type": path}, ["missing", "null", "undefined"]]}


def _provider(path: str) -> Expression:
    # `$regexMatch` fails for what is no text, but returns false for null.
    text = {"$cond": [{"$eq": [{"$type": path}, "string"]}, path, None]}
    # `\z`, because `$` would accept a line feed at the end (PCRE, on the server).
    valid = {"$regexMatch": {"input": text, "regex": rf"^{_PROVIDER}\z"}}
    return {"$cond": [_missing(path), UNKNOWN, {"$cond": [valid, path, OTHER]}]}


def _skip_reason(path: str) -> Expression:
    known = {"$cond": [{"$in": [path, list(_SKIP_REASONS)]}, path, OTHER]}
    return {"$cond": [_missing(path), UNKNOWN, known]}


def _failure_reason() -> Expression:
    branches = [
        {"case": {"$in": ["$error", list(texts)]}, "then": reason}
        for reason, texts in _FAILURE_REASONS.items()
    ]
    return {"$switch": {"branches": branches, "default": OTHER}}


def _delay() -> Expression:
    # Both ids begin with the second in which they were made.
    late = {"$subtract": [{"$toDate": "$_id"}, {"$toDate": "$_notificationId"}]}  # milliseconds
    branches = [
        {"case": {"$lte": [late, 1000 * most]}, "then": word} for word, most in _DELAYS.items()
    ]
    return {"$switch": {"branches": branches, "default": "longer"}}


def _environment_type(_: str) -> Expression:
    """Return Novu's own rule: without a type, an environment is `dev` by its name, else `prod`."""
    kind, name = ({"$arrayElemAt": [f"$environment.{field}", 0]} for field in ("type", "name"))
    without = {"$eq": [{"$ifNull": [kind, ""]}, ""]}
    by_name = {"$cond": [{"$and": [without, {"$eq": [name, "Development"]}]}, "dev", "prod"]}
    return {"$cond": [{"$in": [kind, ["dev", "prod"]]}, kind, by_name]}


PROVIDER = Label("novu.provider.id", (), "$providerId", _provider, _PROVIDER)
CHANNEL = _closed("novu.channel", "$channel", _CHANNELS)
MESSAGE_STATUS = _closed("novu.message.status", "$status", ("sent", "error", "warning"))
JOB_STATUS = Label("novu.job.status", OPEN_STATUSES, "$status")
STEP_TYPE = _closed("novu.step.type", "$type", _STEP_TYPES)
ENVIRONMENT = Label("novu.environment.type", ("prod", "dev"), "$_environmentId", _environment_type)
FAILURE_REASON = Label("novu.failure.reason", (*_FAILURE_REASONS, OTHER), _failure_reason())
SKIP_REASON = Label(
    "novu.skip.reason",
    (*_SKIP_REASONS, UNKNOWN, OTHER),
    "$deliveryLifecycleState.detail",
    _skip_reason,
)
DELAY = Label("novu.delay", (*_DELAYS, "longer"), _delay())
AGE = Label("novu.job.age", ("1h", "1d", "7d"))
FIGURE = Label("novu.figure", ("event", "message", "job", "subscriber"))
COLLECTION = Label(
    "novu.collection",
    ("notifications", "messages", "jobs", "executiondetails", "subscribers", "preferences"),
)
STORAGE = Label("novu.storage", ("data", "index"))
