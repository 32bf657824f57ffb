"""One training of a project: from accepted labels in the catalogue to a version in the registry.

It imports torch; `JobKind.TRAIN` and the commands that train import it when they run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from filelock import FileLock

from taxonomist.backend.label_studio.protocol import model_version_name
from taxonomist.backend.labelling.decisions import decide_anew, decide_dirty
from taxonomist.backend.prediction.embedding import embed, read_image
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.retraining.promotion import after_promotion
from taxonomist.backend.services import Services, registry_name
from taxonomist.inference.pipeline import ImageSource
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import DamagedError, NotFoundError, TrainingError
from taxonomist.training.heads.dataset import Example, assign_parts, usable_examples
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.heads.project import TrainingOptions, TrainingOutcome, train_project
from taxonomist.training.split import Part

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
EMBEDDING_SHARE = 0.3  # of the whole job's progress


def train(services: Services, project: str, progress: Progress) -> str:
    """Train a challenger and let it be promoted if it is not worse; returns what came of it in one line.

    Raises `TrainingError` when there are too few labels.
    """
    outcome = train_head(services, project, progress, prepare_backbone(services))
    name = model_version_name(outcome.version.version)
    if outcome.promoted:
        after_promotion(services, project)
        return f"{name} is served now: {outcome.reason}"
    return f"{name} stays a candidate: {outcome.reason}"


def train_head(
    services: Services, project: str, progress: Progress, backbone: ModelVersion, *, promote: bool = True
) -> TrainingOutcome:
    """A head for the project on that backbone, trained on the labels of this moment and held against the champion.

    Raises `TrainingError` when there are too few labels.
    """
    services.settings.home.mkdir(parents=True, exist_ok=True)
    with FileLock(services.settings.home / f"training-{project}.lock"):
        services.journal.fold()
        decide_anew(services, project)
        while decide_dirty(services, project, 500):
            pass
        if promote:
            services.projects.update(project, changed_labels=0)
        options = _options(services)
        trees = services.label_config(project).trees
        examples = _examples(services, project, backbone, progress)
        parts = assign_parts(usable_examples(examples, trees)[0], trees, options.test_share, options.seed)
        _keep_parts(services, project, parts)
        uris = {document.id: document.projects[project].uri for document in services.catalog.documents(project)}
        size = backbone.backbone_manifest.size
        return train_project(
            project,
            [replace(example, part=parts.get(example.id, example.part)) for example in examples],
            trees,
            embeddings=services.embeddings(backbone.version),
            read_image=lambda image: read_image(services, ImageSource(image, uris[image], project), size).pixels,
            registry=services.registry,
            backbone=backbone,
            options=options,
            progress=lambda step, share: progress(step, EMBEDDING_SHARE + (1 - EMBEDDING_SHARE) * share),
            other_embeddings=_champions_embeddings(services, project, backbone, parts, uris),
            promote=promote,
        )


def _champions_embeddings(
    services: Services, project: str, backbone: ModelVersion, parts: Mapping[str, Part], uris: Mapping[str, str]
) -> dict[str, Embeddings]:
    """The store of the champion's backbone where that is another one, with the images by which both are judged."""
    registry, name = services.registry, registry_name(project)
    champion = registry.champion(name)
    if champion is None:
        return {}
    try:
        other = registry.get(name, champion).head_manifest.backbone
        if other == backbone.version:
            return {}
        embed(services, project, {image: uris[image] for image, part in parts.items() if part == "test"}, other)
        return {other: services.embeddings(other)}
    except (NotFoundError, DamagedError, KeyError) as error:
        log.warning("project %s: the champion %s cannot be compared with: %s", project, champion, error)
        return {}


def _examples(services: Services, project: str, backbone: ModelVersion, progress: Progress) -> list[Example]:
    documents = list(services.catalog.documents(project, labelled=True))
    if not documents:
        raise TrainingError(
            f"Project {project} has no accepted label yet.",
            hint="Its annotators must agree on some images first, see the settings min_annotators and min_agreement.",
        )
    embed(
        services,
        project,
        {document.id: document.projects[project].uri for document in documents},
        backbone.version,
        progress=lambda done, total: progress("embedding", EMBEDDING_SHARE * done / max(total, 1)),
    )
    documents = list(services.catalog.documents(project, labelled=True))  # now with the hashes of their files
    return [_example(project, document) for document in documents]


def _keep_parts(services: Services, project: str, parts: Mapping[str, Part]) -> None:
    """Note who tests and who trains before anything is trained: for the life of the project."""

    def put_in(part: Part) -> Callable[[ImageDocument], ImageDocument | None]:
        def change(document: ImageDocument) -> ImageDocument | None:
            here = document.projects.get(project)
            if here is None or here.part == part:
                return None
            return document.in_project(project, here.model_copy(update={"part": part}))

        return change

    services.catalog.update_many({image: put_in(part) for image, part in parts.items()})


def _example(project: str, document: ImageDocument) -> Example:
    here = document.projects[project]
    return Example(
        id=document.id,
        labels={control: here.paths(control) for control in here.accepted},
        group=here.group,
        file_hash=document.file_hash,
        part=here.part,
    )


def _options(services: Services) -> TrainingOptions:
    settings = services.settings
    return TrainingOptions(
        head=HeadOptions(
            hidden=settings.head_hidden, epochs=settings.head_epochs, imbalance=settings.imbalance, seed=settings.seed
        ),
        views=settings.views,
        test_share=settings.test_share,
        validation_share=settings.validation_share,
        target_precision=settings.target_precision,
        seed=settings.seed,
    )
