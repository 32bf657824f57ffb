"""Write the reference pages of the documentation from the code.

python -m scripts.reference            write docs/reference/
python -m scripts.reference --check    exit with 1 and name the pages that differ from the code
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from taxonomist.backend.cli import app
from taxonomist.backend.error_codes import exit_code, http_status
from taxonomist.backend.settings import Settings
from taxonomist.backend.worker.worker import EXIT_STALLED
from taxonomist.taxonomy import errors
from taxonomist.taxonomy.errors import TaxonomistError

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
GENERATED = "<!-- Generated from the code by `make reference`. Change the code, not this page. -->"


def pages() -> dict[str, str]:
    """Return the text of every generated page by its path below docs/reference."""
    return {
        "settings.md": settings_page(),
        "commands.md": commands_page(),
        "errors.md": errors_page(),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them with the code; return the exit status."""
    stale = [name for name, text in pages().items() if _read(REFERENCE / name) != text]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/reference/{name} differs from the code: run `make reference`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        path = REFERENCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[name], encoding="utf-8")
        print(f"wrote docs/reference/{name}")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


# --- settings


def settings_page() -> str:
    """Return the page that lists every setting with its default, its values and its description."""
    lines = [
        GENERATED,
        "",
        "# Settings",
        "",
        "Set a setting as an environment variable, or as a line in `taxonomist.toml` in the working directory. In the "
        "file its name has no prefix and is in lower case: `TAXONOMIST_RETRAIN_EVERY=100` and `retrain_every = 100` "
        "are the same. The environment has priority over the file. In the environment a list is written with commas "
        "or as JSON: `TAXONOMIST_BLOB_CONTAINERS=images,archive` or "
        '`TAXONOMIST_BLOB_CONTAINERS=\'["images", "archive"]\'`. A text that has a comma itself needs JSON.',
        "",
        "A name or a value that is not valid stops every command with exit code 2 and a message that names the "
        "setting.",
    ]
    for title, names in _setting_groups():
        lines += ["", f"## {title}", "", "| setting | default | values | meaning |", "| --- | --- | --- | --- |"]
        for name in names:
            field = Settings.model_fields[name]
            cells = (f"`TAXONOMIST_{name.upper()}`", _default(name, field), _values(field), field.description or "")
            lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _setting_groups() -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the settings of each group; a comment in the class `Settings` begins a group."""
    title = "General"
    names: list[str] = []
    for line in inspect.getsource(Settings).splitlines():
        if comment := re.fullmatch(r"    # (.+)", line):
            if names:
                yield title, names
            title, names = comment[1].partition(";")[0], []
        elif (field := re.match(r"    (\w+):", line)) and field[1] in Settings.model_fields:
            names.append(field[1])
    yield title, names


def _default(name: str, field: FieldInfo) -> str:
    if name == "home":
        return "the user's data folder"
    value = field.get_default(call_default_factory=True)
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value == 2 / 3:
        return "`2/3`"
    if isinstance(value, list):
        return f"`{value}`".replace("'", '"')
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _values(field: FieldInfo) -> str:
    """Return which values a setting takes, in words."""
    kind = _plain(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    names = {bool: "`true`, `false`", int: "whole number", float: "number", Path: "path", SecretStr: "secret text"}
    text = "list of texts" if get_origin(kind) is list else names.get(kind, "text")
    bounds = _bounds(field.metadata)
    return f"{text}, {bounds}" if bounds else text


def _plain(annotation: Any) -> Any:
    """Return the annotation without `| None` and `Annotated`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = [part for part in get_args(annotation) if part is not NoneType]
        return _plain(inner)
    return annotation


def _bounds(metadata: Sequence[object]) -> str:
    words = []
    for bound in metadata:
        match bound:
            case annotated_types.Ge(ge=value):
                words.append(f"at least {value}")
            case annotated_types.Gt(gt=value):
                words.append(f"above {value}")
            case annotated_types.Le(le=value):
                words.append(f"at most {value}")
            case annotated_types.Lt(lt=value):
                words.append(f"below {value}")
    return ", ".join(words)


# --- commands


