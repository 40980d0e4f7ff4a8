"""The resource's table: what every report says about who reports, beside the operator's own."""

from collections.abc import Mapping

from otel_novu.metrics.metric import Attribute, Text

SERVICE_NAME = "service.name"
INSTANCE_ID = "service.instance.id"
SDK_LANGUAGE = "telemetry.sdk.language"
SDK_NAME = "telemetry.sdk.name"
SDK_VERSION = "telemetry.sdk.version"

_SDK = "no: it is alike wherever this version runs"

RESOURCE: Mapping[str, Attribute] = {
    SERVICE_NAME: Attribute(
        Text(".+", "printable characters"),
        source="`OTEL_SERVICE_NAME`, else `service.name` of `OTEL_RESOURCE_ATTRIBUTES`, "
        "else `novu`",
        identifies="what the operator writes there; `novu` identifies nobody",
    ),
    INSTANCE_ID: Attribute(
        Text("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "a UUID"),
        source="made at random once and kept in the state directory, or `OTEL_NOVU_INSTANCE_ID`",
        identifies="it is pseudonymous: made of nothing, but the same in every report, so that "
        "all reports of one instance are known to be of one; `otel-novu reset-id` makes a new one",
    ),
    SDK_LANGUAGE: Attribute(Text("python", "`python`"), "OpenTelemetry's SDK", _SDK),
    SDK_NAME: Attribute(Text("opentelemetry", "`opentelemetry`"), "OpenTelemetry's SDK", _SDK),
    SDK_VERSION: Attribute(Text(r"[\w.+!-]{1,64}", "a version"), "OpenTelemetry's SDK", _SDK),
}
"""By key, in the order of the documentation."""
