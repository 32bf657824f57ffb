"""The adoption of a backbone: embed all images again, train heads on the embeddings, and promote all or nothing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from taxonomist.backend.forgetting.images import forget_gone
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.pretraining.manual_promotion import waits_for_a_person
from taxonomist.backend.pretraining.prepared_images import prepared_image_store
from taxonomist.backend.pretraining.state import ShouldStop, StoppedError, pretraining_folder, read_state, write_state
from taxonomist.backend.retraining.announce_promotion import after_change
from taxonomist.backend.retraining.training_job import train_head
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.state.jobs import JobKind
from taxonomist.inference.pipeline import EMBEDDING, in_batches
from taxonomist.progress import StepProgress
from taxonomist.storage.formats import check_format, format_of
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError, ConflictError, DamagedError, NotFoundError, TrainingError
from taxonomist.training.heads.promotion.decision import Vote, decide_backbone, vote_of

log = logging.getLogger(__name__)

REPORT = "pretrained.json"  # of `pretrain --out`
WORKING_SHARE = 0.5  # of the time; in the other half the core is free for the server
EMBEDDING_SHARE = 0.5  # of the progress of the adoption
TRIES = 5  # comparisons, since a project may promote another head in the meantime


class ComparedHead(BaseModel, frozen=True):
    """The head that was trained for a project on the new backbone, and the champion that it was compared with.

    `vote` is None when there was no champion or no test image.
    """

    project: str
    head: str
    champion: str | None
    vote: Vote | None


class Adoption(BaseModel, frozen=True):
    """The state of the adoption of a version: the heads that are trained and compared, by project."""

    version: str
    judged: dict[str, ComparedHead] = {}


def adopt(
    services: Services,
    version: ModelVersion,
    progress: StepProgress,
    should_stop: ShouldStop,
    prepared: PreparedImageStore | None = None,
) -> str:
    """Promote this version of the backbone for all projects if it is better on their test images.

    A project whose versions a person promotes votes, and keeps its head and that head's backbone: its new head waits.
    A project whose training waits for a person's decision keeps its head, too.

    `prepared` has the prepared images; default is the store of the home folder. Return the outcome in one line. Raises
    `StoppedError`, or `StorageError` when the disk is full.
    """
    registry = services.registry
    if registry.champion(BACKBONE) == version.version:  # killed between the promotion and its announcement
        _announce(services, {})
        return f"Backbone {version.version} is served."
    embed_catalogue(
        services, version, lambda share: progress("embedding", EMBEDDING_SHARE * share), should_stop, prepared
    )
    for _ in range(TRIES):
        before = registry.champions()
        heads = _compare_heads(services, version, progress, should_stop)
        decision = decide_backbone([head.vote for head in heads if head.vote is not None])
        if not decision.promote:
            return f"Backbone {version.version} stays a candidate: {decision.reason}"
        by_hand = [head for head in heads if services.project_settings(head.project).promotion == "manual"]
        promoted = [head for head in heads if head not in by_hand and not training_hold(services, head.project)]
        by_name = {registry_name(head.project): head for head in promoted}
        try:
            registry.promote_together(
                {BACKBONE: version.version, **{name: head.head for name, head in by_name.items()}},
                instead_of={BACKBONE: before.get(BACKBONE), **{name: head.champion for name, head in by_name.items()}},
            )
        except ConflictError as conflict:
            log.info("a champion has changed, compare again: %s", conflict)
            continue
        _announce(services, before)
        served = ", ".join(f"{model_version_name(head.head)} of project {head.project}" for head in promoted)
        with_heads = f", with {served}" if served else ""
        return " ".join(
            [
                f"Backbone {version.version} is served now{with_heads}. {decision.reason}",
                *(waits_for_a_person(head.project, head.head) for head in by_hand),
            ]
        )
    return f"Backbone {version.version} stays a candidate: the champions changed each time it was compared with them."


def read_report(folder: Path) -> str:
    """Return the version of the backbone that a report names. Raises `NotFoundError` or `DamagedError`."""
    path = folder / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        check_format(path, format_of(report), 1)
        return str(report["version"])
    except FileNotFoundError:
        raise NotFoundError(f"There is no {path}.", hint="`taxonomist pretrain --out` writes it.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} cannot be read.", hint="Pre-train again, or give the version.") from error


def embed_catalogue(
    services: Services,
    version: ModelVersion,
    progress: Callable[[float], None],
    should_stop: ShouldStop,
    prepared: PreparedImageStore | None = None,
) -> None:
    """Embed every image of every project that has no embedding by this version yet.

    Images that are prepared are not read again. An image that cannot be read is skipped and logged. Between batches the
    processor is left to the server for as long as a batch took (`WORKING_SHARE`). Raises `StoppedError`.
    """
    store = services.embeddings(version.version)
    if prepared is None:
        prepared = prepared_image_store(services, version.backbone_manifest.size)
    known, prepared_ids = set(store.snapshot()[0]), set(prepared.snapshot()[0])
    ready: dict[str, str] = {}
    unprepared: dict[str, dict[str, str]] = {}
    for document in services.catalog.documents():
        for project, labels in document.projects.items():
            if document.id in known:
                continue
            known.add(document.id)
            if document.id in prepared_ids:
                ready[document.id] = labels.uri
            else:
                unprepared.setdefault(project, {})[document.id] = labels.uri
    total = max(len(ready) + sum(map(len, unprepared.values())), 1)
    done = 0
    for batch in _throttled(list(ready), should_stop):
        is_stored, images = prepared.get(batch)
        ids = [id for id, stored in zip(batch, is_stored, strict=True) if stored]
        store.append(ids, services.embedder(version.version).embed(images[is_stored]))
        forget_gone(services, {id: ready[id] for id in ids})  # they were listed maybe hours ago
        done += len(batch)
        progress(done / total)
    for project, uris in unprepared.items():
        for batch in _throttled(list(uris), should_stop):
            embed(
                services, project, {image: uris[image] for image in batch}, version.version, listed=True, must_keep=True
            )
            done += len(batch)
            progress(done / total)


def _throttled(ids: Sequence[str], should_stop: ShouldStop) -> Iterator[Sequence[str]]:
    for batch in in_batches(ids, EMBEDDING.batch):
        if should_stop():
            raise StoppedError
        began = time.monotonic()
        yield batch
        time.sleep((time.monotonic() - began) * (1 / WORKING_SHARE - 1))


def _compare_heads(
    services: Services, version: ModelVersion, progress: StepProgress, should_stop: ShouldStop
) -> list[ComparedHead]:
    """Return a head on the version for each project with labels, compared with the current champion."""
    path = pretraining_folder(services.settings.home) / "adoption.json"
    adoption = read_state(path, Adoption)
    if adoption is None or adoption.version != version.version:
        adoption = Adoption(version=version.version)
    projects = [record.project for record in services.projects if services.catalog.count(record.project, labelled=True)]
    heads = []
    for number, project in enumerate(projects):
        head = adoption.judged.get(project)
        if head is None or head.champion != services.registry.champion(registry_name(project)):
            try:
                head = _train(services, project, version, _head_progress(progress, should_stop, number, len(projects)))
            except (TrainingError, ConfigError) as error:
                log.warning("project %s is not compared for backbone %s: %s", project, version.version, error)
                continue
            adoption = Adoption(version=version.version, judged={**adoption.judged, project: head})
            write_state(path, adoption)
        heads.append(head)
    return heads


def _train(services: Services, project: str, version: ModelVersion, progress: StepProgress) -> ComparedHead:
    outcome = train_head(services, project, progress, version, promote=False)
    return ComparedHead(
        project=project,
        head=outcome.version.version,
        champion=outcome.champion,
        vote=vote_of(project, outcome.metrics, outcome.champion_metrics, outcome.caveats),
    )


def _head_progress(progress: StepProgress, should_stop: ShouldStop, number: int, of: int) -> StepProgress:
    share = EMBEDDING_SHARE + (1 - EMBEDDING_SHARE) * number / of

    def report(step: str, _: float) -> None:
        if should_stop():
            raise StoppedError
        progress(f"head {number + 1} of {of}, {step}", share)

    return report


def _announce(services: Services, before: Mapping[str, str]) -> None:
    """Announce every model that has changed since `before`; enqueue images that arrived while heads were trained."""
    after_change(services, before)
    for record in services.projects:
        services.jobs.enqueue(JobKind.EMBED, record.project, "the backbone is new")
