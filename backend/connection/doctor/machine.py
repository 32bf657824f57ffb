"""Checks of this machine: home folder, server, worker, backbone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from taxonomist.backend.connection.connect import check_callable
from taxonomist.backend.connection.doctor.result import Check, failed, failure, guarded, passed, warned
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.credentials import check_exposure
from taxonomist.inference.starter import is_earlier_starter
from taxonomist.storage.home.image_moves import read_split_images
from taxonomist.storage.home.privacy import open_because
from taxonomist.storage.network.http_clients import http_client, reason_and_fix
from taxonomist.taxonomy.errors import ConfigError

TOO_LITTLE_SPACE = 200_000_000
LITTLE_SPACE = 2_000_000_000


def checks(services: Services, *, called: bool = True) -> Iterator[Check]:
    """Yield the checks of this machine. `called`: whether some Label Studio calls the server."""
    settings = services.settings
    yield from _home(settings.home)
    yield _address(settings)
    for check in (_server(settings), _worker(settings.home)):
        if check.status == "fail" and not called:
            yield passed(check.name, "does not run; imported projects need none")
        else:
            yield check
    yield from guarded("backbone", _backbone(services))


def _home(home: Path) -> Iterator[Check]:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        yield failed(
            "home folder", f"{home} cannot be written ({error.strerror})", "set TAXONOMIST_HOME to another one"
        )
        return
    reason = open_because(home)
    if reason is None:
        yield passed("home folder", str(home))
    else:
        fix = "run `chmod 700` on it as its owner, or move it to a folder that only you can read"
        yield warned("home folder", f"other users may be able to read {home}: {reason}", fix)
    yield from _split_images(home)
    free = shutil.disk_usage(home).free
    detail = f"{free / 1e9:.1f} GB are free for {home}"
    fix = "free some space, lower TAXONOMIST_IMAGE_CACHE_BYTES, or set TAXONOMIST_HOME to a larger disk"
    if free < TOO_LITTLE_SPACE:
        yield failed("disk", detail, fix)
    elif free < LITTLE_SPACE:
        yield warned("disk", detail, fix)
    else:
        yield passed("disk", detail)


def _split_images(home: Path) -> Iterator[Check]:
    """Yield a warning while a person has not confirmed which images a migration of the home has split."""
    for folder in sorted(home.glob("before-version-*")):
        images = read_split_images(folder)
        if images:
            shown = ", ".join(image["address"] for image in images[:3])
            yield warned(
                "split images",
                f"{len(images)} images shared ids, so that their labels were mixed up; each has its own id and labels "
                f"now: {shown}{', …' if len(images) > 3 else ''}",
                f"look at their labels ({folder / 'split-images.csv'} lists them), then delete {folder}",
            )


def _address(settings: Settings) -> Check:
    try:
        check_exposure(settings)
        check_callable(settings)
    except ConfigError as error:
        return failure("address", error)
    return passed("address", f"{settings.url}, {'with' if settings.password else 'without'} a password")


def _server(settings: Settings) -> Check:
    """Return whether our server answers at the address that Label Studio has."""
    try:
        with http_client(settings.url, timeout=5) as client:
            answer = client.get(f"{settings.url}/health")
        body = answer.json() if answer.is_success else None
    except ConfigError as error:
        return failure("server", error)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        reason, fix = reason_and_fix(error)
        return failed("server", f"{settings.url}/health does not answer ({reason})", fix or "taxonomist serve")
    if not isinstance(body, dict) or body.get("model_class") != "Taxonomist":
        return failed(
            "server",
            f"something else answers at {settings.url} ({answer.status_code})",
            "taxonomist serve --port with a free port, or correct TAXONOMIST_PUBLIC_URL",
        )
    return passed("server", f"answers at {settings.url}")


def _worker(home: Path) -> Check:
    age = heartbeat.age(home)
    if age is None:
        return failed("worker", "has no heartbeat", "taxonomist serve, or taxonomist worker")
    if age > heartbeat.FRESH_S:
        return failed(
            "worker", f"its last heartbeat was {_duration(age)} ago", "taxonomist serve, or taxonomist worker"
        )
    return passed("worker", f"its last heartbeat was {age:.0f} s ago")


def _backbone(services: Services) -> Iterator[Check]:
    backbone = services.backbone()
    if backbone is None:
        yield warned("backbone", "there is none yet; the worker makes it when it starts", "taxonomist serve")
        return
    services.registry.verify(backbone)
    detail = f"{BACKBONE} {backbone.version}, its files are intact"
    if is_earlier_starter(backbone):
        yield warned(
            "backbone",
            f"{detail}; it is the starter of an earlier release, and the one that ships now was better where both were "
            "measured",
            "taxonomist backbone adopt starter, which serves it where your labels confirm that",
        )
    else:
        yield passed("backbone", detail)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