@cache
def commands() -> dict[str, Any]:
    """Return every command that is not hidden, by its words after `taxonomist`."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None) or {"": command}
        found |= {f"{name} {sub}".strip(): node for sub, node in inner.items() if not node.hidden}
    return found


def options_of(command: Any) -> list[Any]:
    """Return the options and arguments of a command that are not hidden."""
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def commands_page() -> str:
    """Return the page that describes every command with all of its options."""
    nodes = commands()
    lines = [
        GENERATED,
        "",
        "# Commands",
        "",
        "`python -m taxonomist` is the same as `taxonomist`. Every command has `--help`. Commands with `--json` print "
        "one JSON document on standard output; progress and messages go to standard error. The "
        "[exit codes](errors.md) are the same for all commands.",
        "",
        "| command | what it does |",
        "| --- | --- |",
    ]
    for name, command in nodes.items():
        lines.append(_row((f"[`taxonomist {name}`](#{_anchor(name)})", _summary(command))))
    lines += ["", "## Options of all commands", "", "Write these before the command: `taxonomist --home /data serve`."]
    lines += ["", *_options_table(typer.main.get_command(app))]
    lines += ["", "## Completion in the shell", "", _COMPLETION]
    for name, command in nodes.items():
        lines += ["", f"## taxonomist {name} {{ #{_anchor(name)} }}", "", _paragraphs(command.help or "")]
        lines += ["", "```text", f"taxonomist {name} {_usage(command)}".rstrip(), "```"]
        if table := _options_table(command):
            lines += ["", *table]
        if command.epilog:
            lines += ["", command.epilog]
    return "\n".join(lines) + "\n"


_COMPLETION = (
    "`taxonomist --install-completion` lets the tabulator key complete commands, options, projects, versions and "
    "names of settings, in terminals that are opened afterwards: in bash, zsh, fish and PowerShell. It adds a file and "
    "a line to the settings of your shell. `taxonomist --show-completion` prints the script instead. Completing reads "
    "the names of files in the home folder, and changes nothing."
)


def _anchor(name: str) -> str:
    return f"taxonomist-{name.replace(' ', '-')}"


def _summary(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _usage(command: Any) -> str:
    words = []
    for parameter in options_of(command):
        if parameter.param_type_name == "argument":
            words.append(parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]")
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {_option_values(command, parameter).split(',')[0].upper()}")
    optional = any(
        parameter.param_type_name == "option" and not parameter.required for parameter in options_of(command)
    )
    return " ".join([*words, "[OPTIONS]"] if optional else words)


def _options_table(command: Any) -> list[str]:
    rows = []
    for parameter in options_of(command):
        if parameter.name in {"install_completion", "show_completion"}:
            continue
        names = [parameter.name.upper()] if parameter.param_type_name == "argument" else parameter.opts
        name = ", ".join(f"`{option}`" for option in (*names, *parameter.secondary_opts))
        cells = (name, _option_values(command, parameter), _given(parameter), parameter.help or "")
        rows.append(_row(cells))
    return ["| option | value | default | meaning |", "| --- | --- | --- | --- |", *rows] if rows else []


def _option_values(command: Any, parameter: Any) -> str:
    """Return which values an option takes, in words; nothing for a switch."""
    hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    kind, infos = hints[parameter.name], getattr(hints[parameter.name], "__metadata__", ())
    plain = _plain(kind)
    repeatable = get_origin(plain) is list
    text = {bool: "", int: "whole number", float: "number", Path: "path"}.get(plain, "text")
    bounds = ((getattr(info, "min", None), getattr(info, "max", None)) for info in infos)
    low, high = next(bounds, (None, None))
    limits = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
    return ", ".join([text, *limits, *["repeatable"] * repeatable])


def _given(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if parameter.name == "project" or value is None or value in ("", ()) or callable(value):
        return ""
    if isinstance(value, bool):
        chosen = parameter.opts if value else parameter.secondary_opts
        return f"`{chosen[0]}`" if parameter.secondary_opts else ""
    return f"`{value}`"


# --- errors


def errors_page() -> str:
    """Return the page that lists the exit code and the HTTP status of every error."""
    lines = [
        GENERATED,
        "",
        "# Exit codes and HTTP statuses",
        "",
        "A command that fails prints one line that begins with `error:` and, where there is something to do, a hint. "
        'The server answers with the same text as JSON: `{"error": "…"}`.',
        "",
        "## Exit codes",
        "",
        "| code | meaning |",
        "| ---: | --- |",
    ]
    codes: dict[int, list[str]] = {0: ["success"], 1: ["an error of no other kind; for `doctor`: a check failed"]}
    for kind in error_classes():
        if kind is not TaxonomistError:
            codes.setdefault(exit_code(kind("")), []).append(f"`{kind.__name__}`")
    codes[4].append("a project that is not known, in every command that works on one")
    codes[2].append("an option that does not exist, or a value that it does not take")
    codes[EXIT_STALLED] = ["a worker whose work hangs; its supervisor starts another one"]
    codes[130] = ["stopped by Ctrl-C; `pretrain` continues at the next call"]
    lines += [_row((f"`{code}`", ", ".join(names))) for code, names in sorted(codes.items())]
    lines += ["", "## Errors", "", "| error | HTTP status | exit code | meaning |", "| --- | ---: | ---: | --- |"]
    for kind in error_classes():
        error, meaning = kind(""), (inspect.getdoc(kind) or "").split("\n\n")[0]
        cells = (f"`{kind.__name__}`", f"`{http_status(error)}`", f"`{exit_code(error)}`", " ".join(meaning.split()))
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def error_classes() -> list[type[TaxonomistError]]:
    """Return the classes of the tree of errors, each after its parent."""
    return [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, TaxonomistError)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
