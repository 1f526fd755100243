"""Write the tables of `docs/reference/` that are made from declarations: settings and events.

Only what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced; the prose around it is by hand.
`--check` writes nothing and exits 1 where a page is not up to date.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

PAGES = Path(__file__).resolve().parent.parent / "docs" / "reference"


def settings() -> str:
    """Every setting with its environment variable, default and comment."""
    import inspect

    from pliers_workflow import settings as module

    comments = _comments(inspect.getsource(module))
    lines = ["| setting | environment variable | default | |", "| --- | --- | --- | --- |"]
    for group, field in module.Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for name, one in model.model_fields.items():
            default = "" if one.default in ("", PydanticUndefined) else f"`{one.default}`"
            comment = comments.get((model.__name__, name), "")
            variable = f"PLIERS_{group}__{name}".upper()
            lines.append(f"| `{group}.{name}` | `{variable}` | {default} | {comment} |")
    return "\n".join(lines)


def events() -> str:
    """Every type of event with what the world is told of it."""
    from pliers_workflow.runtime.feed.published import reference

    lines = ["| type | when | `data` | and with `includeData` |", "| --- | --- | --- | --- |"]
    return "\n".join(
        [*lines, *(f"| `{type_}` | {about} | {told} | {more} |" for type_, about, told, more in reference())]
    )


def _comments(source: str) -> dict[tuple[str, str], str]:
    """The `#:` comments above fields, by class and field."""
    found: dict[tuple[str, str], str] = {}
    owner, above = "", []
    for line in source.splitlines():
        if match := re.match(r"class (\w+)", line):
            owner, above = match[1], []
        elif match := re.match(r"    #: ?(.*)", line):
            above.append(match[1])
        elif match := re.match(r"    (\w+):", line):
            found[owner, match[1]] = " ".join(above)
            above = []
        else:
            above = []
    return found


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("events.md", "events"): events,
    ("settings.md", "settings"): settings,
}


def page(name: str, text: str) -> str:
    """The page as it should be."""
    for (file, table), make in TABLES.items():
        if file == name:
            begin, end = f"<!-- begin {table} -->", f"<!-- end {table} -->"
            before, _, rest = text.partition(begin)
            _, _, after = rest.partition(end)
            text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    stale = []
    for name in dict.fromkeys(file for file, _ in TABLES):
        path = PAGES / name
        old = path.read_text(encoding="utf-8")
        new = page(name, old)
        if new != old:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(new, encoding="utf-8")
    if stale:
        print(textwrap.shorten(f"{'not up to date' if '--check' in arguments else 'written'}: {', '.join(stale)}", 200))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
