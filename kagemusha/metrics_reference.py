"""The reference of the metrics, written from their table."""

from __future__ import annotations

from cluster.metrics.table import SECTIONS, Measure

_HEAD = """\
# Metrics

<!-- Written by `kagemusha reference metrics`; change cluster/metrics/table.py instead. -->

Every node tells what it knows itself at `GET /metrics` of its [API](api.md), in the text format of Prometheus, to
whoever has a token with the scope viewer. Scrape all nodes: what one says of another is only how it looks from there.

```yaml
scrape_configs:
  - job_name: kagemusha-a  # one for each node: its certificate has its id as its name
    scheme: https
    scrape_interval: 5s
    authorization: {credentials_file: /etc/prometheus/kagemusha.token}
    tls_config: {ca_file: /etc/prometheus/kagemusha-authority.pem, server_name: a}
    static_configs:
      - targets: ["10.0.0.1:7402"]
        labels: {job: kagemusha, cluster: production}
```

[Alert rules](../deploy/monitoring/alerts.yml) and a [dashboard](../deploy/monitoring/dashboard.json) for Grafana use
the label `cluster` and the job `kagemusha`. What to do about an alert is in [operations](operations.md#alerts).

- Every metric has the label `node`; the tables name the others. There is no label `instance`, which belongs to
  Prometheus: an instance of kagemusha is a `program` and a `node`.
- Counters begin at 0 with the daemon, those of an instance with its agent. Use `rate()` and `increase()`.
- What is not known is not told, rather than told as 0: a mirror has no age of a lease, a program without an address no
  address that is held.
- A time is in seconds, a size in bytes.
"""


def reference_markdown() -> str:
    """The whole document."""
    parts = [_HEAD]
    for section in SECTIONS:
        rows = [_row(measure) for measure in section.measures]
        parts += [f"## {section.head}\n", f"{section.note}\n", "| name | kind | unit | labels | meaning |"]
        parts += ["|---|---|---|---|---|", *rows, ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _row(measure: Measure) -> str:
    labels = ", ".join(f"`{label}`" for label in measure.labels)
    return f"| `{measure.name}` | {measure.kind} | {measure.unit} | {labels} | {measure.meaning} |"
