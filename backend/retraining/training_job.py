"""One training of a project: from accepted labels in the catalogue to a version in the registry."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.acceptance import prefilled_controls
from taxonomist.backend.labelling.decisions import decide_anew, decide_dirty
from taxonomist.backend.labelling.missing_annotators import fewer_annotators, missing_annotators
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.prediction.labelling_order import drawn_by_order, has_order
from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.retraining.announce_promotion import after_promotion
from taxonomist.backend.retraining.embedding_job import champions_backbone
from taxonomist.backend.retraining.finish_promotion import finish_promotion, training_turn
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.retraining.look_alike_products import learn_from_products
from taxonomist.backend.retraining.roll_back import roll_back_if_worse
from taxonomist.backend.retraining.trained_labels import keep_parts, keep_trained
from taxonomist.backend.retraining.training_images import TrainingImages
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.jobs import JobKind
from taxonomist.inference.pipeline import ImageSource
from taxonomist.inference.reasons import log_reasons
from taxonomist.progress import StepProgress
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import DamagedError, NotFoundError, TrainingError
from taxonomist.taxonomy.paths import NO_ANSWER
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example, SplitExamples, split_examples
from taxonomist.training.heads.data.fingerprint import inputs_fingerprint
from taxonomist.training.heads.data.no_answer import learn_no_answer
from taxonomist.training.heads.data.trained_on import ever_trained_on
from taxonomist.training.heads.discriminant.fit_discriminant import DiscriminantOptions
from taxonomist.training.heads.head_options import HeadOptions
from taxonomist.training.heads.promotion.unfinished import unfinished_promotion
from taxonomist.training.heads.train_project import TrainingOptions, TrainingOutcome, train_project
from taxonomist.training.near_duplicates import near_duplicates_of_unknown

log = logging.getLogger(__name__)

EMBEDDING_SHARE = 0.3  # of the whole job's progress


def train(services: Services, project: str, progress: StepProgress, *, force: bool = False) -> str:
    """Train a challenger, promote it unless it is clearly worse, and return the result in one line.

    Before that, a served version whose suggestions prove worse than its predecessor's is taken back.
    Where the images, their labels, the settings and the backbone are those of the newest version, nothing is trained,
    unless `force` is given. Raises `TrainingError` when there are too few labels, or some wait for a person's decision.
    """

    def deciding() -> None:
        progress("labels", 0.0)

    backbone = prepare_backbone(services)
    with training_turn(services, project, progress):
        finished = finish_promotion(services, project, deciding)
        taken_back = roll_back_if_worse(services, project)
    if finished or taken_back:
        after_promotion(services, project)
    outcome = _train_head(services, project, progress, backbone, force=force)
    if outcome is None and taken_back:
        return taken_back
    if outcome is None and finished:
        name, promotion = model_version_name(finished.version), finished.head_manifest.promotion
        reason = promotion.reason if promotion else ""
        return f"{name} is served now, its training was interrupted before: {reason}"
    if outcome is None:
        newest = services.registry.versions(registry_name(project))[-1].version
        return (
            f"Nothing is trained: labels, settings and backbone are those of {model_version_name(newest)}. "
            f"`taxonomist train --project {project} --force` trains all the same."
        )
    before = f"{taken_back} " if taken_back else ""
    name = model_version_name(outcome.version.version)
    left_out = f" {len(outcome.left_out)} labelled images are left out; report.md says why." if outcome.left_out else ""
    if outcome.promoted:
        after_promotion(services, project)
        return f"{before}{name} is served now: {outcome.reason}{left_out}"
    if has_order(services, project):
        services.jobs.enqueue(JobKind.PUSH, project, "the order of labelling is made anew")
    return f"{before}{name} stays a candidate: {outcome.reason}{left_out}"


def train_head(
    services: Services, project: str, progress: StepProgress, backbone: ModelVersion, *, promote: bool = True
) -> TrainingOutcome:
    """Train a head for the project on that backbone with today's labels, and compare it with the champion.

    Each image is read, decoded and embedded at most once. Raises `TrainingError` when there are too few labels, and
    `HeldError` while labels name nodes that the taxonomy has no longer and no person has decided about them.
    """
    outcome = _train_head(services, project, progress, backbone, promote=promote, force=True)
    assert outcome is not None
    return outcome


def _train_head(
    services: Services,
    project: str,
    progress: StepProgress,
    backbone: ModelVersion,
    *,
    promote: bool = True,
    force: bool,
) -> TrainingOutcome | None:
    """Return what `train_head` returns; None, without `force`, when the newest version learned from the same."""
    with training_turn(services, project, progress), _without_looking_for_garbage_in_libraries():
        services.journal.fold()
        decide_anew(services, project, lambda: progress("labels", 0.0), learn=True)
        while decide_dirty(services, project, 500):
            progress("labels", 0.0)
        if held := training_hold(services, project):
            # So that a training follows the decision.
            services.projects.change(project, lambda record: {"changed_labels": max(1, record.changed_labels)})
            raise held
        counted = services.projects.get(project).changed_labels  # before the labels are read
        options = _options(services, project)
        trees: Sequence[Tree] = services.label_config(project).trees
        documents = _labelled_documents(services, project)
        sources = {
            document.id: ImageSource(document.id, document.projects[project].uri, project) for document in documents
        }
        size = backbone.backbone_manifest.size
        other = champions_backbone(services, project, backbone)
        with TrainingImages(services, {size} | ({other.backbone_manifest.size} if other else set())) as images:
            embed(
                services,
                project,
                {source.id: source.uri for source in sources.values()},
                backbone.version,
                progress=lambda done, total: progress("embedding", EMBEDDING_SHARE * done / max(total, 1)),
                load=images.load_and_keep,
                listed=True,
                must_keep=True,
            )
            ordered = drawn_by_order(services, project, documents)
            examples = [_example(project, document, images.file_hashes, ordered) for document in documents]
            examples = _with_near_duplicates(services, examples, backbone, progress)
            examples, trees = learn_no_answer(_with_history(services, project, examples), trees)
            split = split_examples(
                examples,
                trees,
                options.test_share,
                options.seed,
                products_are_new=_products_are_new(services, project, examples),
            )
            log_reasons(log, f"project {project}: labelled images that are left out", split.left_out)
            keep_parts(services, project, split.parts, {example.id: example.part for example in examples})
            if not force and _is_learned(services, project, split, trees, backbone, options):
                keep_trained(services, project, documents, counted)
                return None
            test = {image: sources[image].uri for image, part in split.parts.items() if part == "test"}
            shown = prefilled_controls(services, project, test)
            split = replace(split, usable=tuple(_with_prefilled(example, shown) for example in split.usable))
            taught = learn_from_products(
                services,
                project,
                split,
                services.embeddings(backbone.version),
                for_head=options.learns_from_companions,
            )
            outcome = train_project(
                project,
                split,
                trees,
                embeddings=services.embeddings(backbone.version),
                read_image=lambda image: images.load(sources[image], size).pixels,
                registry=services.registry,
                backbone=backbone,
                options=options,
                progress=lambda step, share: progress(step, EMBEDDING_SHARE + (1 - EMBEDDING_SHARE) * share),
                companions=_companions(services, project, split, trees) if options.learns_from_companions else None,
                look_alikes=taught.look_alikes,
                taught=taught.space,
                other_embeddings=_embeddings_of_champion(services, project, other, test, images),
                promote=promote,
                by_hand=promote and services.project_settings(project).promotion == "manual",
            )
        if promote:
            keep_trained(services, project, documents, counted)
        return outcome


@contextmanager
def _without_looking_for_garbage_in_libraries() -> Iterator[None]:
    """Leave the objects that are there already out of garbage collection in the block.

    torch and others bring hundreds of thousands, and a training makes enough new ones for several full collections.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _is_learned(
    services: Services,
    project: str,
    split: SplitExamples,
    trees: Sequence[Tree],
    backbone: ModelVersion,
    options: TrainingOptions,
) -> bool:
    """Return whether the newest version of the project began with the same images, labels, settings and backbone."""
    registry, name = services.registry, registry_name(project)
    versions = registry.versions(name)
    if not versions:
        return False
    newest = versions[-1].head_manifest
    if newest.data is None or newest.data.inputs is None:
        return False
    is_served = registry.champion(name) is not None and unfinished_promotion(registry, name) is None
    if newest.promotion is not None and newest.promotion.promoted and not is_served:
        return False  # killed before it was served, and it cannot be promoted now
    found, _ = services.embeddings(backbone.version).get([example.id for example in split.usable])
    examples = [example for example, is_embedded in zip(split.usable, found, strict=True) if is_embedded]
    inputs = inputs_fingerprint(examples, split.parts, trees, backbone.version, asdict(options))
    return inputs == newest.data.inputs


