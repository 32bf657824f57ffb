"""Typed manifests of the versions of backbones and heads.

Unknown keys are ignored, except in the summary of a pre-training, which keeps them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError

from taxonomist.taxonomy.calibration.thresholds import Calibration
from taxonomist.taxonomy.comparison import PairedComparison
from taxonomist.taxonomy.errors import ConfigError, DamagedError
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import TreeMetrics

__all__ = [
    "NEAR_DISTANCE",
    "NEVER_TESTED",
    "PRODUCTS_UNKNOWN",
    "TOGETHER",
    "BackboneManifest",
    "FileEntry",
    "HeadManifest",
    "LookAlikeFigures",
    "PretrainingData",
    "PretrainingSummary",
    "PromotionRecord",
    "SpaceFigures",
    "SuggestionFigures",
    "Tested",
    "TrainingData",
    "parse_backbone",
    "parse_files",
    "parse_head",
]

Model = TypeVar("Model", bound=BaseModel)
Count = Annotated[int, Field(ge=0)]


def _tree(value: object) -> object:
    if isinstance(value, Tree):
        return value
    try:
        return Tree.from_json(value)  # type: ignore[arg-type]
    except (ConfigError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _calibration(value: object) -> object:
    if isinstance(value, Calibration):
        return value
    try:
        return Calibration.from_json(value)  # type: ignore[arg-type]
    except (ConfigError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


class FileEntry(BaseModel):
    """One file of a version: the hexadecimal SHA-256 and the number of its bytes."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: Count


class PretrainingData(BaseModel):
    """The images of a pre-training: their number, their side in pixels, and a hash of some of them."""

    model_config = ConfigDict(frozen=True)

    count: Count
    size: Count | None = None
    sha256: str | None = None


class PretrainingSummary(BaseModel):
    """How a backbone was pre-trained, and the result. `seconds` is the time of all segments together.

    `seen` counts images to the end of the run, `best_seen` to the moment whose weights are kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    recipe: Mapping[str, Any] = {}
    data: PretrainingData | None = None
    origin: str = ""
    device: str = ""
    precision: str | None = None
    seen: Count | None = None
    epochs: float | None = None
    loss: float | None = None
    score: float | None = None
    best_seen: Count | None = None
    stopped_early: bool = False
    seconds: float | None = None


NEAR_DISTANCE = 0.02
"""That of backbones for which it was not measured; with the former starter 95 % of copies were that close."""


class BackboneManifest(BaseModel):
    """A backbone: it embeds images uint8 (n, size, size, 3) as float32 (n, dimension).

    `origin` says in words where its weights come from, `licence` on which terms, where that is known. `starter` is true
    for the one that ships with the project.
    `near_distance` is that of near-duplicates, as `training.near_duplicates.near_distance` measures it.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["backbone"]
    architecture: str
    size: Annotated[int, Field(ge=1, le=8192)]
    dimension: Annotated[int, Field(ge=1, le=1_000_000)]
    origin: str = ""
    licence: str = ""
    starter: bool = False
    near_distance: Annotated[float, Field(gt=0, lt=1)] = NEAR_DISTANCE
    pretraining: PretrainingSummary | None = None
    created_at: str | None = None


class PromotionRecord(BaseModel):
    """The decision that was made when a head was published, with its reason in words, and the figures of a comparison.

    `aliases` says which version was served then, and after how many changes: as long as it is true, the version was not
    promoted yet. None for a head of an earlier release, and for one that is promoted together with its backbone.
    """

    model_config = ConfigDict(frozen=True)

    promoted: bool
    reason: str
    figures: PairedComparison | None = None
    aliases: str | None = None


class TrainingData(BaseModel):
    """The labelled images of a training: a hash of all of them, their number, and how many were left out.

    `inputs` is the fingerprint of all that the training began with; None for a version of an earlier release.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    count: Count
    left_out: Count = 0
    inputs: str | None = None


class Tested(BaseModel):
    """What the figures of a head rest on.

    The test part has `images` of `products`, of which `shortened` are scored above their label: training does not know
    the node. `nodes` counts the labelled nodes, `untested` those of them without a test image, by control. Of the
    `labelled` images of the training, `without_product` have no known product; where they are near-duplicates, they
    count as one.
    """

    model_config = ConfigDict(frozen=True)

    images: Count
    products: Count
    labelled: Count
    without_product: Count
    shortened: Count = 0
    nodes: Mapping[str, Count] = {}
    untested: Mapping[str, Count] = {}

    @property
    def products_known(self) -> bool:
        """Whether most images have a known product."""
        return 2 * self.without_product < self.labelled

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of the figures must know, in words; empty when nothing."""
        caveats = () if self.images else (NEVER_TESTED,)
        if not self.without_product:
            return caveats
        some = f" for {self.without_product} of {self.labelled} images" if self.products_known else ""
        return *caveats, PRODUCTS_UNKNOWN + some


