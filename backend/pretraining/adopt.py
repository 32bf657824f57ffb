"""The change of backbone as one step: embed everything anew, train heads on that, and promote all of it or nothing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.pretraining.prepared_images import picture_store
from taxonomist.backend.pretraining.state import ShouldStop, StoppedError, folder_of, read_state, write_state
from taxonomist.backend.retraining.promotion import after_change
from taxonomist.backend.retraining.training_job import train_head
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.state.jobs import JobKind
from taxonomist.inference.pipeline import EMBEDDING, in_batches
from taxonomist.progress import StepProgress
from taxonomist.storage.formats import check_format, format_of
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError, ConflictError, DamagedError, NotFoundError, TrainingError
from taxonomist.training.heads.promotion import Vote, decide_backbone, vote_of

log = logging.getLogger(__name__)

REPORT = "pretrained.json"  # of `pretrain --out`
WORKING_SHARE = 0.5  # of the time; in the other half the core is free for whoever serves
EMBEDDING_SHARE = 0.5  # of this step's progress
TRIES = 5  # against a project that keeps promoting heads of its own meanwhile


class Judged(BaseModel, frozen=True):
    """The head that was trained for a project on the new backbone, and the champion that it was held against.

    Without `vote` there was no champion, or no test image.
    """

    project: str
    head: str
    champion: str | None
    vote: Vote | None


class Adoption(BaseModel, frozen=True):
    """How far the adoption of a version has come."""

    version: str
    judged: dict[str, Judged] = {}


def adopt(
    services: Services,
    version: ModelVersion,
    progress: StepProgress,
    should_stop: ShouldStop,
    pictures: PreparedImageStore | None = None,
) -> str:
    """Have this version of the backbone serve all projects, if their test images say that it is better.

    `pictures` are prepared ones, by default those of the home folder. Returns one line for people. Raises
    `StoppedError`, or `StorageError` when there is no room.
    """
    registry = services.registry
    if registry.champion(BACKBONE) == version.version:  # killed between the promotion and its announcement
        _tell(services, {})
        return f"Backbone {version.version} is served."
    embed_catalogue(
        services, version, lambda share: progress("embedding", EMBEDDING_SHARE * share), should_stop, pictures
    )
    for _ in range(TRIES):
        before = registry.champions()
        judged = _judge(services, version, progress, should_stop)
        decision = decide_backbone([each.vote for each in judged if each.vote is not None])
        if not decision.promote:
            return f"Backbone {version.version} stays a candidate: {decision.reason}"
        heads = {registry_name(each.project): each for each in judged}
        try:
            registry.promote_together(
                {BACKBONE: version.version, **{name: each.head for name, each in heads.items()}},
                instead_of={BACKBONE: before.get(BACKBONE), **{name: each.champion for name, each in heads.items()}},
            )
        except ConflictError as conflict:
            log.info("compared again: %s", conflict)
            continue
        _tell(services, before)
        served = ", ".join(f"{model_version_name(each.head)} of project {each.project}" for each in judged)
        return f"Backbone {version.version} is served now, with {served}. {decision.reason}"
    return f"Backbone {version.version} stays a candidate: the champions changed each time it was compared with them."


def read_report(folder: Path) -> str:
    """The version of the backbone that a report tells of. Raises `NotFoundError` or `DamagedError`."""
    path = folder / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        check_format(path, format_of(report), 1)
        return str(report["version"])
    except FileNotFoundError:
        raise NotFoundError(f"There is no {path}.", hint="taxonomist pretrain --out writes one.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} cannot be read.", hint="Pre-train again, or name the version.") from error


def embed_catalogue(
    services: Services,
    version: ModelVersion,
    progress: Callable[[float], None],
    should_stop: ShouldStop,
    pictures: PreparedImageStore | None = None,
) -> None:
    """Embed every image of every project that has no embedding by the version yet.

    Prepared images are not read again. An image that cannot be read is logged and left out. Between batches the
    processor is left to the server for as long as a batch took (`WORKING_SHARE`). Raises `StoppedError`.
    """
    store = services.embeddings(version.version)
    if pictures is None:
        pictures = picture_store(services, version.backbone_manifest.size)
    known, prepared = set(store.snapshot()[0]), set(pictures.snapshot()[0])
    ready: list[str] = []
    unread: dict[str, dict[str, str]] = {}
    for document in services.catalog.documents():
        for project, labels in document.projects.items():
            if document.id in known:
                continue
            known.add(document.id)
            if document.id in prepared:
                ready.append(document.id)
            else:
                unread.setdefault(project, {})[document.id] = labels.uri
    total = max(len(ready) + sum(map(len, unread.values())), 1)
    done = 0
    for batch in _throttled(ready, should_stop):
        found, pixels = pictures.get(batch)
        ids = [image for image, is_prepared in zip(batch, found, strict=True) if is_prepared]
        store.append(ids, services.embedder(version.version).embed(pixels[found]))
        done += len(batch)
        progress(done / total)
    for project, images in unread.items():
        for batch in _throttled(list(images), should_stop):
            embed(services, project, {image: images[image] for image in batch}, version.version)
            done += len(batch)
            progress(done / total)


def _throttled(ids: Sequence[str], should_stop: ShouldStop) -> Iterator[Sequence[str]]:
    for batch in in_batches(ids, EMBEDDING.batch):
        if should_stop():
            raise StoppedError
        began = time.monotonic()
        yield batch
        time.sleep((time.monotonic() - began) * (1 / WORKING_SHARE - 1))


def _judge(services: Services, version: ModelVersion, progress: StepProgress, should_stop: ShouldStop) -> list[Judged]:
    """A head on the version for each project with labels, held against the champion of this moment."""
    path = folder_of(services.settings.home) / "adoption.json"
    adoption = read_state(path, Adoption)
    if adoption is None or adoption.version != version.version:
        adoption = Adoption(version=version.version)
    projects = [each.project for each in services.projects if services.catalog.count(each.project, labelled=True)]
    judged = []
    for number, project in enumerate(projects):
        kept = adoption.judged.get(project)
        if kept is None or kept.champion != services.registry.champion(registry_name(project)):
            try:
                kept = _train(services, project, version, _part(progress, should_stop, number, len(projects)))
            except (TrainingError, ConfigError) as error:
                log.warning("project %s has no say in backbone %s: %s", project, version.version, error)
                continue
            adoption = Adoption(version=version.version, judged={**adoption.judged, project: kept})
            write_state(path, adoption)
        judged.append(kept)
    return judged


def _train(services: Services, project: str, version: ModelVersion, progress: StepProgress) -> Judged:
    outcome = train_head(services, project, progress, version, promote=False)
    return Judged(
        project=project,
        head=outcome.version.version,
        champion=outcome.champion,
        vote=vote_of(project, outcome.metrics, outcome.champion_metrics),
    )


def _part(progress: StepProgress, should_stop: ShouldStop, number: int, of: int) -> StepProgress:
    share = EMBEDDING_SHARE + (1 - EMBEDDING_SHARE) * number / of

    def note(step: str, _: float) -> None:
        if should_stop():
            raise StoppedError
        progress(f"head {number + 1} of {of}, {step}", share)

    return note


def _tell(services: Services, before: Mapping[str, str]) -> None:
    """Announce every model that is another one than `before`, and embed what came while the heads were trained."""
    after_change(services, before)
    for record in services.projects:
        services.jobs.enqueue(JobKind.EMBED, record.project, "the backbone is new")
