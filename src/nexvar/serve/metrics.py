"""Counts of a server, as the text that Prometheus reads. No name of a file, sequence or variant is ever a label."""

from __future__ import annotations

import threading
from collections import defaultdict

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)  # seconds
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and one histogram; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._seconds: dict[str, list[float]] = {}  # path -> counts by bucket, and the sum

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Count: ``nexvar_<name>_total``."""
        with self._lock:
            self._counts[name][tuple(sorted(labels.items()))] += value

    def request(self, path: str, status: int, seconds: float) -> None:
        """One request; ``path`` is the route's template, so that there are few."""
        self.add("requests", path=path, status=str(status))
        with self._lock:
            row = self._seconds.setdefault(path, [0.0] * (len(BUCKETS) + 2))
            for i, bucket in enumerate(BUCKETS):
                row[i] += seconds <= bucket
            row[-2] += 1
            row[-1] += seconds

    def text(self, now: list[tuple[str, dict[str, str], float]]) -> str:
        """Everything, and values of this moment: (name, labels, value), those of one name together."""
        lines = []
        with self._lock:
            for name, rows in sorted(self._counts.items()):
                lines.append(f"# TYPE nexvar_{name}_total counter")
                lines += [f"nexvar_{name}_total{_labels(labels)} {value:g}" for labels, value in sorted(rows.items())]
            lines.append("# TYPE nexvar_request_seconds histogram")
            for path, row in sorted(self._seconds.items()):
                bounds = [*(f"{bucket:g}" for bucket in BUCKETS), "+Inf"]
                for bound, count in zip(bounds, row, strict=False):
                    lines.append(f"nexvar_request_seconds_bucket{_labels((('path', path), ('le', bound)))} {count:g}")
                lines.append(f"nexvar_request_seconds_count{_labels((('path', path),))} {row[-2]:g}")
                lines.append(f"nexvar_request_seconds_sum{_labels((('path', path),))} {row[-1]:g}")
        for name in dict.fromkeys(name for name, _, _ in now):
            lines.append(f"# TYPE nexvar_{name} gauge")
            values = ((tuple(labels.items()), value) for each, labels, value in now if each == name)
            lines += [f"nexvar_{name}{_labels(labels)} {value:g}" for labels, value in values]
        return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{quoted(value)}"' for name, value in labels) + "}" if labels else ""
