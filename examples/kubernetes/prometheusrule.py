"""Generates prometheusrule.yaml, for the Prometheus Operator, from Prometheus' rules."""

from pathlib import Path

HERE = Path(__file__).parent
PARTS = [HERE.parent / "prometheus" / name for name in ("rules.yml", "alerts.yml")]
RULE = HERE / "prometheusrule.yaml"
HEADER = """\
# Recording rules and alerts for the Prometheus Operator. Generated from examples/prometheus by
#   make dashboard
#
#   kubectl apply -n novu -f prometheusrule.yaml
#
# The operator takes rules whose labels match its `ruleSelector`: add these labels below.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: otel-novu
  labels:
    app.kubernetes.io/name: otel-novu
spec:
"""


def generate() -> str:
    """The manifest; its `groups` are the very lines of those files, indented."""
    lines = ["groups:"]
    for part in PARTS:
        lines += part.read_text().partition("\ngroups:\n")[2].splitlines()
    return HEADER + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    RULE.write_text(generate())
