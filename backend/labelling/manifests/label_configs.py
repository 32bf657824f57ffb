"""The labelling config of a project that a manifest is imported into: found, grown, or written from the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import parse_label_config, write_label_config
from taxonomist.taxonomy.label_config.bounds import MAX_CHARACTERS, check_paths
from taxonomist.taxonomy.names import clean_name, questionable_siblings
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.tree import Tree, check_depth


def read_config(config: Path) -> str:
    """Return the labelling config in a file. Raises `ConfigError` when it cannot be used."""
    try:
        with config.open(encoding="utf-8-sig") as file:
            xml = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config} cannot be read: {error}.") from None
    parse_label_config(xml)
    return xml


def config_with(paths: Iterable[TaxonomyPath], stored: str, given: str | None, *, grows: bool) -> str:
    """Return the labelling config that the project gets: the given one, or the stored one, "" where there is no label.

    A config that an import wrote grows by the paths that it does not have, if it `grows`: not where Label Studio has
    it. The config is read back, so that one that cannot be read is never stored. Raises `ConfigError`.
    """
    paths = list(dict.fromkeys(paths))
    if given is not None or not paths:
        return stored if given is None else given
    for path in paths:
        check_depth("taxonomy", path)  # before the config is written, which is nested as deep
    check_paths({node for path in paths for node in prefixes(path)})
    if stored and not (grows and _is_ours(stored)):
        return stored
    tree = parse_label_config(stored).trees[0] if stored else None
    known = tree.paths if tree else ()
    spelled = spelling_of(tree) if tree else {}
    xml = write_label_config(
        [*known, *(_in_spelling(path, spelled) for path in paths)],
        control=tree.control if tree else "taxonomy",
        image=tree.to_name if tree else "image",
    )
    read_back = parse_label_config(xml).trees[0]
    if lost := next((path for path in paths if _in_spelling(path, spelled) not in read_back), None):
        raise ConfigError(f"The labelling config cannot hold the label {format_path(lost)!r}.")
    return xml


def stored_paths(paths: Iterable[TaxonomyPath], tree: Tree) -> dict[TaxonomyPath, TaxonomyPath]:
    """Return each path as an annotation stores it: in the spelling of the tree, and only its last name for choices."""
    spelled = spelling_of(tree)
    return {path: _in_spelling(path if tree.kind == "taxonomy" else path[-1:], spelled) for path in paths}


def spelling_of(tree: Tree) -> Mapping[TaxonomyPath, TaxonomyPath]:
    """Return the nodes of a tree by their clean names."""
    return {tuple(map(clean_name, path)): path for path in reversed(tree.paths)}


def questions(used: Counter[TaxonomyPath], tree: Tree | None) -> list[str]:
    """Return a question for each pair of siblings with similar names of which the manifest uses at least one.

    `used` counts the rows of each path.
    """
    rows: Counter[TaxonomyPath] = Counter()
    for path, count in used.items():
        for node in prefixes(path):
            rows[node] += count
    known = {tuple(map(clean_name, path)) for path in tree.paths} if tree else set()
    return [
        f"{format_path(one)!r} ({rows[one]} rows) and {format_path(other)!r} ({rows[other]} rows) {difference}"
        for one, other, difference in questionable_siblings([*rows, *sorted(known - rows.keys())])
        if rows[one] or rows[other]
    ]


def _is_ours(xml: str) -> bool:
    config = parse_label_config(xml)
    tree = config.trees[0]
    return write_label_config(tree.paths, control=tree.control, image=tree.to_name) == xml


def _in_spelling(path: TaxonomyPath, spelled: Mapping[TaxonomyPath, TaxonomyPath]) -> TaxonomyPath:
    """Return the path with the names of the tree as far as the tree has it."""
    for depth in range(len(path), 0, -1):
        if (known := spelled.get(path[:depth])) is not None:
            return (*known, *path[depth:])
    return path
