"""Taxonomy paths: a node is named by the names from level 1 down to it, `("Bathroom", "Toilet")`."""

from collections.abc import Collection, Iterable, Iterator

TaxonomyPath = tuple[str, ...]
"""Names from level 1 down to a node; never empty when it names a node."""


NO_ANSWER: TaxonomyPath = ("",)
"""The node of a model's tree for images whose control annotators leave empty. No labelling config has such a name."""


def format_path(path: TaxonomyPath) -> str:
    """Return the path in readable form: `"Bathroom › Toilet"`."""
    if path == NO_ANSWER:
        return "(no answer)"
    return " › ".join(path)


def prefixes(path: TaxonomyPath) -> Iterator[TaxonomyPath]:
    """Yield the nodes on the path, level 1 first and the path itself last."""
    for length in range(1, len(path) + 1):
        yield path[:length]


def common_prefix(paths: Iterable[TaxonomyPath]) -> TaxonomyPath:
    """Return the longest prefix of all given paths, `()` when they share none or there are no paths."""
    shared: TaxonomyPath | None = None
    for path in paths:
        if shared is None:
            shared = path
            continue
        length = 0
        for ours, theirs in zip(shared, path, strict=False):
            if ours != theirs:
                break
            length += 1
        shared = shared[:length]
    return shared or ()


def deepest(paths: Collection[TaxonomyPath]) -> tuple[TaxonomyPath, ...]:
    """Return the paths that are not a prefix of another path, sorted, each once."""
    continued = {prefix for path in paths for prefix in prefixes(path[:-1])}
    return tuple(sorted(set(paths) - continued))
