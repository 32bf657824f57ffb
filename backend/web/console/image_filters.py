"""The filters of the page of images: read from an address, and written into the addresses of the choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from werkzeug.datastructures import MultiDict

from taxonomist.backend.status.evaluation.images import images_from
from taxonomist.backend.status.images import ImageCounts, ImageFilter, Judged
from taxonomist.backend.status.nodes import NodeLabels
from taxonomist.backend.web.console.evaluation.wording import evaluated_words
from taxonomist.backend.web.console.language import Language
from taxonomist.backend.web.console.wording import STATES
from taxonomist.taxonomy.paths import format_path

JUDGED: Mapping[Judged, str] = {"right": "right", "wrong": "wrong"}


@dataclass(frozen=True)
class Choice:
    """A filter to choose: its name, the number of its images, and the address with and without it."""

    name: str
    count: int
    query: str
    is_chosen: bool
    depth: int = 0


@dataclass(frozen=True)
class Choices:
    """The filters of the page. `chips` are those that are chosen, each with the address without it."""

    nodes: tuple[Choice, ...]
    states: tuple[Choice, ...]
    judged: tuple[Choice, ...]
    chips: tuple[tuple[str, str], ...]


def filter_of(arguments: MultiDict[str, str]) -> ImageFilter:
    """Return the filter of an address; what is not a filter is left out. Raises `BadRequestError`."""
    judged = arguments.get("suggestion")
    return ImageFilter(
        node=tuple(arguments.getlist("node")),
        state=arguments.get("state") or None,
        product=arguments.get("product") or None,
        judged="right" if judged == "right" else "wrong" if judged == "wrong" else None,
        evaluated=images_from(arguments.getlist("evaluated")),
    )


def query_of(wanted: ImageFilter, after: str = "") -> str:
    """Return the query of an address."""
    pairs = [("node", name) for name in wanted.node]
    pairs += [("state", wanted.state)] if wanted.state else []
    pairs += [("suggestion", wanted.judged)] if wanted.judged else []
    pairs += [("product", wanted.product)] if wanted.product else []
    pairs += [("evaluated", value) for value in wanted.evaluated.values] if wanted.evaluated else []
    return urlencode([*pairs, *([("after", after)] if after else [])])


def quoted(text: str) -> str:
    """Return a text as a part of an address."""
    return quote(text, safe="")


def choices(counts: ImageCounts, wanted: ImageFilter, language: Language) -> Choices:
    """Return the filters to choose from. Of the taxonomy: the chosen node, those above, and those just below."""
    states = {state: count for state, count in counts.states.items() if count or state == wanted.state}
    judged = {"right": counts.right, "wrong": counts.wrong} if counts.right or counts.wrong else {}
    chips = []
    if wanted.node:
        chips.append((format_path(wanted.node[1:]), query_of(replace(wanted, node=()))))
    if wanted.state:
        chips.append((language.t(STATES.get(wanted.state, "other reason")), query_of(replace(wanted, state=None))))
    if wanted.judged:
        chips.append((language.t(JUDGED[wanted.judged]), query_of(replace(wanted, judged=None))))
    if wanted.product:
        chips.append((wanted.product, query_of(replace(wanted, product=None))))
    if wanted.evaluated:
        chips.append((evaluated_words(wanted.evaluated, language), query_of(replace(wanted, evaluated=None))))
    return Choices(
        nodes=tuple(_nodes(counts.nodes, wanted, 0)),
        states=tuple(
            Choice(
                language.t(STATES.get(state, "other reason")),
                count,
                query_of(replace(wanted, state=None if state == wanted.state else state)),
                state == wanted.state,
            )
            for state, count in sorted(states.items(), key=lambda item: -item[1])
        ),
        judged=tuple(
            Choice(
                language.t(JUDGED[name]),
                judged[name],
                query_of(replace(wanted, judged=None if name == wanted.judged else name)),
                name == wanted.judged,
            )
            for name in JUDGED
            if name in judged
        ),
        chips=tuple(chips),
    )


def _nodes(nodes: tuple[NodeLabels, ...], wanted: ImageFilter, depth: int) -> list[Choice]:
    found = []
    for node in nodes:
        name = (node.control, *node.path)
        is_chosen, is_on_path = name == wanted.node, name == wanted.node[: len(name)]
        query = query_of(replace(wanted, node=name[:-1] if is_chosen and depth else () if is_chosen else name))
        found.append(Choice(node.name, node.labels, query, is_chosen, depth))
        if is_on_path:
            found += _nodes(node.below, wanted, depth + 1)
    return found
