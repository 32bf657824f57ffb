"""The documentation cannot go stale: what it names exists, and what exists is named."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import yaml

import taxonomist
from scripts import docs_site, reference
from taxonomist.backend.error_codes import exit_code, http_status
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.settings.settings import REMOVED
from taxonomist.backend.web.app import create_app
from taxonomist.taxonomy.agreement import AgreementPolicy, Reason, decide
from taxonomist.taxonomy.annotations import Annotation
from taxonomist.taxonomy.calibration import wilson_lower_bound
from tests.backend.command_line import check

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TIME = datetime(2026, 1, 1, tzinfo=UTC)
CODE = re.compile(r"^ *```(\w*).*?\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def page(name: str) -> str:
    return read(DOCS / name)


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, without their indentation."""
    found = [block for name, block in CODE.findall(text) if name == language]
    return [re.sub(rf"^{re.match(' *', block)[0]}", "", block, flags=re.MULTILINE) for block in found]  # type: ignore[index]


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- the README and the structure


def test_the_readme_is_short() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= 130


def test_every_page_is_in_the_navigation() -> None:
    def entries(node: Any) -> Iterator[str]:
        match node:
            case str():
                yield node
            case list():
                for item in node:
                    yield from entries(item)
            case dict():
                for item in node.values():
                    yield from entries(item)

    nav = list(entries(yaml.safe_load(read(ROOT / "mkdocs.yml"))["nav"]))
    added = {f"reference/api/{package}.md" for package in docs_site.PACKAGES} | {"CONTRIBUTING.md", "CHANGELOG.md"}
    assert len(nav) == len(set(nav))
    assert set(nav) == {path.relative_to(DOCS).as_posix() for path in PAGES} | added


@pytest.mark.parametrize("path", TEXTS, ids=ids)
def test_links_resolve(path: Path) -> None:
    text = CODE.sub("", read(path))
    for link in LINK.findall(text):
        target = link.partition("#")[0].replace("\\", "")
        if target and not re.match(r"[a-z]+:", target):
            assert (path.parent / target).resolve().exists(), f"{ids(path)} links to {link}"


def test_every_folder_is_on_the_map() -> None:
    text = page("design/index.md")
    for package in docs_site.PACKAGES:
        for folder in sorted({file.parent for file in (ROOT / package).rglob("*.py")} - {ROOT / package}):
            assert f"{folder.parent.name}/{folder.name}/`" in text, ids(folder)
    for name in re.findall(r"^\| `([a-z_/]+/)` \|", text, flags=re.MULTILINE):
        assert (ROOT / name).is_dir(), name


# --- the reference


