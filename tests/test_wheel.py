"""What we give away works where nothing of ours is: a wheel in a fresh environment."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pliers_workflow import __version__

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: object, cwd: Path | None = None) -> str:
    ran = subprocess.run([*map(str, arguments)], capture_output=True, text=True, timeout=500, cwd=cwd, check=False)
    assert ran.returncode == 0, f"{arguments}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_gives_the_same_command(tmp_path: Path) -> None:
    """Built, installed by hash with what the lock names, and run from another folder: the command and the examples work."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "storage/migrations/0001_foundation.sql", "storage/queries/instances.sql", "examples/expense_report.json",
        "definition/workflow-definition.schema.json",
    ):  # fmt: skip
        assert f"pliers_workflow/{needed}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name or name.endswith(".pyc")]
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", ROOT / "requirements.lock")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    run(python, "-m", "pip", "check")
    pliers = environment / "bin" / "pliers"
    assert run(pliers, "--version", cwd=tmp_path).strip() == __version__
    found = run(python, "-c", "import pliers_workflow.examples as e; print(e.__path__[0])", cwd=tmp_path).strip()
    assert "is valid" in run(pliers, "validate", Path(found) / "expense_report.json", cwd=tmp_path)
    assert "would apply 0001_foundation" in run(pliers, "migrate", "--dry-run", "--data", tmp_path / "db", cwd=tmp_path)
