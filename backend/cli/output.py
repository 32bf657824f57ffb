"""How commands speak: tables and progress bars for people, JSON for scripts, one line for an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from taxonomist.taxonomy.errors import TaxonomistError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def complain(error: TaxonomistError) -> None:
    """Print an error for a person."""
    err.print(f"[bold red]error:[/] {Exception.__str__(error)}", markup=True, soft_wrap=True)
    if error.hint:
        err.print(f"       {error.hint}", markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for a person."""
    out.print(text, markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one JSON document for a script."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))  # noqa: T201


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their column names."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(grid)


def fields(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        grid.add_row(f"[bold]{name}[/]", "" if value is None else str(value))
    out.print(grid)


@contextmanager
def counting(title: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for work that is counted; yields `update(done, total)`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=False) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def steps(title: str) -> Iterator[Callable[[str, float], None]]:
    """A progress bar for work in named steps; yields `update(step, share)`, the share in 0..1 of the whole."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with _Steps(*columns, console=err) as bar:
        task = bar.add_task(title, total=1.0)

        def update(step: str, share: float) -> None:
            bar.step = step
            bar.update(task, completed=share)

        yield update


class _Steps(Progress):
    """A bar, and below it a line for what is being done, which may be long."""

    step = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.step, overflow="ellipsis", no_wrap=True)
