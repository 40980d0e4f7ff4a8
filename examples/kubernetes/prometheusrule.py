"""Generates prometheusrule.yaml, for the Prometheus Operator, from the alerts of Prometheus."""

from pathlib import Path

HERE = Path(__file__).parent
ALERTS = HERE.parent / "prometheus" / "alerts.yml"
RULE = HERE / "prometheusrule.yaml"
HEADER = """\
# The alerts for the Prometheus Operator. Generated from examples/prometheus/alerts.yml by
#   python examples/kubernetes/prometheusrule.py
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
    """The manifest; its `groups` are the very lines of the alerts, indented."""
    groups = ALERTS.read_text().partition("\ngroups:\n")[2]
    lines = ["groups:", *groups.splitlines()]
    return HEADER + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    RULE.write_text(generate())
