"""What the README and the guides tell people to run gives what they say it gives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pliers_workflow import examples

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCKS = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def runs(block: str) -> list[tuple[str, str]]:
    """Commands of a block with the output that follows each."""
    parts = re.split(r"(?m)^\$ (.*)\n", block)[1:]
    return list(zip(parts[0::2], parts[1::2], strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, and whatever the README shows with `cat`."""
    folder = tmp_path_factory.mktemp("readme")
    for name in examples.NAMES:
        shutil.copy(Path(examples.__file__).parent / f"{name}.json", folder)
    for block in BLOCKS:
        for command, output in runs(block):
            if command.startswith("cat "):
                (folder / command.split()[1]).write_text(output)
    return folder


@pytest.mark.parametrize(("command", "output"), [pair for block in BLOCKS for pair in runs(block)])
def test_a_console_block_is_true(command: str, output: str, folder: Path) -> None:
    """The command is run as it stands, and prints what stands below it."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stdout == output, ran.stderr


def test_there_is_something_to_run() -> None:
    """The pattern above still finds the README's blocks."""
    assert len([pair for block in BLOCKS for pair in runs(block)]) >= 4


def test_make_targets_that_pages_name_exist() -> None:
    """`make X` on a page is a target of the Makefile."""
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"(?m)(?:^|`)make ([a-z-]+)", page.read_text())}
    assert {"demo", "test", "serve", "replay", "bench"} <= named
    assert named <= targets


def test_the_guides_document_is_valid(folder: Path) -> None:
    """The first workflow can be checked, simulated and drawn as the guide says."""
    guide = (ROOT / "docs" / "guides" / "first-workflow.md").read_text()
    (document,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    (folder / "leave_request.json").write_text(document)
    (simulate,) = re.findall(r"`(echo .*?)`;", guide)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-c", simulate], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert [json.loads(line)["configuration"] for line in ran.stdout.splitlines()] == [["review"], ["granted"]], (
        ran.stderr
    )
    for command in ("validate", "diagram"):
        done = subprocess.run(
            [sys.executable, "-m", "pliers_workflow", command, "leave_request.json"], cwd=folder, check=False
        )
        assert done.returncode == 0
