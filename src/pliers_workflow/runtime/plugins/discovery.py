"""What is installed: entry points of the group `pliers.plugins`, each loaded for itself.

One that cannot be loaded, is not declared as it must be, or shares its id with another is *broken*: listed with the
reason, and nothing else on the node is the worse for it. What the settings do not allow is not even imported. For that an
entry point's name is the plugin's id.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, distributions
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pliers_workflow.exact import told
from pliers_workflow.plugins import GROUP, Plugin

if TYPE_CHECKING:
    from pliers_workflow.settings import PluginSettings

#: Not structlog's, which writes to standard output where nobody has said otherwise: `pliers plugins` prints there.
_log: Final = logging.getLogger(__name__)

_REASON_MAX: Final = 500
_ID_MAX: Final = 255
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Found(Struct, frozen=True):
    """A plugin that can be run here."""

    plugin: Plugin
    #: where it is: `package.module:name`
    entry_point: str
    #: the distribution it came with, and its release; empty where nobody knows
    distribution: str


class Broken(Struct, frozen=True):
    """An entry point that gives no plugin, and why."""

    id: str
    entry_point: str
    distribution: str
    reason: str


class Installed(Struct, frozen=True):
    """What there is on this machine, by id."""

    ready: dict[str, Found] = {}
    broken: dict[str, Broken] = {}
    #: not allowed by the settings
    denied: tuple[str, ...] = ()


def discover(settings: PluginSettings, found: Iterable[EntryPoint] | None = None) -> Installed:
    """Load what is installed and allowed. `found`: those entry points instead of the machine's. Raises nothing."""
    by_id: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for entry_point in _installed() if found is None else found:
        by_id[told(entry_point.name)[:_ID_MAX]].append(entry_point)
    ready: dict[str, Found] = {}
    broken: dict[str, Broken] = {}
    denied: list[str] = []
    for id, entries in sorted(by_id.items()):
        if not allowed(id, settings):
            denied.append(id)
            continue
        one = _load(id, entries)
        if isinstance(one, Found):
            ready[id] = one
        else:
            broken[id] = one
    return Installed(ready, broken, tuple(denied))


def allowed(id: str, settings: PluginSettings) -> bool:
    """Whether the settings let a plugin run: named in `allowed`, and not in `denied`; `*` stands for any characters."""
    return any(fnmatchcase(id, pattern) for pattern in settings.allowed) and not any(
        fnmatchcase(id, pattern) for pattern in settings.denied
    )


def _installed() -> Iterator[EntryPoint]:
    """The machine's; packages whose metadata cannot be read are passed over, each name once, as Python does it."""
    names: set[str] = set()
    for package in distributions():
        try:
            name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
            entries = package.entry_points.select(group=GROUP)
        except Exception as error:  # one broken package must not keep a node from starting
            _log.warning("a package's metadata cannot be read, so no plugins of it are found: %r", error)
            continue
        if name not in names:
            names.add(name)
            yield from entries


def _load(id: str, entries: list[EntryPoint]) -> Found | Broken:
    first = entries[0]
    if not _ID.fullmatch(id):
        return _broken(id, first, "This cannot be a plugin's id; an entry point's name has letters, digits and `_.-`.")
    names = sorted(_distribution(each) or "an unknown package" for each in entries)
    if len(entries) > 1:
        return _broken(id, first, f"More than one package brings it: {', '.join(names)}. Uninstall all but one.")
    try:
        plugin = first.load()
    except KeyboardInterrupt:  # of whoever starts the node
        raise
    except BaseException as error:  # whatever the package does, the node starts
        return _broken(id, first, f"It cannot be imported: {type(error).__name__}: {error}")
    if not isinstance(plugin, Plugin):
        return _broken(
            id, first, f"{first.value} is a {type(plugin).__name__}; declare it with `pliers_workflow.plugins.plugin`."
        )
    if plugin.id != id:
        return _broken(
            id, first, f"Its entry point is named {id}, and it declares the id {plugin.id}; they must be the same."
        )
    return Found(plugin, first.value, _distribution(first))


def _broken(id: str, entry_point: EntryPoint, reason: str) -> Broken:
    reason = " ".join(told(reason).split())
    return Broken(id, entry_point.value, _distribution(entry_point), reason[:_REASON_MAX])


def _distribution(entry_point: EntryPoint) -> str:
    found = entry_point.dist
    return "" if found is None else f"{found.name} {found.version}"
