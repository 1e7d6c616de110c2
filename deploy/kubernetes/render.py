"""Write the kustomize base anew: what the Helm chart gives with its default values.

    python3 deploy/kubernetes/render.py        # needs `helm`; the tests say when it is due

The chart is the source: what is written here is its objects without the marks of a Helm release.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHART = HERE.parent / "helm" / "celery-actors"
HEAD = "# Written by deploy/kubernetes/render.py: change the chart, not this file.\n"
#: What only a Helm release has.
_MARKS = re.compile(
    r"^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n|^# Source: .*\n", re.MULTILINE
)
#: By file: the words for `helm template`.
TARGETS = {
    "base/cluster.yaml": [],
    "keda/scaling.yaml": [
        "--set", "autoscaling.enabled=true", "--show-only", "templates/keda.yaml",
    ],
}  # fmt: skip


def rendered(values: list[str], helm: str = "helm") -> str:
    """Return the chart's objects with these values."""
    command = [helm, "template", "celery-actors", str(CHART), "--namespace", "celery-actors"]
    done = subprocess.run([*command, *values], check=True, capture_output=True, text=True)
    return HEAD + _MARKS.sub("", done.stdout)


if __name__ == "__main__":
    for name, values in TARGETS.items():
        (HERE / name).write_text(rendered(values, *sys.argv[1:]))
