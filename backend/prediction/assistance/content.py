"""The types of what helps a person to label an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from taxonomist.backend.labelling.missing_annotators import MissingAnnotators
from taxonomist.backend.prediction.no_suggestion import Reason
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes


class OffersKind(StrEnum):
    """Where the offers for a control come from."""

    SUGGESTION = "suggestion"  # the first one is suggested, the others are alternatives
    SHORTLIST = "shortlist"  # the right one is among them with the promised share
    VOTE = "vote"  # of the look-alikes, while there is no model
    NEW_NODE = "new node"  # which the look-alikes have and the model has not learned


@dataclass(frozen=True)
class Offer:
    """A path for a control. `probability`, 0 to 1, is that of the model or the share of votes; None: it is not known.

    `can_be_set`: the control takes it, as its labelling config says (`leafsOnly`).
    """

    path: TaxonomyPath
    probability: float | None = None
    can_be_set: bool = True


@dataclass(frozen=True)
class Offers:
    """The paths that are offered for a control, at most `MOST_OFFERS`, the likeliest first."""

    control: str
    kind: OffersKind
    offers: tuple[Offer, ...]


@dataclass(frozen=True)
class ShownLookAlike:
    """A labelled image that looks like the given one; `similarity` is the cosine, -1 to 1.

    `near_duplicate`: it shows nearly the same picture. `same_product`: it is another view of the same product.
    `task_id` is its task, None where it has none in Label Studio.
    """

    image_id: str
    uri: str
    similarity: float
    near_duplicate: bool = False
    same_product: bool = False
    task_id: str | None = None


@dataclass(frozen=True)
class LookAlikeGroup:
    """The look-alikes with one label: the same paths, by control. The most similar one comes first.

    `can_be_set` has those of the label that the controls take.
    """

    labels: Mapping[str, tuple[TaxonomyPath, ...]]
    look_alikes: tuple[ShownLookAlike, ...]
    can_be_set: Mapping[str, tuple[TaxonomyPath, ...]]


@dataclass(frozen=True)
class Assistance:
    """What helps a person to label an image.

    `reasons` say why a control has no suggestion, or why there is nothing at all. `waiting`: the images that no label
    has yet wait for further annotators. `images` has the name of the `<Image>` that a control labels, by control, and
    `values` what it shows in place of an alias.
    """

    offers: tuple[Offers, ...] = ()
    groups: tuple[LookAlikeGroup, ...] = ()
    reasons: tuple[Reason, ...] = ()
    waiting: MissingAnnotators | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[TaxonomyPath, str]] = field(default_factory=dict)

    def names(self, control: str, path: TaxonomyPath) -> TaxonomyPath:
        """Return the names of a path as people see them in the control."""
        values = self.values.get(control, {})
        return tuple(values.get(node, node[-1]) for node in prefixes(path))

    @property
    def note(self) -> str:
        """What more there is to say about the reasons."""
        return str(self.waiting or "")

    @property
    def is_control_sample(self) -> bool:
        """Whether the image is to be labelled without help."""
        return Reason.CONTROL_SAMPLE in self.reasons
