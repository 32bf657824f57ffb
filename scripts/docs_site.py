"""A hook of mkdocs: pages of the Python modules, and links to files of the repository.

The modules of each package are listed on a page of their own, `reference/api/<package>.md`, which only the site has.

Pages link to files outside `docs/` by relative paths, as a reader of the repository follows them. The site gets a page
for each file that is linked: Markdown as it is, other text as a block of code, images and JSON as files.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!`)(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")
CODE = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".html": "html", ".js": "javascript", "": ""}
PACKAGES = ("taxonomy", "storage", "inference", "training", "backend")
AS_IT_IS = {".png", ".svg", ".jpg", ".json", ".csv"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of the modules, and every file that a page links to, directly or through an added file."""
    for package in PACKAGES:
        files.append(File.generated(config, f"reference/api/{package}.md", content=api_page(package)))
    waiting = [file for file in files.documentation_pages() if file.abs_src_path]
    while waiting:
        file = waiting.pop()
        for target in linked_files(file.content_string, file.src_uri):
            name = site_name(target)
            if files.get_file_from_path(name) is None:
                added = _added(config, target, name)
                files.append(added)
                waiting += [added] if added.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let links to files outside `docs/` lead to their places in the site."""
    place = page.file.src_uri

    def replace(match: re.Match[str]) -> str:
        target = repository_path(match[2], place)
        if target is None:
            return match[0]
        to = posixpath.relpath(site_name(target), posixpath.dirname(place) or ".")
        return f"{match[1]}{to}{match[3] or ''}{match[4]}"

    return LINK.sub(replace, markdown)


def modules(package: str) -> list[str]:
    """Return the dotted names of the modules of a package, without those that only start a program."""
    files = sorted((ROOT / package).rglob("*.py"))
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in files if file.name != "__main__.py"]
    return [".".join(("taxonomist", *(names[:-1] if names[-1] == "__init__" else names))) for names in parts]


def api_page(package: str) -> str:
    """Return the page that documents every public function and class of a package, by directives of mkdocstrings."""
    return "\n\n".join([f"# taxonomist.{package}", *(f"::: {name}" for name in modules(package))]) + "\n"


def linked_files(markdown: str, place: str) -> list[str]:
    """Return the files of the repository outside `docs/` that a page of the site links to."""
    found = (repository_path(match[2], place) for match in LINK.finditer(markdown))
    return sorted({target for target in found if target is not None})


def repository_path(link: str, place: str) -> str | None:
    """Return which file outside `docs/` a link leads to, None when it leads into the site or to another host.

    `place` is the page's path in the site. A page that was added from the repository lies there as in the repository.
    """
    if re.match(r"[a-z]+:", link) or link.startswith("/"):
        return None
    folder = "" if is_added(place) else "docs"
    target = posixpath.normpath(posixpath.join(folder, posixpath.dirname(place), link))
    if target.startswith(("docs/", "..")) or not (ROOT / target).is_file():
        return None
    return target


def is_added(place: str) -> bool:
    """Return whether a page of the site is a file outside `docs/`."""
    return not (ROOT / "docs" / place).exists() and not place.startswith("reference/api/")


def site_name(target: str) -> str:
    """Return the path in the site of a file of the repository: code becomes a page."""
    return target if Path(target).suffix in {".md", *AS_IT_IS} else f"{target}.md"


def _added(config: MkDocsConfig, target: str, name: str) -> File:
    path = ROOT / target
    if name == target:
        return File.generated(config, name, abs_src_path=str(path))
    language = CODE.get(path.suffix, "")
    text = f"---\ntitle: {target}\n---\n\n# {target}\n\n````{language}\n{path.read_text(encoding='utf-8')}\n````\n"
    return File.generated(config, name, content=text)