NEVER_TESTED = "never tested"
PRODUCTS_UNKNOWN = "products unknown"
TOGETHER = "several images of a product together"


class LookAlikeFigures(BaseModel):
    """What a projection of embeddings does for look-alikes, and whether the version has it (`served`).

    It is learned from `images` of `products`. On `held_out` other products, `same_product` is the share of the images
    whose nearest image shows the same product, and `same_labels` the share of their labels that the nearest labelled
    image has: each without it, and with it.
    """

    model_config = ConfigDict(frozen=True)

    served: bool
    products: Count
    images: Count
    held_out: Count
    same_product: tuple[float, float]
    same_labels: tuple[float, float]


class SpaceFigures(BaseModel):
    """What a space of `dimension` numbers does for a discriminant, and whether it learned in it (`served`).

    `images` of `products` have taught the space, without labels. `log_loss` is that of the labels by models without
    their products: without the space, and in it.
    """

    model_config = ConfigDict(frozen=True)

    served: bool
    products: Count
    images: Count
    dimension: Count
    log_loss: tuple[float, float]


class SuggestionFigures(BaseModel):
    """What a head suggests for the test images of a control: `suggested` of the `images` get a path, `listed` a
    shortlist. Of the paths, labels judge `judged`, and `right` of these are right: a label that stops above a suggested
    path does not judge it.
    """

    model_config = ConfigDict(frozen=True)

    images: Count
    suggested: Count
    listed: Count
    judged: Count
    right: Count

    @property
    def coverage(self) -> float:
        """The share of the images that get a path, 0 to 1."""
        return self.suggested / self.images if self.images else 0.0


class HeadManifest(BaseModel):
    """A project's head: it takes embeddings of the version `backbone` of the backbone.

    `calibration`, `metrics` and `champion_metrics` are by control; the metrics are those of the test images. `fused`
    has the calibrations of several images of a product together, of controls that are predicted so. `tested` is None
    for a version of an earlier release, `look_alikes` where too few products are known. `suggested` has by control what
    becomes of the test images; empty for a version of an earlier release. `spaces` has the controls whose
    discriminants were compared in a space that products have taught.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["head"]
    project: str = ""
    backbone: str
    trees: tuple[Annotated[InstanceOf[Tree], BeforeValidator(_tree)], ...]
    calibration: Mapping[str, Annotated[InstanceOf[Calibration], BeforeValidator(_calibration)]]
    fused: Mapping[str, Annotated[InstanceOf[Calibration], BeforeValidator(_calibration)]] = {}
    metrics: Mapping[str, TreeMetrics] = {}
    suggested: Mapping[str, SuggestionFigures] = {}
    champion_metrics: Mapping[str, TreeMetrics] | None = None
    promotion: PromotionRecord | None = None
    data: TrainingData | None = None
    tested: Tested | None = None
    look_alikes: LookAlikeFigures | None = None
    spaces: Mapping[str, SpaceFigures] = {}
    settings: Mapping[str, Any] = {}
    duration_s: float | None = None
    created_at: str | None = None

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of the metrics must know, in words. An earlier release did not record whether products were
        known, so they count as unknown."""
        if self.tested is not None:
            return self.tested.caveats
        return (PRODUCTS_UNKNOWN,) if self.metrics else (NEVER_TESTED, PRODUCTS_UNKNOWN)

    @property
    def trees_by_control(self) -> dict[str, Tree]:
        """The trees by the name of their control."""
        return {tree.control: tree for tree in self.trees}


_FILES = TypeAdapter(dict[str, FileEntry])


def parse_backbone(manifest: Mapping[str, Any], path: Path) -> BackboneManifest:
    """Return the manifest of a backbone; `path` is its file. Raises `DamagedError` that names the field."""
    return _parse(BackboneManifest, manifest, path, "backbone")


def parse_head(manifest: Mapping[str, Any], path: Path) -> HeadManifest:
    """Return the manifest of a head; `path` is its file. Raises `DamagedError` that names the field."""
    return _parse(HeadManifest, manifest, path, "head")


def parse_files(manifest: Mapping[str, Any], path: Path) -> dict[str, FileEntry]:
    """Return the files of a version by their path in it. Raises `DamagedError`."""
    try:
        return _FILES.validate_python(manifest.get("files"))
    except ValidationError as error:
        raise _error(path, "version", error, "files") from error


def _parse(model: type[Model], manifest: Mapping[str, Any], path: Path, kind: str) -> Model:
    try:
        return model.model_validate(dict(manifest))
    except ValidationError as error:
        raise _error(path, kind, error) from error


def _error(path: Path, kind: str, error: ValidationError, *field: str) -> DamagedError:
    first = error.errors()[0]
    name = ".".join(map(str, (*field, *first["loc"])))
    return DamagedError(
        f"{path} is not the manifest of a {kind} ({name}: {first['msg']}).",
        hint="Roll back to another version, or train again.",
    )
