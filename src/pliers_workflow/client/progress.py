"""Progress that people can watch: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Meter:
    """Counts up to a total, on standard error."""

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self.count = 0
        self._note = ""
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began = 0.0
        self._next_line = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"), console=self._console,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, note="")
        else:
            self._line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._line()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def advance(self, count: int = 1) -> None:
        """That many more are done."""
        self.count += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.count, note=self._note)
        elif self.seconds >= self._next_line:
            self._line()

    def note(self, text: str) -> None:
        """Something to be read beside the bar."""
        self._note = text
        self.advance(0)

    def _line(self) -> None:
        self._next_line = self.seconds + 5
        share = 100 * self.count // self.total if self.total else 100
        rate = self.count / self.seconds if self.seconds > 0.5 else 0
        print(
            f"{self.label}: {self.count}/{self.total} ({share} %)"
            f"{f', {rate:.0f} a second' if rate else ''}{f', {self._note}' if self._note else ''}",
            file=sys.stderr,
            flush=True,
        )