def test_every_setting_is_on_its_page() -> None:
    text = page("reference/settings.md")
    named = [name.lower() for name in re.findall(r"^\| `TAXONOMIST_([A-Z0-9_]+)` \|", text, flags=re.MULTILINE)]
    assert named == list(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("path", TEXTS, ids=ids)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = {name.lower() for name in re.findall(r"TAXONOMIST_([A-Z0-9_]*[A-Z0-9])", read(path))}
    known = set(Settings.model_fields) | (set(REMOVED) if path.name == "CHANGELOG.md" else set())
    assert named <= known


def section(command: str) -> str:
    """Return the part of the page of commands that describes a command."""
    _, _, rest = page("reference/commands.md").partition(f"\n## taxonomist {command} {{")
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize("command", sorted(reference.commands()))
def test_every_command_is_on_its_page_with_all_options(command: str) -> None:
    node = reference.commands()[command]
    text = section(command)
    assert text
    for parameter in reference.options_of(node):
        options = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
        assert all(f"`{option}`" in text for option in options), parameter.name


@pytest.mark.parametrize("command", sorted(reference.commands()))
def test_help_has_an_example(command: str) -> None:
    node = reference.commands()[command]
    assert node.help
    assert "taxonomist " in (node.epilog or "")


def test_every_error_is_on_its_page() -> None:
    text = page("reference/errors.md")
    assert len(reference.error_classes()) > 10
    for kind in reference.error_classes():
        error = kind("")
        assert f"| `{kind.__name__}` | `{http_status(error)}` | `{exit_code(error)}` |" in text, kind


def test_every_route_is_on_its_page(tmp_path: Path) -> None:
    text = page("reference/http.md")
    rules = {rule.rule for rule in create_app(Settings(home=tmp_path)).url_map.iter_rules()} - {
        "/static/<path:filename>"
    }
    named = {name for cell in re.findall(r"^\| (`/.*?) \|", text, flags=re.MULTILINE) for name in cell.split("`")[1::2]}
    assert named == rules


def test_every_metric_is_on_its_page() -> None:
    named = set(re.findall(r'"(taxonomist_\w+)"', read(ROOT / "backend" / "web" / "metrics.py")))
    assert named
    assert named <= {
        name.removesuffix("_total") for name in re.findall(r"`(taxonomist_\w+)`", page("reference/http.md"))
    }


def test_every_module_is_on_a_page() -> None:
    """Each page has all public functions of its modules, because mkdocstrings leaves out only names with `_`."""
    for package in docs_site.PACKAGES:
        text = docs_site.api_page(package)
        files = {file for file in (ROOT / package).rglob("*.py") if file.name != "__main__.py"}
        assert len(re.findall(r"^::: taxonomist\.", text, flags=re.MULTILINE)) == len(files) > 0
    options = yaml.safe_load(read(ROOT / "mkdocs.yml"))["plugins"][1]["mkdocstrings"]["handlers"]["python"]["options"]
    assert options["filters"] == ["!^_"]


def test_the_python_api_is_on_its_page() -> None:
    text = page("reference/python-api.md")
    for name in taxonomist.__all__:
        module = getattr(getattr(taxonomist, name), "__module__", "taxonomist.api")
        directive = "taxonomist.api" if module in {"taxonomist.api", "typing", "types"} else f"{module}.{name}"
        assert f"::: {directive}\n" in text, name


# --- commands and examples


COMMAND = re.compile(r"^(?:docker compose .* exec backend )?taxonomist (.*)")


def command_lines() -> list[tuple[str, str]]:
    """Return each line of a shell block that calls our command line, with its file."""
    found = []
    for path in TEXTS:
        lines = "\n".join(blocks(read(path), "sh")).replace("\\\n", " ").splitlines()
        matches = filter(None, map(COMMAND.match, lines))
        found += [(ids(path), re.sub(r"\$\([^()]*\)|\$\w+", "x", match[1])) for match in matches]
    return found


@pytest.mark.parametrize(("file", "line"), command_lines())
def test_our_command_line_takes_every_command(file: str, line: str, tmp_path: Path) -> None:
    services = Services(Settings(home=tmp_path))
    words = shlex.split(line, comments=True)
    named = words[words.index("--project") + 1] if "--project" in words else "furniture"
    services.projects.update(named, label_config="")  # the only one need not be named
    check(words, services)
    rest = words[2:] if words[0] == "--home" else words
    commands = reference.commands()
    node = commands.get(" ".join(rest[:2])) or commands[rest[0]]
    shown = {name for option in reference.options_of(node) for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in rest if re.fullmatch("--[a-z-]+", word)} <= shown  # hidden ones are former names


def python_blocks(path: Path) -> list[str]:
    return blocks(read(path), "python")


@pytest.mark.parametrize("path", [path for path in TEXTS if python_blocks(path)], ids=ids)
def test_python_examples_import_what_exists(path: Path) -> None:
    for block in python_blocks(path):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                spec = importlib.util.find_spec(node.module or "")
                assert spec is not None, node.module
                assert spec.origin is not None
                source = read(Path(spec.origin))
                assert all(re.search(rf"\b{alias.name}\b", source) for alias in node.names), ast.unparse(node)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder as the pages make it: the demo's catalogue was imported and trained on."""
    home = tmp_path_factory.mktemp("documented") / "home"
    for words in (["import", "backend/demo/catalogue/manifest.csv", "--project", "furniture"], ["train"]):
        run(["-m", "taxonomist", "--home", str(home), *words], home)
    return home


def run(arguments: list[str], home: Path) -> str:
    """Run Python in the root of the project; return what it prints."""
    settings = {"TAXONOMIST_HOME": str(home), "TAXONOMIST_BACKBONE_WEIGHTS": "starter"}
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_examples_of_the_python_page_run(home: Path) -> None:
    printed = run(["-c", "\n".join(python_blocks(DOCS / "how-to" / "python.md"))], home)
    assert "516 labels, the first is" in printed
    assert "float16" in printed


@pytest.mark.slow
def test_the_example_of_a_backbone_runs(home: Path) -> None:
    published = run(["-c", "\n".join(python_blocks(DOCS / "how-to" / "add-a-backbone.md"))], home)
    assert published.strip() == "v2"
    assert "my network" in run(["-m", "taxonomist", "--home", str(home), "backbone", "show", "v2"], home)


# --- statements


def test_the_examples_of_agreement_are_what_the_rules_give() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", page("concepts/agreement.md"), flags=re.MULTILINE)
    examples = [row for row in rows if row[0].startswith("Bath")]
    assert len(examples) == 5
    for *said, outcome in examples:
        annotations = [annotation(str(number), text) for number, text in enumerate(said) if "not annotated" not in text]
        verdict = decide(annotations, "category", AgreementPolicy())
        if outcome.startswith("none: "):
            assert (verdict.accepted, f"none: `{verdict.reason}`") == ((), outcome)
        else:
            assert verdict.accepted == (tuple(outcome.split(" › ")),)


def annotation(annotator: str, text: str) -> Annotation:
    """Return what one annotator of an example said; `*(skipped)*` is a skip."""
    skipped = "skipped" in text
    labels = {} if skipped else {"category": (tuple(text.split(" › ")),)}
    return Annotation(annotator, "1", annotator, TIME, TIME, labels, (), skipped, False, False)


def test_every_reason_is_explained() -> None:
    named = re.findall(r"^\| `([a-z_]+)` \|", page("guides/project-leads.md"), flags=re.MULTILINE)
    assert named == [reason.value for reason in Reason]


def test_the_numbers_of_the_wilson_bound() -> None:
    z = NormalDist().inv_cdf(0.8)
    without = next(n for n in range(1, 100) if wilson_lower_bound(n, n, z) >= 0.9)
    one_mistake = next(n for n in range(1, 100) if wilson_lower_bound(n - 1, n, z) >= 0.9)
    text = " ".join(page("concepts/trust.md").split())
    assert (
        f"With a target of 0.9 and no mistake, that takes {without} held-out images; with one mistake, {one_mistake}."
        in text
    )


@pytest.mark.parametrize(
    ("link", "place", "target"),
    [
        ("../benchmarks/run.py", "index.md", "benchmarks/run.py"),
        ("../../deploy/compose.yaml", "how-to/docker.md", "deploy/compose.yaml"),
        ("docs/quickstart.md", "CONTRIBUTING.md", None),
        ("../quickstart.md", "how-to/docker.md", None),
        ("https://labelstud.io", "index.md", None),
    ],
)
def test_links_to_the_repository_lead_to_files(link: str, place: str, target: str | None) -> None:
    assert docs_site.repository_path(link, place) == target
