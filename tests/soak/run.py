"""One soak: the world, what happens to it, and the comparison at the end."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pydantic import SecretStr

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import JobKind
from taxonomist.storage.catalog import image_id
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.paths import TaxonomyPath
from tests.backend_process import BackendProcess
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG, publish_backbone, write_catalogue
from tests.soak.image_host import ImageHost
from tests.soak.people import Person, Record, ask_for_predictions, repeated, troubled
from tests.soak.processes import Killer
from tests.soak.small_disk import filled, small_disk

CONNECTED, WEBHOOKS_ONLY, SHOP = 4, 5, "shop"
TASKS, PEOPLE, IMAGES = 120, 4, 40
SETTLE_S = 240.0


@dataclass
class Report:
    """What a soak did and found. `findings` is empty when everything that was answered is as it was answered."""

    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    full_disks: int = 0
    annotations: int = 0
    trainings: int = 0
    findings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return JSON-ready values."""
        shortened = [f"{finding[:600]}…" if len(finding) > 600 else finding for finding in self.findings[:100]]
        return {**vars(self), "killed": sum(self.kills.values()), "found": len(self.findings), "findings": shortened}


def soak(folder: Path, seconds: float, *, every: float = 2.0, seed: int = 0) -> Report:
    """Run a soak in the empty folder; a process is killed every `every` seconds on average."""
    report, record = Report(), Record()
    chance = random.Random(seed)
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "disk"))
        host = stack.enter_context(ImageHost(seed))
        label_studios = [stack.enter_context(StandIn(number)) for number in (CONNECTED, WEBHOOKS_ONLY)]
        home = folder / "disk" / "home"
        _prepare(folder, home, host, label_studios)
        backend = BackendProcess(home, _settings(folder, host))
        stack.callback(backend.kill)
        backend.start()
        killer = Killer(backend, seed)
        stack.callback(killer.wake, every=True)
        began = time.monotonic()
        with ExitStack() as busy:
            busy.enter_context(troubled(label_studios[0], seed))
            for number in range(PEOPLE):
                label_studio = label_studios[number % 2]
                own = [task for task in label_studio.tasks if task % PEOPLE == number]
                person = Person(label_studio, own, number + 1, record, backend.url, seed + number)
                busy.enter_context(repeated(person.label, 0.05))
            asked = iter(range(sys.maxsize))
            busy.enter_context(
                repeated(lambda http: ask_for_predictions(http, backend.url, record, next(asked), IMAGES), 0.3)
            )
            while time.monotonic() - began < seconds:
                time.sleep(chance.uniform(0.3, 1.7) * every)
                if disk and chance.random() < 0.05:
                    report.full_disks += 1
                    with filled(folder / "disk"):
                        time.sleep(3)
                killer.strike()
                killer.restart()
        report.seconds = time.monotonic() - began
        host.share = 0
        killer.wake(every=True)
        report.findings += killer.findings + record.findings + _settle(backend)
        backend.stop()
        report.kills, report.answers = killer.kills, record.answers
        report.annotations = len(record.webhooks)
        report.findings += _compare(home, record, label_studios, report)
        if report.findings:
            shutil.copytree(home, folder / "home-after", dirs_exist_ok=True)
    return report


def _settings(folder: Path, host: ImageHost) -> dict[str, object]:
    return {
        "images_folder": folder / "catalogue" / "images",
        "allowed_image_hosts": host.host,
        "allow_private": "true",
        "min_annotators": 1,
        "retrain_every": 20,
        "retrain_after": 5,
        "sync_every": 30,
        "image_timeout": 1,
        "backbone": "resnet18",
        "backbone_weights": "random",
        "head_epochs": 5,
    }


def _prepare(folder: Path, home: Path, host: ImageHost, label_studios: list[StandIn]) -> None:
    """Make a home with a trained project, and two projects of Label Studio: one connected, one with webhooks only."""
    manifest = write_catalogue(folder / "catalogue", IMAGES)
    services = Services(Settings(home=home, images_folder=folder / "catalogue" / "images", min_annotators=1))
    publish_backbone(services)
    services.projects.update(SHOP, label_config=CONFIG)
    import_manifest(services, manifest, SHOP)
    train(services, SHOP, lambda step, share: None)
    for label_studio in label_studios:
        for number in range(1, TASKS + 1):
            label_studio.add_task(number, f"http://{host.host}/{number}.jpg")
        fields = {"label_studio_url": label_studio.url, "api_key": SecretStr("t")}
        is_connected = label_studio.number == CONNECTED
        services.projects.update(str(label_studio.number), label_config=CONFIG, **(fields if is_connected else {}))
    services.close()


