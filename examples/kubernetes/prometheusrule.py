"""Generates prometheusrule.yaml, for the Prometheus Operator, from Prometheus' rules.

One for each strategy of translation: the default's stands here, the others' beside their rules.
"""

from pathlib import Path

HERE = Path(__file__).parent
SOURCES = {
    HERE / "prometheusrule.yaml": HERE.parent / "prometheus",
    **{f / "prometheusrule.yaml": f for f in sorted((HERE.parent / "translation").glob("*"))},
}
HEADER = """\
# Recording rules and alerts for the Prometheus Operator. Generated from rules.yml and alerts.yml by
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


def generate(source: Path) -> str:
    """The manifest; its `groups` are the very lines of the files in this folder, indented."""
    lines = ["groups:"]
    for name in ("rules.yml", "alerts.yml"):
        lines += (source / name).read_text().partition("\ngroups:\n")[2].splitlines()
    return HEADER + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    for file, source in SOURCES.items():
        file.write_text(generate(source))