def _embeddings_of_champion(
    services: Services, project: str, backbone: ModelVersion | None, test: Mapping[str, str], images: TrainingImages
) -> dict[str, Embeddings]:
    """Return, by version, the store of the champion's other backbone, after the test images were embedded with it.

    `test` has the address by image id: both heads are compared on these images. `backbone` is None where the champion
    has no other backbone.
    """
    if backbone is None:
        return {}
    try:
        embed(services, project, test, backbone.version, load=images.load, listed=True, must_keep=True)
        return {backbone.version: services.embeddings(backbone.version)}
    except (NotFoundError, DamagedError) as error:
        log.warning("project %s: no comparison with a champion on backbone %s: %s", project, backbone.version, error)
        return {}


def _companions(services: Services, project: str, split: SplitExamples, trees: Sequence[Tree]) -> dict[str, list[str]]:
    """Return by product the images without labels that show a product of the training part.

    The documents without a label are read once, and only where products are known. A project whose controls label
    different images of a task has none: a label of one says nothing about the other.
    """
    groups = {example.group for example in split.usable if example.group and split.parts[example.id] == "train"}
    if not groups or len({tree.to_name for tree in trees}) > 1:
        return {}
    labelled = {example.id for example in split.usable}
    found: dict[str, list[str]] = {}
    for document in services.catalog.documents(project, labelled=False):
        product = document.product(project)
        if product in groups and document.id not in labelled and may_use(document, services.settings):
            found.setdefault(product, []).append(document.id)
    return found


