"""Output of the commands: tables and progress bars for people, JSON for scripts, one line for an error."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from taxonomist.progress import CountProgress, StepProgress, rising
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.redaction import printable

# Characters that control a terminal or the direction of writing, and halves of characters, as odd file names have them:
# JSON may have the former as they are.
_CONTROLS = re.compile("[\x7f-\x9f\ud800-\udfff\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_error(error: TaxonomistError) -> None:
    """Print an error and its hint to standard error."""
    err.print(Text.assemble(("error:", "bold red"), " ", _shown(Exception.__str__(error))), soft_wrap=True)
    for line in (error.hint or "").splitlines():
        err.print(f"       {_shown(line)}", markup=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Print one line of text."""
    out.print(_shown(text), markup=False, soft_wrap=True)


def confirm(question: str, *, err: bool = False) -> bool:
    """Return whether a person says yes."""
    return typer.confirm(printable(question), err=err)


def prompt(question: str, proposal: str) -> str:
    """Return a person's answer, by default the proposal."""
    shown = f"{question} [{proposal}]" if proposal else question
    return str(typer.prompt(printable(shown), default=proposal, show_default=False))


def print_json(value: object) -> None:
    """Print one JSON document."""
    print(_escaped(json.dumps(value, ensure_ascii=False, indent=2, default=str)))  # noqa: T201


def print_json_lines(values: Iterable[object]) -> None:
    """Print one JSON document on each line."""
    for value in values:
        print(_escaped(json.dumps(value, ensure_ascii=False, default=str)))  # noqa: T201


def print_csv(rows: Iterable[Iterable[object]]) -> None:
    """Print rows as CSV; a cell cannot control the terminal."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([_shown(cell) for cell in row] for row in rows)
    print(text.getvalue(), end="")  # noqa: T201


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, places: Collection[str] = ()
) -> None:
    """Print rows below the names of their columns, as wide as the terminal.

    Cells of the columns in `places` are paths and addresses: where the table would be too wide, they lose their middle.
    Other cells are broken into lines.
    """
    cells = [[_shown(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells)
    grid = Table(title=Text(_shown(title), "table.title"), title_justify="left", header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        grid.add_column(column, overflow="fold", width=width)
    for row in cells:
        grid.add_row(
            *(
                Text(without_middle(cell, width) if width and column in places else cell)
                for column, cell, width in zip(columns, row, widths, strict=True)
            )
        )
    out.print(grid)


def without_middle(text: str, width: int) -> str:
    """Return each line of a text in at most `width` cells of a terminal: a longer one loses its middle.

    >>> without_middle("/data/upload/4/3f2a-chair.jpg", 18)
    '/data…2a-chair.jpg'
    """
    return "\n".join(line if cell_len(line) <= width else _both_ends(line, width) for line in text.split("\n"))


def _both_ends(line: str, width: int) -> str:
    kept = max(width - 1, 1)
    end = -(-2 * kept // 3)  # a file name says more than the folders before it
    return f"{set_cell_size(line, kept - end)}…{set_cell_size(line[::-1], end)[::-1]}"


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int | None]:
    """Return the width of each column of a table that is too wide for the terminal; None: as wide as its cells.

    Narrow columns keep their width, and the others share what is left.
    """
    natural = [
        max([cell_len(column), *(cell_len(line) for row in cells for line in row[number].split("\n"))])
        for number, column in enumerate(columns)
    ]
    left = out.width - 3 * len(columns) - 1
    if sum(natural) <= left:
        return [None] * len(columns)
    wide = set(range(len(columns)))
    while narrow := {number for number in wide if natural[number] <= left // len(wide)}:
        wide -= narrow
        left -= sum(natural[number] for number in narrow)
    return [max(left // len(wide), 1) if number in wide else natural[number] for number in range(len(columns))]


def print_fields(values: Mapping[str, Any]) -> None:
    """Print one line for each name and value."""
    grid = Table.grid(padding=(0, 2))
    for name, value in values.items():
        grid.add_row(Text(name, "bold"), Text(_shown(value)))
    out.print(grid)


def _escaped(text: str) -> str:
    """Return JSON that cannot control a terminal."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shown(value: object) -> str:
    """Return the text of a value, whose lines cannot control a terminal; "" for None."""
    return "" if value is None else "\n".join(map(printable, str(value).split("\n")))


@contextmanager
def count_bar(title: str, total: int | None = None) -> Iterator[CountProgress]:
    """Show a progress bar for work that is counted; yield the function that moves it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=False) as bar:
        task = bar.add_task(printable(title), total=total)
        most = 0

        def update(done: int, total: int | None) -> None:
            nonlocal most
            most = max(most, done)
            bar.update(task, completed=most, total=total)

        yield update


@contextmanager
def step_bar(title: str) -> Iterator[StepProgress]:
    """Show a progress bar for work in named steps; yield the function that moves it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with _StepBar(*columns, console=err) as bar:
        task = bar.add_task(printable(title), total=1.0)

        def update(step: str, share: float) -> None:
            bar.step = printable(step)
            bar.update(task, completed=share)

        yield rising(update)


class _StepBar(Progress):
    """A progress bar, and below it a line with the name of the step, which may be long."""

    step = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.step, overflow="ellipsis", no_wrap=True)
