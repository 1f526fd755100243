"""What can go wrong on the command line, in sentences."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any


class Problem(Exception):
    """Something the person at the keyboard can mend; the message says how."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def unusable_settings(error: Any) -> str:
    """
    Settings that cannot be used, each by its environment variable, with the reason.

    What they were set to is not repeated: it may be a secret.
    """
    if hasattr(error, "errors"):
        said = [_unusable(each["loc"], each["msg"]) for each in error.errors(include_url=False, include_input=False)]
    else:  # pydantic-settings found no JSON where a list is wanted, and names the group
        group = re.search(r'field "(\w+)"', str(error))
        said = [f'{name}: must be a list in JSON, such as ["a", "b"]' for name in _not_json(group[1] if group else "")]
    return f"{'settings are' if len(said) > 1 else 'a setting is'} not usable. {'; '.join(said)}."


def _unusable(place: Sequence[int | str], message: str) -> str:
    # A group as a whole is wrong where settings do not fit each other; what follows a name is a place in its value.
    variable = "__".join(["PLIERS", *(str(part) for part in place[:2])]).upper().replace("__", "_", 1)
    reason = message.removeprefix("Value error, ")
    return f"{variable}{'__…' if len(place) == 1 else ''}: {reason.replace('Input should be', 'must be', 1)}"


def _not_json(group: str) -> list[str]:
    """The variables of a group that are set to no JSON though they hold a list; the group, where none is found."""
    from pliers_workflow.settings import Settings

    model: Any = Settings.model_fields[group].annotation if group in Settings.model_fields else None
    found = []
    for name, field in model.model_fields.items() if model else ():
        variable = f"PLIERS_{group}__{name}".upper()
        if isinstance(field.default, tuple) and variable in os.environ:
            try:
                json.loads(os.environ[variable])
            except ValueError:
                found.append(variable)
    return found or [f"PLIERS_{group}__…".upper()]


def explain(error: BaseException) -> tuple[str, int]:
    """
    A sentence and an exit status for an error that no command has dealt with.

    Errors are recognized by where they come from and not by importing all those modules, which would make every command
    slow.
    """
    module = type(error).__module__.split(".")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return explain(error.exceptions[0])
    if type(error).__name__ == "UndefinedTableError":
        return "this database does not have our schema, or an older one; run `pliers migrate` first.", 3
    if type(error).__name__ == "ReadOnlySQLTransactionError":
        return (
            "the database is read-only, such as a standby; name the primary, or make it writable "
            "(default_transaction_read_only).",
            3,
        )
    if type(error).__name__ == "gaierror":
        return f"the database's host cannot be found: {text}. Check the name in the DSN, and the network.", 3
    if module == "asyncpg" or isinstance(error, ConnectionError):
        return f"the database cannot be used: {text}. Check the DSN, or leave it out to use the embedded one.", 3
    if module in ("pydantic_core", "pydantic_settings"):
        return unusable_settings(error), 2
    if isinstance(error, FileExistsError | NotADirectoryError) and isinstance(error.filename, str):
        return (
            f"{error.filename} is a file, or lies below one, and a folder is wanted: name one that is empty or new.",
            2,
        )
    if isinstance(error, OSError):
        return f"{error.filename + ': ' if isinstance(error.filename, str) else ''}{error.strerror or text}", 2
    if type(error).__module__ == "pliers_workflow.runtime.errors":
        return text, 2 if type(error).__name__ == "InvalidError" else 1
    if module == "pliers_workflow":
        return text, 3
    return (
        f"{type(error).__name__}: {text}. This is a fault of ours; PLIERS_DEBUG=1 shows where. Please report it.",
        70,
    )
