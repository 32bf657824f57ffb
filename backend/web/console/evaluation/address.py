"""The address of the page of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from taxonomist.taxonomy.paths import TaxonomyPath


@dataclass(frozen=True)
class Address:
    """The parameters of the page. None and (): what is shown without them.

    `node` is the place in the tree, `focus` a child of it. `than` is a version to compare with. `all_nodes`: the table
    of nodes has all of them.
    """

    version: str | None = None
    control: str | None = None
    node: TaxonomyPath = ()
    focus: str | None = None
    than: str | None = None
    all_nodes: bool = False

    @classmethod
    def of(cls, arguments: MultiDict[str, str]) -> Address:
        """Return those of a query."""
        return cls(
            version=arguments.get("version") or None,
            control=arguments.get("control") or None,
            node=tuple(arguments.getlist("at")),
            focus=arguments.get("focus") or None,
            than=arguments.get("than") or None,
            all_nodes=arguments.get("nodes") == "all",
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query."""
        named = [(name, getattr(self, name)) for name in ("version", "control", "focus", "than")]
        return [
            *((name, value) for name, value in named if value),
            *(("at", name) for name in self.node),
            *([("nodes", "all")] if self.all_nodes else []),
        ]

    @property
    def link(self) -> str:
        """The address, from another page of the project."""
        return f"evaluation?{urlencode(self.pairs)}"
