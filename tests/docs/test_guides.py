"""The code of the guides for plugins and workers is what they say it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pliers_workflow.plugins import Permanent, Plugin
from pliers_workflow.plugins.calling import arguments, output_of
from pliers_workflow.runtime.plugins import checking
from pliers_workflow.runtime.plugins.discovery import Found, Installed
from pliers_workflow.runtime.plugins.registry import Description, Holder, KnownPlugin
from pliers_workflow.worker import Worker
from tests.jobs.test_executors import errand
from tests.plugins.test_declaring import context

GUIDES = Path(__file__).resolve().parent.parent.parent / "docs" / "guides"


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (GUIDES / guide).read_text(), re.DOTALL)


def known(plugin: Plugin) -> KnownPlugin:
    """As a node knows it whose neighbour has it."""
    about = Description(
        plugin.version, plugin.title, plugin.description, plugin.isolation, plugin.timeout, plugin.memory, plugin.configuration_schema,
        plugin.input_schema, plugin.output_schema, context().deadline,
    )  # fmt: skip
    return KnownPlugin(plugin.id, "ready", about, (Holder("n", "all", False, plugin.version, "ready", None),))


def test_the_plugin_of_the_guide() -> None:
    """It is declared as it stands there, takes what the guide's step says, and fails as it says."""
    (code,) = blocks("plugins.md", "python")
    names: dict[str, Any] = {"is_right": lambda iban: iban.startswith("AT")}
    exec(code, names)
    plugin = names["check"]
    assert isinstance(plugin, Plugin)
    (step,) = map(json.loads, blocks("plugins.md", "json"))
    assert (plugin.id, f'"{plugin.id}"' in blocks("plugins.md", "toml")[0]) == (step["pluginId"], True)
    assert checking.findings(checking.uses(errand(step)), {plugin.id: known(plugin)}) == []
    called = arguments(plugin, step["configuration"], {"iban": "AT61"}, context())
    assert output_of(plugin, plugin(**called)) == {"iban": "AT61", "country": "AT"}
    with pytest.raises(Permanent, match="check digits"):
        plugin(**arguments(plugin, {}, {"iban": "DE89"}, context()))
    assert Installed({plugin.id: Found(plugin, "m:check", "")}).ready


def test_the_worker_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is declared as it stands there, and would start."""
    started: list[Worker] = []

    def start(worker: Worker) -> None:
        started.append(worker)

    monkeypatch.setattr(Worker, "start", start)
    (code,) = blocks("python-worker.md", "python")
    exec(code, {"token": "t", "printer": None})
    assert len(started) == 1
