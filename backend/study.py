"""The study on a project: its accepted labels, its pictures, and the backbones that there are to compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from taxonomist.backend.pretraining.prepared_images import FAILURES, prepared_image_store, serving_size
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.pipeline import ImageSource
from taxonomist.inference.preparation import prepare_images
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath, deepest
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.study.contestants import Contestant, pixels, published, resnet
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.run import StudyResult, run_study

__all__ = ["StudyOptions", "collect", "contestants", "study"]

Progress = Callable[[str, float], None]
_READING_SHARE = 0.1  # of the whole progress


def study(
    services: Services,
    project: str,
    folder: Path,
    options: StudyOptions | None = None,
    progress: Progress = lambda stage, share: None,
    *,
    versions: Sequence[str] = (),
    control: str | None = None,
    imagenet: bool = True,
    fine_tune: int = 0,
) -> StudyResult:
    """Compare what embeddings are worth for the labels of a project; the report is `folder`/study.md.

    Contestants are a random ResNet, raw pixels, ImageNet's weights where they can be had, the champion of the
    backbones and the `versions` of it that are named, each of those without and with oversampling and, when `fine_tune`
    is not 0, with that many blocks trained. `control` is the taxonomy that is studied, default the first one. A study
    that was killed goes on. Raises ConfigError, NotFoundError, TrainingError or StorageError.
    """
    labelled, notes = collect(services, project, folder, control, lambda share: progress("pictures", share))
    rivals, more = contestants(services, versions, imagenet=imagenet, fine_tune=fine_tune)
    return run_study(
        labelled,
        rivals,
        options or StudyOptions(),
        folder,
        lambda stage, share: progress(stage, _READING_SHARE + (1 - _READING_SHARE) * share),
        notes=[*notes, *more],
    )


def collect(
    services: Services,
    project: str,
    folder: Path,
    control: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[LabelledImages, list[str]]:
    """The labelled pictures of a project, and what is to be said of those that were left out.

    Pictures that were never prepared are, now; the reasons for those that cannot be had are in `folder`. Where
    pre-training leaves the project's test part out (`pretrain_skip_test`), its products are the held-out ones.
    """
    tree = _tree(services, project, control)
    documents = list(services.catalog.documents(project, labelled=True))
    paths = {document.id: path for document in documents if (path := _path(document, project, tree))}
    usable = [document for document in documents if document.id in paths]
    store, hashes = _prepared(services, project, usable, folder, progress)
    names, pictures = store.snapshot()
    row_of = {name: row for row, name in enumerate(names)}
    used = [document for document in usable if document.id in row_of]
    if not used:
        raise TrainingError(
            f"Project {project} has no labelled picture that can be read.", hint=f"Label some, or see {FAILURES}."
        )
    groups = [document.projects[project].group or document.id for document in used]
    tested = [document.projects[project].part == "test" for document in used]
    skipped = services.settings.pretrain_skip_test
    labelled = LabelledImages(
        [document.id for document in used],
        pictures,
        [paths[document.id] for document in used],
        groups,
        frozenset(group for group, test in zip(groups, tested, strict=True) if test and skipped),
        np.array([row_of[document.id] for document in used]),
        [document.file_hash or hashes.get(document.id) for document in used],
    )
    left_out = {
        "with several accepted paths, or none that the taxonomy knows": len(documents) - len(usable),
        f"that cannot be read ({FAILURES} says why)": len(usable) - len(used),
    }
    return labelled, [f"Labelled pictures left out, {why}: {count}." for why, count in left_out.items() if count]


def _prepared(
    services: Services,
    project: str,
    documents: Sequence[ImageDocument],
    folder: Path,
    progress: Callable[[float], None],
) -> tuple[PreparedImageStore, dict[str, str]]:
    """The store with the pictures of these documents, and the sha256 of the files that had to be read for it."""
    hashes: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    store = prepared_image_store(services, serving_size(services))
    prepare_images(
        [ImageSource(document.id, document.projects[project].uri, project) for document in documents],
        store,
        lambda source: services.images(source.project).read(source.uri),
        progress=lambda done, total: progress(_READING_SHARE * done / max(total, 1)),
        note=lambda images: hashes.update({result.source.id: result.image.file_hash for result in images}),
        failures_file=folder / FAILURES,
        max_pixels=services.settings.max_image_pixels,
    )
    return store, hashes


def contestants(
    services: Services, versions: Sequence[str] = (), *, imagenet: bool = True, fine_tune: int = 0
) -> tuple[list[Contestant], list[str]]:
    """Who competes, and what is to be said of who cannot. The first one is the baseline. Raises NotFoundError."""
    settings, notes = services.settings, []
    spec = BackboneSpec(settings.backbone, "random", settings.seed, serving_size(services))
    found = [resnet(spec), pixels()]
    if imagenet:
        try:
            found.append(resnet(replace(spec, weights="imagenet")))
        except TrainingError as reason:
            notes.append(f"ImageNet weights do not compete. {reason}")
    champion = services.registry.champion(BACKBONE)
    for version in dict.fromkeys([*([champion] if champion else []), *versions]):
        frozen = published(services.registry.get(BACKBONE, version))
        named = [(frozen.name, frozen)]
        if fine_tune:
            named.append((f"{frozen.name}, {fine_tune} blocks fine-tuned", replace(frozen, fine_tune=fine_tune)))
        for name, each in named:
            found += [replace(each, name=name), replace(each, name=f"{name}, oversampling", oversample=True)]
    return found, notes


def _tree(services: Services, project: str, control: str | None) -> Tree:
    trees = services.label_config(project).trees
    chosen = next((tree for tree in trees if control in (None, tree.control)), None)
    if chosen is None:
        known = ", ".join(tree.control for tree in trees)
        raise ConfigError(f'Project {project} has no taxonomy "{control}".', hint=f"It has {known}.")
    return chosen


def _path(document: ImageDocument, project: str, tree: Tree) -> TaxonomyPath | None:
    """The one accepted path, as far as the taxonomy knows it; None where there is none or more than one."""
    known = deepest({tree.known_prefix(path) for path in document.projects[project].paths(tree.control)} - {()})
    return known[0] if len(known) == 1 else None
