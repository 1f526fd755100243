"""A short torture: everything that `make torture` does, for ten seconds, with less rest between the blows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.xdist_group("torture")
@pytest.mark.timeout(400)
def test_a_short_torture(tmp_path: Path) -> None:
    """Nodes are killed, frozen and drained, PostgreSQL dies once: nothing acknowledged is lost, nothing counts twice."""
    ran = subprocess.run(
        [sys.executable, "-m", "torture", "--seeds", "1", "--seconds", "10", "--at-once", "24", "--calm", "0.5",
         "--folder", str(tmp_path)],
        capture_output=True, text=True, timeout=380, check=False, cwd=ROOT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
    summary = json.loads(ran.stdout.splitlines()[-1])
    assert (summary["green"], summary["failed"]) == (1, [])
    of_seed = summary["of_each"][0]
    assert of_seed["accepted"] > 100
    assert of_seed["timers_fired"] > 20
    assert sum(of_seed["chaos"].values()) >= 3
