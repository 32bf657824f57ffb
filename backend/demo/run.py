"""`taxonomist demo`: Label Studio with a furniture project, three simulated annotators, and the backend beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from taxonomist.backend.connection.connect import connect_project
from taxonomist.backend.demo.accounts import Account, checked, server_password, sign_up
from taxonomist.backend.demo.annotators import annotate, plan
from taxonomist.backend.demo.environment import Say, label_studio
from taxonomist.backend.demo.one_address import OneAddress, one_address
from taxonomist.backend.demo.process import END_WITH_PARENT
from taxonomist.backend.demo.project import (
    PRODUCT,
    create_project,
    find_project,
    label_config,
    read_catalogue,
    tasks,
    upload,
)
from taxonomist.backend.demo.server import LabelStudioServer, free_port, is_free, start
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import JobState
from taxonomist.storage.network.http_clients import http_client
from taxonomist.taxonomy.errors import TaxonomistError

TITLE = "Furniture (demo)"
ANNOTATED = 240  # of the tasks; the others are for the user
PEOPLE = ("anna", "bela", "carl")
PASSWORD = "furniture-demo"  # noqa: S105 - of simulated people on this machine

# Small images and few products: the demo shows the loop in a few minutes on any machine. The precision that suggestions
# must reach counts for products that the model has never seen, so they are shown from a lower one on than the default.
DEMO_SETTINGS = {"target_precision": "0.5", "retrain_after": "5", "views": "2", "blind_share": "0"}


def run_demo(
    settings: Settings, *, environment: Path | None, port: int, backend_port: int, keep_running: bool, say: Say
) -> None:
    """Start everything, let the simulated annotators label a part, wait for the first model, and print the address.

    Label Studio and our pages have one address, on `port` where it is free. A second run continues with what the first
    one made. Raises `LabelStudioError` when Label Studio cannot be installed or started.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it as Ctrl-C does
    home = settings.home.resolve()
    say(f"The demo keeps everything in {home}; delete that folder to start again.")
    environment = environment or home / "label-studio-environment"
    program = label_studio(environment, say)
    cache = environment.with_name(f"{environment.name}-cache")
    with (
        one_address(port) as site,
        start(
            program, home / "label-studio", port=min(port + 1, 65535), cache=cache, outer_url=site.url, say=say
        ) as server,
    ):
        site.label_studio = server.url
        project = _prepare_project(server, say)
        given = settings.password
        password = given.get_secret_value() if given else server_password(home / "backend-password")
        with _backend(home / "backend", server, site, port=backend_port, password=password) as services:
            site.ours = services.settings.url
            connect_project(
                services,
                project,
                url=server.url,
                api_key=server.owner.token,
                ask=lambda _question: True,
                say=say,
                product_field=PRODUCT,
            )
            _annotate_part(server, int(project), say)
            _wait_for_model(services, project, say)
            _show(server, services, site, project, say)
            if keep_running:
                _until_stopped(server)


def _prepare_project(server: LabelStudioServer, say: Say) -> str:
    images = read_catalogue()
    with server.owner.client(server.url) as client:
        project = find_project(client, TITLE)
        if project is None:
            project = create_project(client, TITLE, label_config(image.path for image in images))
        upload(client, project, images, say=say)
    return str(project)


