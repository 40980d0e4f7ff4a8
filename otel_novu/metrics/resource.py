"""The resource attributes of every report, beside the operator's own."""

from collections.abc import Mapping

from otel_novu.metrics.metric import Attribute, Text

SERVICE_NAME = "service.name"
INSTANCE_ID = "service.instance.id"
SDK_LANGUAGE = "telemetry.sdk.language"
SDK_NAME = "telemetry.sdk.name"
SDK_VERSION = "telemetry.sdk.version"

_SDK = "no: it is the same wherever this version runs"

RESOURCE: Mapping[str, Attribute] = {
    SERVICE_NAME: Attribute(
        Text(".+", "printable characters"),
        source="`OTEL_SERVICE_NAME`, else `service.name` of `OTEL_RESOURCE_ATTRIBUTES`, "
        "else `novu`",
        identifies="what the operator writes there; `novu` identifies nobody",
    ),
    INSTANCE_ID: Attribute(
        Text("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "a UUID"),
        source="random, made once and kept in the state directory, or `OTEL_NOVU_INSTANCE_ID`",
        identifies="it is a pseudonym: it shows which reports come from the same instance; "
        "`otel-novu reset-id` makes a new one",
    ),
    SDK_LANGUAGE: Attribute(Text("python", "`python`"), "OpenTelemetry's SDK", _SDK),
    SDK_NAME: Attribute(Text("opentelemetry", "`opentelemetry`"), "OpenTelemetry's SDK", _SDK),
    SDK_VERSION: Attribute(Text(r"[\w.+!-]{1,64}", "a version"), "OpenTelemetry's SDK", _SDK),
}
