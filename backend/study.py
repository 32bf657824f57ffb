"""A study on a project: its labelled images, the backbones to compare, and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from taxonomist.backend.pretraining.prepared_images import FAILURES, prepared_image_store, serving_size
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.pipeline import ImageSource
from taxonomist.inference.preparation import prepare_images
from taxonomist.progress import StepProgress, ignore_steps
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath, deepest
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.near_duplicates import near_duplicates_of_unknown
from taxonomist.training.study.contestants import Contestant, pixels, published, resnet
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.run import StudyResult, run_study

__all__ = ["StudyOptions", "build_contestants", "collect_labelled_images", "study_project"]

_PREPARING_SHARE = 0.1  # of the progress of the study


def study_project(
    services: Services,
    project: str,
    folder: Path,
    options: StudyOptions | None = None,
    progress: StepProgress = ignore_steps,
    *,
    versions: Sequence[str] = (),
    control: str | None = None,
    imagenet: bool = True,
    fine_tune: int = 0,
) -> StudyResult:
    """Compare embeddings on the labels of a project, write the report `folder`/study.md, and return the result.

    Contestants are a random ResNet, raw pixels, ImageNet weights if they are available, the champion of the backbones
    and the named `versions`. The last two take part without and with oversampling and, if `fine_tune` is not 0, also
    with that many blocks fine-tuned. `control` is the taxonomy to study, by default the first one. A study that was
    killed resumes. Raises ConfigError, NotFoundError, TrainingError or StorageError.
    """
    labelled, notes = collect_labelled_images(
        services, project, folder, control, lambda share: progress("images", share)
    )
    competing, more_notes = build_contestants(services, versions, imagenet=imagenet, fine_tune=fine_tune)
    return run_study(
        labelled,
        competing,
        options or StudyOptions(),
        folder,
        lambda step, share: progress(step, _PREPARING_SHARE + (1 - _PREPARING_SHARE) * share),
        notes=[*notes, *more_notes],
    )


def collect_labelled_images(
    services: Services,
    project: str,
    folder: Path,
    control: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[LabelledImages, list[str]]:
    """Return the labelled images of a project, and notes on those that are left out.

    Images that are not prepared yet are prepared; `failures.csv` in `folder` has the reasons for those that failed. The
    products of the project's test part, which no pre-training has seen, are held out.
    """
    tree = _tree(services, project, control)
    documents = list(services.catalog.documents(project, labelled=True))
    paths = {document.id: path for document in documents if (path := _path(document, project, tree))}
    usable = [document for document in documents if document.id in paths]
    store, hashes = _prepare_images(services, project, usable, folder, progress)
    ids, images = store.snapshot()
    row_of = {id: row for row, id in enumerate(ids)}
    used = [document for document in usable if document.id in row_of]
    if not used:
        raise TrainingError(
            f"Project {project} has no labelled image that can be read.",
            hint=f"Label images, or see {folder / FAILURES}.",
        )
    products = {document.id: document.product(project) for document in used}
    near: dict[str, str] = {}
    if backbone := services.backbone():
        near = near_duplicates_of_unknown(
            products, services.embeddings(backbone.version), backbone.backbone_manifest.near_distance
        )
    groups = [product or near.get(id, id) for id, product in products.items()]
    is_test = [document.projects[project].part == "test" for document in used]
    labelled = LabelledImages(
        [document.id for document in used],
        images,
        [paths[document.id] for document in used],
        groups,
        frozenset(group for group, test in zip(groups, is_test, strict=True) if test),
        np.array([row_of[document.id] for document in used]),
        [document.file_hash or hashes.get(document.id) for document in used],
    )
    left_out = {
        "they have several accepted paths, or none in the taxonomy": len(documents) - len(usable),
        f"they cannot be read (see {FAILURES})": len(usable) - len(used),
    }
    notes = [f"Labelled images left out because {reason}: {count}." for reason, count in left_out.items() if count]
    if unknown := sum(product is None for product in products.values()):
        notes.append(
            f"Products unknown: {unknown} of {len(used)} images have none. Near-duplicates of these count as one "
            f"product, as far as they are embedded ({len(near)} images), so a test image may show a product that was "
            "learned."
        )
    return labelled, notes


def _prepare_images(
    services: Services,
    project: str,
    documents: Sequence[ImageDocument],
    folder: Path,
    progress: Callable[[float], None],
) -> tuple[PreparedImageStore, dict[str, str]]:
    """Return the store with the images of these documents, and the sha256 of each file that was read now."""
    hashes: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    store = prepared_image_store(services, serving_size(services))
    prepare_images(
        [ImageSource(document.id, document.projects[project].uri, project) for document in documents],
        store,
        lambda source: services.images(source.project).read(source.uri),
        progress=lambda done, total: progress(_PREPARING_SHARE * done / max(total, 1)),
        note=lambda images: hashes.update({result.source.id: result.image.file_hash for result in images}),
        failures_file=folder / FAILURES,
        max_pixels=services.settings.max_image_pixels,
    )
    return store, hashes


def build_contestants(
    services: Services, versions: Sequence[str] = (), *, imagenet: bool = True, fine_tune: int = 0
) -> tuple[list[Contestant], list[str]]:
    """Return the contestants, the baseline first, and notes on those that are not available. Raises NotFoundError."""
    settings, notes = services.settings, []
    spec = BackboneSpec(settings.backbone, "random", settings.seed, serving_size(services))
    found = [resnet(spec), pixels()]
    if imagenet:
        try:
            found.append(resnet(replace(spec, weights="imagenet")))
        except TrainingError as error:
            notes.append(f"ImageNet weights are not compared. {error}")
    champion = services.registry.champion(BACKBONE)
    for version in dict.fromkeys([*([champion] if champion else []), *versions]):
        frozen = published(services.registry.get(BACKBONE, version))
        named = [(frozen.name, frozen)]
        if fine_tune:
            named.append((f"{frozen.name}, {fine_tune} blocks fine-tuned", replace(frozen, fine_tune=fine_tune)))
        for name, contestant in named:
            found += [
                replace(contestant, name=name),
                replace(contestant, name=f"{name}, oversampling", oversample=True),
            ]
    return found, notes


def _tree(services: Services, project: str, control: str | None) -> Tree:
    trees = services.label_config(project).trees
    chosen = next((tree for tree in trees if control in (None, tree.control)), None)
    if chosen is None:
        known = ", ".join(tree.control for tree in trees)
        raise ConfigError(f'Project {project} has no taxonomy "{control}".', hint=f"Its taxonomies are {known}.")
    return chosen


def _path(document: ImageDocument, project: str, tree: Tree) -> TaxonomyPath | None:
    """Return the accepted path as far as the taxonomy has it; None if there is none or more than one."""
    known = deepest({tree.known_prefix(path) for path in document.projects[project].paths(tree.control)} - {()})
    return known[0] if len(known) == 1 else None