def _settle(backend: BackendProcess) -> list[str]:
    """Wait until all jobs are done and all labels are decided, after a last pass over Label Studio."""
    findings = []
    services = Services(Settings(home=backend.home))
    try:
        backend.command("sync", "--project", str(CONNECTED))
        until = time.monotonic() + SETTLE_S
        while waiting := _waiting(services):
            if time.monotonic() > until:
                findings.append(f"after {SETTLE_S:.0f} s of rest there still wait: {waiting}\n{backend.said()}")
                break
            time.sleep(1)
    except AssertionError as error:
        findings.append(str(error))
    finally:
        services.close()
    return findings


def _waiting(services: Services) -> str:
    jobs = services.jobs
    unfinished = chain(jobs.waiting(), *map(jobs.running, JobKind))
    waiting = {
        "events": services.journal.pending(),
        "projects to decide": services.journal.dirty_projects(),
        "jobs": [job.kind for job in unfinished],
    }
    return ", ".join(f"{name} {value}" for name, value in waiting.items() if value)


def _compare(home: Path, record: Record, label_studios: list[StandIn], report: Report) -> list[str]:
    """Compare journal, catalogue and registry with what was answered and with Label Studio."""
    findings = []
    for file in home.glob("*.sqlite"):
        with sqlite3.connect(file) as connection:
            (state,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        if state != "ok":
            findings.append(f"{file.name}: {state}")
    services = Services(Settings(home=home))
    connected, webhooks_only = label_studios
    findings += _compare_connected(services, record, connected)
    findings += _compare_answered(services, record, webhooks_only)
    findings += _check_registry(services, report)
    services.close()
    return findings


def _compare_connected(services: Services, record: Record, label_studio: StandIn) -> list[str]:
    """Compare the project that passes over Label Studio's API have brought up to date: everything is as it is there."""
    findings = []
    kept = _kept(services, CONNECTED)
    truth = {id: tuple(row["result"][0]["value"]["taxonomy"][0]) for id, row in label_studio.annotations.items()}
    once = Counter(dict.fromkeys(truth, 1))
    if kept != once:
        findings.append(f"only Label Studio has {truth.keys() - kept.keys()}, only we have {kept - once}")
    labels, annotators = _labels(services, label_studio)
    for task in label_studio.tasks:
        paths = [path for id, path in truth.items() if record.tasks[CONNECTED, id] == task]
        if labels.get(task) != (paths[0] if paths else None) or annotators.get(task, 0) != len(paths):
            findings.append(f"task {task} has {labels.get(task)} by {annotators.get(task)}, in Label Studio {paths}")
    return findings


def _compare_answered(services: Services, record: Record, label_studio: StandIn) -> list[str]:
    """Compare the project that knows only webhooks: what was answered counts, and what came after it may."""
    findings = []
    kept = _kept(services, WEBHOOKS_ONLY)
    possible: dict[int, list[set[TaxonomyPath | None]]] = {task: [] for task in label_studio.tasks}
    for (project, id), task in record.tasks.items():
        if project == WEBHOOKS_ONLY:
            wanted = record.acceptable((project, id))
            possible[task].append(wanted)
            if None not in wanted and id not in kept:
                findings.append(f"lost: annotation {id}, answered as {wanted}")
    findings += [f"doubled: annotation {id}" for id, count in kept.items() if count > 1]
    labels, _ = _labels(services, label_studio)
    for task, sets in possible.items():
        any_of = set().union(*sets) - {None}
        may_have_none = all(None in wanted for wanted in sets)
        found = labels.get(task)
        if found not in any_of and not (found is None and may_have_none):
            findings.append(f"task {task} has {found}, answered was {sets}")
    return findings


def _kept(services: Services, project: int) -> Counter[int]:
    """Return how often the journal has each annotation."""
    return Counter(int(annotation.annotation_id) for annotation in services.journal.annotations(str(project)))


def _labels(services: Services, label_studio: StandIn) -> tuple[dict[int, TaxonomyPath], dict[int, int]]:
    """Return the accepted path and the number of annotators of each task that has one."""
    project = str(label_studio.number)
    documents = {document.id: document for document in services.catalog.documents(project)}
    labels, annotators = {}, {}
    for task, row in label_studio.tasks.items():
        if document := documents.get(image_id(row["data"]["image"])):
            entries = [entry for entry in document.labels_with_taxonomy if entry.model_dump().get("project") == project]
            annotators[task] = len(entries)
            if paths := document.projects[project].paths("colour"):
                labels[task] = paths[0]
    return labels, annotators


def _check_registry(services: Services, report: Report) -> list[str]:
    findings = []
    for name in services.registry.names():
        for version in services.registry.versions(name):
            report.trainings += name != BACKBONE
            try:
                services.registry.get(name, version.version)
            except TaxonomistError as error:
                findings.append(f"{name} {version.version}: {error}")
    if services.registry.champion(registry_name(SHOP)) is None:
        findings.append("the champion is gone")
    return findings


def to_text(report: Report) -> str:
    """Return the report as JSON text."""
    return json.dumps(report.to_json(), indent=1, ensure_ascii=False, default=str)
