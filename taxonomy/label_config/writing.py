"""Writes a labelling config of Label Studio."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from taxonomist.taxonomy.paths import TaxonomyPath


def write_label_config(paths: Iterable[TaxonomyPath], *, control: str = "taxonomy", image: str = "image") -> str:
    """Return a labelling config with one image and a `<Taxonomy>` of these paths, in the given order.

    Missing parents of a path are added. `showFullPath` shows annotators the whole path, not only its last name.
    """
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for name in path:
            node = node.setdefault(name, {})
    return "\n".join(
        [
            "<View>",
            f'  <Image name={quoteattr(image)} value="$image"/>',
            f'  <Taxonomy name={quoteattr(control)} toName={quoteattr(image)} showFullPath="true">',
            *_choice_lines(tree, "    "),
            "  </Taxonomy>",
            "</View>",
        ]
    )


def _choice_lines(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, below in tree.items():
        if below:
            yield f"{indent}<Choice value={quoteattr(name)}>"
            yield from _choice_lines(below, indent + "  ")
            yield f"{indent}</Choice>"
        else:
            yield f"{indent}<Choice value={quoteattr(name)}/>"
