"""`pliers plugins`: what is installed on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .problems import Problem

if TYPE_CHECKING:
    from pliers_workflow.runtime.plugins.discovery import Broken, Found


def plugins(id: str, *, as_json: bool) -> int:
    """Print all plugins, or one of them; 1 when one of those is broken."""
    from pliers_workflow.runtime.plugins.discovery import discover
    from pliers_workflow.settings import Settings

    installed = discover(Settings().plugins)
    ready, broken, denied = installed.ready, installed.broken, installed.denied
    if id:
        if id not in {*ready, *broken, *denied}:
            raise Problem(f"there is no plugin {id} on this machine; `pliers plugins` lists what there is", status=1)
        ready = {name: each for name, each in ready.items() if name == id}
        broken = {name: each for name, each in broken.items() if name == id}
        denied = tuple(name for name in denied if name == id)
    rows = [_ready(each) for each in ready.values()] + [_broken(each) for each in broken.values()]
    rows += [
        {"id": name, "state": "denied", "reason": "The settings plugins.allowed and plugins.denied."} for name in denied
    ]
    rows.sort(key=lambda row: str(row["id"]))
    if as_json:
        print(_pretty(rows[0] if id else rows))
    elif id:
        print("\n".join(f"{name:<21} {_shown(value)}" for name, value in rows[0].items()))
    elif rows:
        _table(rows)
    else:
        print("no plugins are installed here")
    return 1 if broken else 0


def _ready(found: Found) -> dict[str, Any]:
    plugin = found.plugin
    return {
        "id": plugin.id,
        "state": "ready",
        "version": plugin.version,
        "title": plugin.title,
        "description": plugin.description,
        "isolation": plugin.isolation,
        "timeoutSeconds": plugin.timeout,
        "memoryMib": plugin.memory,
        "entryPoint": found.entry_point,
        "package": found.distribution,
        "configurationSchema": plugin.configuration_schema,
        "inputSchema": plugin.input_schema,
        "outputSchema": plugin.output_schema,
    }


def _broken(broken: Broken) -> dict[str, Any]:
    return {
        "id": broken.id,
        "state": "broken",
        "reason": broken.reason,
        "entryPoint": broken.entry_point,
        "package": broken.distribution,
    }


def _table(rows: list[dict[str, Any]]) -> None:
    lines = [("ID", "STATE", "VERSION", "ISOLATION", "TIMEOUT", "MEMORY", "")]
    for row in rows:
        timeout = f"{row['timeoutSeconds']:g} s" if "timeoutSeconds" in row else ""
        memory = f"{row['memoryMib']} MiB" if row.get("memoryMib") else ""
        said = str(row.get("title") or row.get("reason", ""))
        lines.append((row["id"], row["state"], row.get("version", ""), row.get("isolation", ""), timeout, memory, said))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        print("  ".join([*cells, line[6]]).rstrip())


def _shown(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