@contextmanager
def _backend(
    home: Path, server: LabelStudioServer, site: OneAddress, *, port: int, password: str
) -> Iterator[Services]:
    """Run a `taxonomist serve` for the demo, and yield services on its home folder."""
    home.mkdir(parents=True, exist_ok=True)
    chosen = port if is_free(port) else free_port()
    options = {
        **DEMO_SETTINGS,
        "home": str(home),
        "port": str(chosen),
        "password": password,
        "browser_url": site.page_url,
        "label_studio_url": server.url,
        "label_studio_api_key": server.owner.token,
    }
    environment = {**os.environ, **{f"TAXONOMIST_{name.upper()}": value for name, value in options.items()}}
    with (home / "backend.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", str(END_WITH_PARENT), sys.executable, "-P", "-m", "taxonomist", "serve"],
            env=environment,
            stdin=subprocess.PIPE,  # open as long as this process runs
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        services = Services(Settings.model_validate(options))
        _wait_until_up(process, services.settings.url, home / "backend.log")
        yield services
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        assert process.stdin is not None
        process.stdin.close()


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    with http_client(timeout=1) as client:
        for _ in range(600):
            if process.poll() is not None:
                raise TaxonomistError(f"The backend ended with {process.returncode}.", hint=f"Its log: {log}")
            try:
                if client.get(f"{url}/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
    raise TaxonomistError("The backend does not answer.", hint=f"Its log: {log}")


def _annotate_part(server: LabelStudioServer, project: int, say: Say) -> None:
    images = read_catalogue()
    with server.owner.client(server.url) as client:
        done = int(checked(client.get(f"/api/projects/{project}")).json()["num_tasks_with_annotations"])
        if done:
            return
        part = tasks(client, project, images)[:ANNOTATED]
    people = [sign_up(server.url, server.owner, _address(name), PASSWORD) for name in PEOPLE]
    taxonomy = sorted({image.path for image in images})
    say(f"{len(people)} simulated annotators label {len(part)} images, and do not always agree")
    annotate(server.url, people, plan({task.id: task.image.path for task in part}, taxonomy), say=say)


def _address(name: str) -> str:
    return f"{name}@example.com"


def _wait_for_model(services: Services, project: str, say: Say) -> None:
    """Wait until there is a champion and the open tasks have its suggestions; report what the worker does."""
    shown = ""
    for _ in range(3600):
        version = services.registry.champion(registry_name(project))
        jobs = [job for job in services.jobs.latest(project) if job.state in {JobState.WAITING, JobState.RUNNING}]
        if version and not jobs:
            return
        running = next((job for job in jobs if job.state is JobState.RUNNING), None)
        line = f"The worker: {running.kind} {running.step}" if running else shown
        if line != shown:
            say(shown := line)
        time.sleep(0.5)
    raise TaxonomistError("No model was trained.", hint=f"See {services.settings.home / 'backend.log'}.")


def _show(server: LabelStudioServer, services: Services, site: OneAddress, project: str, say: Say) -> None:
    version = services.registry.champion(registry_name(project))
    owner: Account = server.owner
    lines: Sequence[str] = (
        "",
        f"Label Studio:   {site.url}/projects/{project}/data",
        f"  lead          {owner.email}  password {owner.password}",
        f"  annotators    {', '.join(_address(name) for name in PEOPLE)}  password {PASSWORD}",
        f"Console:        {site.page_url}/  with the login of Label Studio",
        f"  to confirm    a promotion or a roll back: password {services.credentials.password}",
        f"Model:          {model_version_name(version or '')}, trained on what the annotators agreed on",
        f"  tested on     {_tested_on(services, project, version)}",
        f"Models, plots:  {services.settings.home / 'models'}",
        "",
        "Try this first:",
        "1. As the lead, open a task without annotations: its taxonomy is pre-filled, and a panel shows look-alikes.",
        "   Alt+1 to Alt+5 take a label from the panel.",
        "2. Open the console: what the model can do, and what needs a person.",
        "3. Press Retrain there, or Settings > Model > Start training in Label Studio. All versions, in a terminal:",
        f"   {Path(sys.argv[0])} --home {services.settings.home} models list",
    )
    for line in lines:
        say(line)


def _tested_on(services: Services, project: str, version: str | None) -> str:
    """Return the figures of the served version and what they rest on, in words."""
    if version is None:
        return "nothing"
    manifest = services.registry.get(registry_name(project), version).head_manifest
    tested, metrics = manifest.tested, next(iter(manifest.metrics.values()), None)
    if tested is None or metrics is None:
        return ", ".join(manifest.caveats)
    levels = ", ".join(f"level {level.level} {level.accuracy:.0%}" for level in metrics.levels)
    unseen = f"{tested.images} images of {tested.products} products that it has never seen"
    return f"{unseen}: right at {levels}; macro-F1 {metrics.macro_f1:.2f}"


def _until_stopped(server: LabelStudioServer) -> None:
    print("\nPress Ctrl-C to stop the demo.", flush=True)  # noqa: T201
    while server.running:
        time.sleep(1)
    raise TaxonomistError("Label Studio ended.", hint=f"Its log: {server.log}")
