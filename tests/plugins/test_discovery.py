"""What is installed is found, and what of it is broken breaks nothing else."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pliers_workflow.plugins import GROUP
from pliers_workflow.runtime.plugins.discovery import allowed, discover
from pliers_workflow.settings import PluginSettings

HERE = "tests.plugins.samples"


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_one_broken_plugin_is_told_and_the_others_work(folder: Path) -> None:
    """An import that fails or ends the program, something else than a plugin, another id, and two of one id."""
    (folder / "raises_at_import.py").write_text("raise RuntimeError('no licence')")
    (folder / "exits_at_import.py").write_text("import sys; sys.exit(2)")
    found = discover(
        PluginSettings(),
        [
            entry("price", f"{HERE}:price"),
            entry("gone", "no_such_module_anywhere:thing"),
            entry("gone.name", f"{HERE}:no_such_name"),
            entry("raises", "raises_at_import:thing"),
            entry("exits", "exits_at_import:thing"),
            entry("other", f"{HERE}:price"),
            entry("dict", f"{HERE}:Gate"),
            entry("twice", f"{HERE}:echo"),
            entry("twice", f"{HERE}:price"),
        ],
    )
    assert list(found.ready) == ["price"]
    assert set(found.broken) == {"gone", "gone.name", "raises", "exits", "other", "dict", "twice"}
    assert "no licence" in found.broken["raises"].reason
    assert "SystemExit" in found.broken["exits"].reason
    assert "declares the id price" in found.broken["other"].reason
    assert "More than one package" in found.broken["twice"].reason


def test_packages_that_cannot_be_read_are_passed_over(folder: Path) -> None:
    """Metadata that are no text, none at all, and a name that is none: the node starts, and finds the rest."""
    for name, entry_points in (("unreadable", b"[pliers.plugins]\n\xff = a:b\n"), ("fine", b"[pliers.plugins]\nprice = tests.plugins.samples:price\na b = x:y\n")):  # fmt: skip
        metadata = folder / f"{name}-1.0.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        (metadata / "entry_points.txt").write_bytes(entry_points)
    (folder / "empty-1.0.0.dist-info").mkdir()
    found = discover(PluginSettings())
    assert list(found.ready) == ["price"]
    assert "cannot be a plugin's id" in found.broken["a b"].reason


def test_what_is_not_allowed_is_not_even_imported(folder: Path) -> None:
    """Code that an operator has denied does not run in the node."""
    (folder / "denied_plugin.py").write_text("raise AssertionError")
    settings = PluginSettings(allowed=("acme.*", "price"), denied=("acme.secret",))
    found = discover(settings, [entry("acme.secret", "denied_plugin:x"), entry("price", f"{HERE}:price")])
    assert (list(found.ready), dict(found.broken), found.denied) == (["price"], {}, ("acme.secret",))
    assert "denied_plugin" not in sys.modules
    assert allowed("acme.credit", settings)
    assert not allowed("other", settings)


def test_a_package_on_the_path_is_found(folder: Path) -> None:
    """By its metadata, as pip leaves it; the reason names the package and its release."""
    metadata = folder / "some_plugins-2.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugins\nVersion: 2.1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\nprice = {HERE}:price\nbroken = nowhere:x\n")
    found = discover(PluginSettings())
    assert found.ready["price"].distribution == "some-plugins 2.1.0"
    assert found.broken["broken"].distribution == "some-plugins 2.1.0"
