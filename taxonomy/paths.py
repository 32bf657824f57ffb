"""Taxonomy paths: a node named by the way down to it, `("Bathroom", "Toilet")`."""

from collections.abc import Collection, Iterable, Iterator

TaxonomyPath = tuple[str, ...]
"""Names from level 1 down to a node; never empty when it names a node."""


def format_path(path: TaxonomyPath) -> str:
    """Return the path as people read it: `"Bathroom › Toilet"`."""
    return " › ".join(path)


def prefixes(path: TaxonomyPath) -> Iterator[TaxonomyPath]:
    """Yield the nodes on the way down, level 1 first and the path itself last."""
    for length in range(1, len(path) + 1):
        yield path[:length]


def common_prefix(paths: Iterable[TaxonomyPath]) -> TaxonomyPath:
    """Return the deepest path that all given paths start with, `()` when they share nothing or there are none."""
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
    """Return the paths that no other one continues, sorted and each once."""
    continued = {prefix for path in paths for prefix in prefixes(path[:-1])}
    return tuple(sorted(set(paths) - continued))