def _labelled_documents(services: Services, project: str) -> list[ImageDocument]:
    """Return the documents with an accepted label, and those that annotators agree to leave empty.

    Raises `TrainingError` when none has a label.
    """
    documents = list(services.catalog.documents(project, labelled=True))
    if not documents:
        if waiting := missing_annotators(services, project):
            raise TrainingError(
                f"Project {project} has no accepted label yet: {waiting}", hint=fewer_annotators(project)
            )
        raise TrainingError(
            f"Project {project} has no accepted label yet.",
            hint="Its annotators must agree on some images first, see the settings min_annotators and min_agreement.",
        )
    if services.projects.get(project).has_unanswered:
        others = services.catalog.documents(project, labelled=False)
        documents += [document for document in others if document.projects[project].unanswered]
    return documents


def _example(
    project: str, document: ImageDocument, file_hashes: Mapping[str, str], ordered: Collection[str]
) -> Example:
    """Return the labelled image; `file_hashes` are those of files that were read after the document, `ordered` the
    images that an order of labelling has chosen."""
    labels = document.projects[project]
    return Example(
        id=document.id,
        labels={control: labels.paths(control) for control in labels.accepted}
        | dict.fromkeys(labels.unanswered, (NO_ANSWER,)),
        group=document.product(project),
        file_hash=file_hashes.get(document.id, document.file_hash),
        part=labels.part,
        at_random=document.id not in ordered,
        bulk=labels.bulk,
    )


def _with_prefilled(example: Example, prefilled: Mapping[str, frozenset[str]]) -> Example:
    return replace(example, prefilled=prefilled[example.id]) if example.id in prefilled else example


def _with_near_duplicates(
    services: Services, examples: Sequence[Example], backbone: ModelVersion, progress: StepProgress
) -> list[Example]:
    """Return the examples; those without a product know their near-duplicates among each other."""
    near = near_duplicates_of_unknown(
        {example.id: example.group for example in examples},
        services.embeddings(backbone.version),
        backbone.backbone_manifest.near_distance,
        lambda share: progress(f"near-duplicates ({share:.0%})", EMBEDDING_SHARE),
    )
    return [replace(example, near=near[example.id]) if example.id in near else example for example in examples]


def _with_history(services: Services, project: str, examples: Sequence[Example]) -> list[Example]:
    """Return the examples; each knows whether a version has learned from it, a copy of its file or its product.

    A document may have lost its part, or a product all its images, since that version was trained.
    """
    learned = ever_trained_on(services.registry, registry_name(project))
    return [
        replace(example, trained=True) if learned.knows(example.id, example.file_hash, example.group) else example
        for example in examples
    ]


def _products_are_new(services: Services, project: str, examples: Sequence[Example]) -> bool:
    """Return whether most products are known, and were not when the newest version was trained."""
    if 2 * sum(example.group is None for example in examples) >= len(examples):
        return False
    versions = services.registry.versions(registry_name(project))
    if not versions:
        return False
    tested = versions[-1].head_manifest.tested
    return tested is None or not tested.products_known


def _options(services: Services, project: str) -> TrainingOptions:
    settings, chosen = services.settings, services.project_settings(project)
    if settings.head == "mlp":
        log.warning(
            "project %s: suggestions of the head mlp are right less often than the target of %.0f %%; lda keeps it",
            project,
            100 * chosen.target,
        )
    return TrainingOptions(
        kind=settings.head,
        discriminant=DiscriminantOptions(seed=settings.seed),
        head=HeadOptions(
            hidden=settings.head_hidden, epochs=settings.head_epochs, imbalance=settings.imbalance, seed=settings.seed
        ),
        views=settings.views,
        test_share=settings.test_share,
        validation_share=settings.validation_share,
        target_precision=chosen.target,
        promise=chosen.promise,
        seed=settings.seed,
    )
