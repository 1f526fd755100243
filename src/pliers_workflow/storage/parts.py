"""A statement put together from parts, of which only those that have rows are sent.

A part is a section of a `.sql` file: one or more CTEs that take their rows as `given(column type, …) AS alias`. That
stands for an `unnest` of one parameter for each column, and is the one place that says which columns a part has and how
their values travel. Encoding arrays element by element had been a quarter of a batch's time in Python, so a column is
sent as one text, its values joined (`split_column`, migration 0003), except for `prose`, which may hold any character.
What is encoded as JSON holds no control character and need not be looked through for one.

Each combination of parts is a text of its own, numbered anew, and so a prepared statement with plans of its own on every
connection: a megabyte, and 1.3 ms for each of the first six times it is used, where an empty part that is sent all the
same costs 0.02. So parts that often come together are sent together, as a group. Few combinations occur then; should there
be many, the rest share the statement that has all parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["ComposedStatement", "Unstorable", "integers", "texts"]

#: Combinations that get a text of their own.
VARIANTS_MAX: Final = 64

_GIVEN: Final = re.compile(r"\bgiven\((?P<columns>[^()]*)\) AS (?P<alias>\w+)")
#: Between the values of a joined column, and for null; see `split_column` in migration 0003. JSON holds neither raw.
_SEPARATOR: Final = "\x1f"
_NULL: Final = "\x1a"

_Values = Sequence[Any]


class Unstorable(ValueError):
    """A value holds a character by which columns are joined; nothing of the batch was sent."""


def texts(values: _Values) -> str:
    """
    Ids, names and keys as one parameter for `split_column`. Raises `Unstorable`.

    >>> texts(["ada", None, "grace"])
    'ada\\x1f\\x1a\\x1fgrace'
    """
    column = [_NULL if value is None else value for value in values]
    joined = _SEPARATOR.join(column)
    if joined.count(_SEPARATOR) != len(column) - 1 or joined.count(_NULL) != values.count(None) or not joined:
        raise Unstorable("an id or a key holds a control character, or nothing")
    return joined


def _json(values: _Values) -> str:
    return _SEPARATOR.join([_NULL if value is None else value for value in values])


def integers(values: _Values) -> str:
    """
    Integers as one parameter for `split_column`.

    >>> integers([3, None])
    '3\\x1f\\x1a'
    """
    return _SEPARATOR.join([_NULL if value is None else str(value) for value in values])


def _instants(values: _Values) -> str:
    # Most instants of a batch are the batch's own time, one object: it is written out once, not for every row.
    texts, last, text = [], None, _NULL
    for value in values:
        if value is not last:
            last, text = value, _NULL if value is None else value.isoformat()
        texts.append(text)
    return _SEPARATOR.join(texts)


def _bytes(values: _Values) -> str:
    return _SEPARATOR.join(["\\x" + value.hex() for value in values])


def _array(values: _Values) -> _Values:
    return values


#: How the values of a column become its parameter, by the column's type.
_ENCODERS: Final[Mapping[str, Callable[[_Values], Any]]] = {
    "text": texts,
    "uuid": texts,
    "json": _json,
    "jsonb": _json,
    "smallint": integers,
    "int": integers,
    "bigint": integers,
    "timestamptz": _instants,
    "bytea": _bytes,
    "prose": _array,
}
#: What stands for a parameter until the parts of a statement are known.
_PARAMETER: Final = "$?"


class _Part:
    """A section with its `given` written out, and how its columns are encoded."""

    def __init__(self, text: str) -> None:
        self.encoders: list[Callable[[_Values], Any]] = []
        self.text = _GIVEN.sub(self._unnest, text)

    def _unnest(self, given: re.Match[str]) -> str:
        columns = [column.split() for column in given["columns"].split(",")]
        arrays = []
        for _, type_ in columns:
            self.encoders.append(_ENCODERS[type_])
            if type_ == "prose":
                arrays.append(f"{_PARAMETER}::text[]")
            elif type_ == "text":
                arrays.append(f"split_column({_PARAMETER})")
            else:
                arrays.append(f"split_column({_PARAMETER})::{type_}[]")
        return f"unnest({', '.join(arrays)}) AS {given['alias']} ({', '.join(name for name, _ in columns)})"


class ComposedStatement:
    """
    A statement of several groups of parts; a group is sent when one of its parts has rows.

    `frame(chosen)` gives the names of all sections of the statement in their order, for the parts that are sent; what
    begins with `check_` and follows the name of a chosen part goes into the answer.
    """

    def __init__(
        self,
        sections: Mapping[str, str],
        groups: Sequence[Sequence[str]],
        frame: Callable[[Sequence[str]], Iterable[str]],
    ) -> None:
        self._sections = sections
        self._groups = groups
        self._all = tuple([name for group in groups for name in group])
        self._parts = {name: _Part(sections[name]) for name in self._all}
        self._frame = frame
        self._texts: dict[tuple[str, ...], str] = {}
        self._text_of_all = self._compose(self._all)

    def of(self, rows: Mapping[str, Sequence[tuple[Any, ...]]]) -> tuple[str, list[Any]]:
        """The statement that writes these rows, by part, and its parameters. Raises `Unstorable`."""
        chosen = tuple([name for group in self._groups if any(rows[each] for each in group) for name in group])
        text = self._texts.get(chosen)
        if text is None:
            if len(self._texts) < VARIANTS_MAX:
                text = self._texts[chosen] = self._compose(chosen)
            else:
                chosen, text = self._all, self._text_of_all
        parameters: list[Any] = []
        for name in chosen:
            encoders = self._parts[name].encoders
            if rows[name]:
                columns = zip(*rows[name], strict=True)
                parameters.extend([encode(values) for encode, values in zip(encoders, columns, strict=True)])
            else:
                parameters.extend([() if encode is _array else "" for encode in encoders])
        return text, parameters

    def _compose(self, chosen: tuple[str, ...]) -> str:
        parts, sections = self._parts, self._sections
        ctes = [parts[name].text if name in parts else sections[name] for name in self._frame(chosen)]
        checks = [sections[f"check_{name}"] for name in chosen if f"check_{name}" in sections]
        text = "WITH " + ", ".join(ctes) + "\nSELECT " + ", ".join([sections["answer"], *checks])
        pieces = text.split(_PARAMETER)
        numbered = [f"${number}{piece}" for number, piece in enumerate(pieces[1:], start=1)]
        return "".join([pieces[0], *numbered])
