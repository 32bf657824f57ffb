"""What the template of the panel shows: the assistance for an image as texts, links and shares of a bar."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taxonomist.backend.prediction.assistance import Assistance, LookAlikeGroup, Offers, OffersKind, ShownLookAlike
from taxonomist.backend.web.console.language import Language
from taxonomist.taxonomy.paths import TaxonomyPath, format_path

KEYS = 5  # labels with a key: Alt+1 to Alt+5
THUMBS, THUMBS_ALONE = 4, 8  # of a group, and of the only one
_HEADINGS = {
    OffersKind.SUGGESTION: "Suggestion",
    OffersKind.SHORTLIST: "Probably one of these",
    OffersKind.VOTE: "The look-alikes agree on",
    OffersKind.NEW_NODE: "The look-alikes propose",
}
_WAITS = "1 image waits for a further annotator: a label needs {needed} annotators who agree."
_WAIT = "{count} images wait for a further annotator: a label needs {needed} annotators who agree."


@dataclass(frozen=True)
class Links:
    """Make the addresses of an image, by its id, and of a task in Label Studio, where its address is known."""

    image: Callable[[str], str]
    task: Callable[[str], str] | None


@dataclass(frozen=True)
class Label:
    """A label in words: its last name, the names above it, and the whole path.

    `to_set` is JSON for the script: the paths and the name of the `<Image>` by control, "" where it cannot be set.
    `number` is that of its key, 0 without one.
    """

    name: str
    above: str
    path: str
    to_set: str
    number: int


@dataclass(frozen=True)
class OfferView:
    """An offer. `percent` is a text such as "58 %", "" where no probability is known; `width` that of the bar, 0 to
    100."""

    label: Label
    percent: str
    width: str


@dataclass(frozen=True)
class OffersView:
    """The offers for a control."""

    heading: str
    is_new: bool
    offers: tuple[OfferView, ...]


@dataclass(frozen=True)
class ThumbView:
    """A look-alike. `mark` says what it is beside a look-alike, "" nothing; `similarity` how alike it is."""

    image: str
    large: str
    task: str
    mark: str
    similarity: str


@dataclass(frozen=True)
class GroupView:
    """The look-alikes with one label."""

    label: Label
    count: int
    thumbs: tuple[ThumbView, ...]


@dataclass(frozen=True)
class PanelView:
    """All that the panel shows. `language` is the one of its texts."""

    language: Language
    is_control_sample: bool
    offers: tuple[OffersView, ...]
    groups: tuple[GroupView, ...]
    sentences: tuple[str, ...]


def panel_view(found: Assistance, links: Links, language: Language = Language()) -> PanelView:  # noqa: B008
    """Return what the panel shows, in the language of the annotator."""
    numbers: dict[str, int] = {}

    def label(labels: Mapping[str, tuple[TaxonomyPath, ...]], can_be_set: bool) -> Label:
        paths = [found.names(control, path) for control, paths in labels.items() for path in paths]
        controls = {control: {"paths": paths, "image": found.images.get(control)} for control, paths in labels.items()}
        to_set = json.dumps(controls, ensure_ascii=False) if can_be_set else ""
        if to_set and to_set not in numbers:
            numbers[to_set] = len(numbers) + 1 if len(numbers) < KEYS else 0
        return Label(
            name=" · ".join(path[-1] for path in paths),
            above=format_path(paths[0][:-1]) if len(paths) == 1 else "",
            path=" · ".join(map(format_path, paths)),
            to_set=to_set,
            number=numbers.get(to_set, 0),
        )

    def offers(row: Offers) -> OffersView:
        several = len({other.control for other in found.offers}) > 1
        shown = [
            OfferView(label({row.control: (offer.path,)}, offer.can_be_set), *_share(offer.probability))
            for offer in row.offers
            if offer.path
        ]
        heading = language.t(_HEADINGS[row.kind]) + (f" ({row.control})" if several else "")
        return OffersView(heading, row.kind == OffersKind.NEW_NODE, tuple(shown))

    def thumb(look_alike: ShownLookAlike) -> ThumbView:
        image = links.image(look_alike.image_id)
        mark = "nearly the same" if look_alike.near_duplicate else "same product" if look_alike.same_product else None
        task = links.task(look_alike.task_id) if links.task and look_alike.task_id else ""
        similarity = language.t("Similarity {similarity}", similarity=language.number(look_alike.similarity, 2))
        return ThumbView(image, f"{image}&size=large", task, language.t(mark) if mark else "", similarity)

    def group(row: LookAlikeGroup) -> GroupView:
        label_of = label(row.labels, can_be_set=row.can_be_set == row.labels)
        shown = row.look_alikes[: THUMBS if len(found.groups) > 1 else THUMBS_ALONE]
        return GroupView(label_of, len(row.look_alikes), tuple(map(thumb, shown)))

    sentences = [language.t(reason) for reason in found.reasons]
    if waiting := found.waiting:
        sentences.append(language.n(waiting.images, _WAITS, _WAIT, needed=language.number(waiting.needed)))
    return PanelView(
        language,
        found.is_control_sample,
        tuple(map(offers, found.offers)),
        tuple(map(group, found.groups)),
        tuple(sentences),
    )


def _share(probability: float | None) -> tuple[str, str]:
    if probability is None:
        return "", "0"
    percent = probability * 100
    return (f"{percent:.0f} %" if percent >= 1 else "< 1 %"), f"{percent:.1f}"
