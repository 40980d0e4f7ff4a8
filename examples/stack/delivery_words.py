"""The words of Novu 3.15 that the delivery figures know: all others count as `other`.

From novuhq/novu at v3.15.0, with the file of each list.
"""

from collections.abc import Mapping

# What a failed step leaves in `jobs.error`: constants of `DetailEnum` in
# libs/application-generic/src/usecases/create-execution-details/types/index.ts
FAILURE_REASONS: Mapping[str, str] = {
    "Unexpected provider error": "provider_error",
    "Subscriber does not have an active integration": "no_integration",
    "Subscriber does not have a configured channel": "no_channel",
    "Message content could not be generated": "content",
    "All chat channels failed to send the message": "chat_failed",
    "There was one or more errors when trying to execute the notification": "push_failed",
    "Novu's provider limit has been reached": "provider_limit",
    "Action step execution failed": "action_step",
    "Response body schema validation failed": "action_step",
    "HTTP request step received a non-object response": "action_step",
}
# packages/shared/src/entities/workflow-run/delivery-lifecycle-detail.enum.ts
SKIP_REASONS: tuple[str, ...] = ("step_condition", "preference", "missing_phone", "missing_email")
SKIP_REASONS += ("missing_push_token", "missing_webhook_url", "some_channels_missing_credentials")
SKIP_REASONS += ("workflow_missing_channel_step", "unknown_error", "execution_stopped")
SKIP_REASONS += ("execution_canceled_by_user",)
# packages/shared/src/types/channel.ts
CHANNELS = ("in_app", "email", "sms", "chat", "push")
STEP_TYPES = (*CHANNELS, "digest", "trigger", "delay", "throttle", "custom", "http_request")
# packages/shared/src/entities/job/status.enum.ts
OPEN_STATUSES = ("queued", "running", "delayed")
JOB_STATUSES = ("pending", *OPEN_STATUSES, "completed", "failed", "canceled", "merged", "skipped")
MESSAGE_STATUSES = ("sent", "error", "warning")
ENVIRONMENT_TYPES = ("dev", "prod")
# The longest delay of each class, in seconds; what is longer is `longer`.
DELAYS: Mapping[str, int] = {"1s": 1, "10s": 10, "1m": 60, "10m": 600, "1h": 3600}

# A marked document keeps these words in these fields; all other texts in it are marks.
WORDS: Mapping[str, frozenset[str]] = {
    "status": frozenset((*MESSAGE_STATUSES, *JOB_STATUSES)),
    "channel": frozenset(CHANNELS),
    "type": frozenset((*STEP_TYPES, *ENVIRONMENT_TYPES)),
    "error": frozenset(FAILURE_REASONS),
    "detail": frozenset(SKIP_REASONS),
}

# In the shape of Novu's own indexes; what it makes without MONGO_AUTO_CREATE_INDEXES is none.
INDEXES: Mapping[str, tuple[str, ...]] = {
    "notifications": ("transactionId", "createdAt"),
    "messages": ("transactionId", "_subscriberId", "createdAt"),
    "jobs": ("transactionId", "_parentId", "_notificationId", "createdAt"),
    "executiondetails": ("_jobId", "_notificationId", "createdAt"),
}
