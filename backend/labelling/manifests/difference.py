"""What a manifest changes: its source as it was before, compared with what the file says now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.redaction import redacted

MOST_WITHDRAWN = 0.1  # of a source's labels, or of its images, without a confirmation


@dataclass(frozen=True, slots=True)
class SourceImage:
    """What a source says about one image: its product, and the paths of each annotator, () where one gave none."""

    product: str | None = None
    labels: Mapping[str, tuple[TaxonomyPath, ...]] = field(default_factory=dict)


Change = tuple[str, str]
"""The address of an image and an annotator."""


@dataclass(frozen=True)
class Difference:
    """The changes of a source. `emptied` labels have a row without a path now, `removed` labels have no row.

    `kept` counts images and labels without a row that stay because some rows cannot be read. `labels_before` and
    `images_before` are the sizes of the source.
    """

    images_before: int
    labels_before: int
    new_images: tuple[str, ...]
    removed_images: tuple[str, ...]
    products: tuple[str, ...]
    new: tuple[Change, ...]
    changed: tuple[Change, ...]
    emptied: tuple[Change, ...]
    removed: tuple[Change, ...]
    kept: int

    @property
    def counts(self) -> dict[str, int]:
        """The number of changes of each kind."""
        return {
            "new images": len(self.new_images),
            "new labels": len(self.new),
            "changed labels": len(self.changed),
            "emptied labels": len(self.emptied),
            "removed labels": len(self.removed),
            "removed images": len(self.removed_images),
            "changed products": len(self.products),
        }

    @property
    def withdrawn(self) -> int:
        """The number of labels that the source no longer has."""
        return len(self.emptied) + len(self.removed)

    @property
    def needs_confirmation(self) -> bool:
        """Whether more than a tenth of the source's labels, or of its images, goes."""
        return (
            self.withdrawn > MOST_WITHDRAWN * self.labels_before
            or len(self.removed_images) > MOST_WITHDRAWN * self.images_before
        )


def compare(
    before: Mapping[str, SourceImage], now: Mapping[str, SourceImage], *, withdraw_absent: bool = True
) -> Difference:
    """Return what `now` changes; both are by the address of the image.

    Without `withdraw_absent`, an image or annotator without a row keeps its labels: the row may be one that cannot be
    read.
    """
    new: list[Change] = []
    changed: list[Change] = []
    emptied: list[Change] = []
    removed: list[Change] = []
    absent = 0
    for address, said in now.items():
        known = before.get(address, SourceImage())
        for annotator, paths in said.labels.items():
            former = known.labels.get(annotator, ())
            if paths and set(former) != set(paths):
                (changed if former else new).append((address, annotator))
            elif former and not paths:
                emptied.append((address, annotator))
        removed += [(address, annotator) for annotator in known.labels if annotator not in said.labels]
    gone = [address for address in before if address not in now]
    removed += [(address, annotator) for address in gone for annotator in before[address].labels]
    if not withdraw_absent:
        absent = len(gone) + sum(1 for address, _ in removed if address in now)
        gone, removed = [], []
    return Difference(
        images_before=len(before),
        labels_before=sum(len(image.labels) for image in before.values()),
        new_images=tuple(address for address in now if address not in before),
        removed_images=tuple(gone),
        products=tuple(
            address for address, said in now.items() if address in before and said.product != before[address].product
        ),
        new=tuple(new),
        changed=tuple(changed),
        emptied=tuple(emptied),
        removed=tuple(removed),
        kept=absent,
    )


def describe(
    difference: Difference, before: Mapping[str, SourceImage], now: Mapping[str, SourceImage]
) -> Iterator[str]:
    """Yield a line for each change of an image that the source had before."""
    for address, annotator in (*difference.changed, *difference.emptied):
        former, said = before[address].labels[annotator], now[address].labels[annotator]
        yield f"{redacted(address)}: {_labels(former)} → {_labels(said)}"
    gone = set(difference.removed_images)
    for address, annotator in difference.removed:
        if address not in gone:
            yield f"{redacted(address)}: {_labels(before[address].labels[annotator])} is removed"
    for address in difference.removed_images:
        labels = _labels(path for paths in before[address].labels.values() for path in paths)
        yield f"{redacted(address)}: the image is removed, with {labels}"


def _labels(paths: Iterable[TaxonomyPath]) -> str:
    return ", ".join(dict.fromkeys(map(format_path, paths))) or "no label"
