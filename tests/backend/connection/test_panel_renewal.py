"""Keys of look-alike pages: what they open, when they end, and who renews them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection import panel_renewal
from taxonomist.backend.connection.look_alike_panel import keys_in, panels_in, with_panel
from taxonomist.backend.connection.panel_renewal import panel_key, renew_panel
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import credentials
from taxonomist.backend.state.credentials import THUMBNAIL, key_end
from taxonomist.backend.state.jobs import MAX_ATTEMPTS, JobKind, JobState
from taxonomist.backend.web.app import create_app
from taxonomist.backend.worker.job_loop import JobLoop
from taxonomist.backend.worker.job_runner import run
from taxonomist.backend.worker.retraining_schedule import RENEW_EVERY_S, TrainingPlanner
from taxonomist.taxonomy.errors import AuthError, LabelStudioError
from taxonomist.taxonomy.label_config import parse_label_config
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG

FIRST = date(2026, 11, 27)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.day = FIRST
        for module in (credentials, panel_renewal):
            monkeypatch.setattr(module, "today", lambda: self.day)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def former_key(services: Services, project: str) -> str:
    """Return the key that earlier releases made."""
    digest = hmac.new(services.credentials.signing_key, f"similar:{project}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:18]).decode()


def opens(services: Services, key: str, page: str = "similar", project: str = "7") -> bool:
    answer = create_app(services.settings, services).test_client().get(f"/{page}?project={project}&key={key}&src=x")
    assert answer.status_code in {200, 403, 404}
    return answer.status_code != 403


def test_a_key_opens_one_kind_of_page_of_one_project(services: Services, clock: Clock) -> None:
    for project in ("7", "8"):
        services.projects.update(project, label_config=CONFIG)
    key, thumbnail = services.credentials.project_key("7"), services.credentials.project_key("7", THUMBNAIL)
    assert opens(services, key)
    assert opens(services, thumbnail, "thumbnail")
    assert not opens(services, key, "thumbnail")
    assert not opens(services, thumbnail)
    assert not opens(services, key, project="8")
    assert not opens(services, f"20990101{key[8:]}")
    assert not opens(services, key[9:])
    for odd in ("", "20261301-x", "2026-", "9" * 5000, "٢٠٢٦١١٢٧-x", "00000000-x"):
        assert not opens(services, odd)


def test_a_key_ends_after_its_days(services: Services, clock: Clock) -> None:
    services.projects.update("7", label_config=CONFIG)
    key = services.credentials.project_key("7")
    assert key_end(key) == FIRST + timedelta(days=90)
    clock.day = FIRST + timedelta(days=90)
    assert opens(services, key)
    clock.day += timedelta(days=1)
    assert not opens(services, key)
    with pytest.raises(AuthError, match="2027-02-25"):
        services.credentials.check_project_key("7", key)


def test_keys_of_earlier_releases_are_valid_for_a_week_after_the_first_new_one(
    connected: tuple[Services, list[str]], clock: Clock
) -> None:
    services, _ = connected
    former = former_key(services, "4")
    clock.day = FIRST + timedelta(days=400)
    assert opens(services, former, project="4")
    assert opens(services, former, "thumbnail", project="4")
    services.projects.update("4", label_config=with_panel(CONFIG, services.settings.page_url, "4", former))
    renew_panel(services, "4")
    clock.day += timedelta(days=7)
    assert opens(services, former, project="4")
    clock.day += timedelta(days=1)
    assert not opens(services, former, project="4")
    for _ in range(3):  # a later renewal gives them no further week
        clock.day += timedelta(days=85)
        renew_panel(services, "4")
        assert not opens(services, former, project="4")


@pytest.fixture
def connected(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Services, list[str]]]:
    """A connected project whose Label Studio keeps its labelling config; the list has all that were written."""
    written = [with_panel(CONFIG, services.settings.page_url, "4", former_key(services, "4"))]
    with StandIn() as label_studio:

        def answer(method: str, path: str, found: Any) -> Any:
            return {**found, "label_config": written[-1]} if path.rstrip("/") == "/api/projects/4" else found

        label_studio.answer = answer
        monkeypatch.setattr(
            "taxonomist.backend.label_studio.LabelStudioClient.update_project",
            lambda _client, _project, **changes: written.append(changes["label_config"]),
        )
        monkeypatch.setattr("taxonomist.backend.label_studio.LabelStudioClient.validate_config", lambda *_: None)
        services.projects.update(
            "4", label_config=written[0], ml_backend=1, label_studio_url=label_studio.url, api_key=SecretStr("t")
        )
        yield services, written


def test_the_worker_renews_a_key_a_week_before_its_end(connected: tuple[Services, list[str]], clock: Clock) -> None:
    services, written = connected
    renew_panel(services, "4")
    assert len(written) == 2
    [first] = keys_in(written[-1])
    assert parse_label_config(written[-1]) == parse_label_config(written[0])
    assert services.projects.get("4").label_config == written[-1]
    for days in (0, 1, 82):
        clock.day = FIRST + timedelta(days=days)
        renew_panel(services, "4")
        assert len(written) == 2
        assert panel_key(services.credentials, "4", written[-1]) == first  # `connect` changes nothing, too
    clock.day = FIRST + timedelta(days=83)
    renew_panel(services, "4")
    assert len(written) == 3
    [second] = keys_in(written[-1])
    assert key_end(second) == clock.day + timedelta(days=90)
    assert opens(services, first, project="4")
    assert opens(services, second, project="4")
    clock.day = FIRST + timedelta(days=91)
    assert not opens(services, first, project="4")
    assert opens(services, second, project="4")


def test_a_project_without_a_panel_gets_none(connected: tuple[Services, list[str]], clock: Clock) -> None:
    services, written = connected
    written.append(CONFIG)
    renew_panel(services, "4")
    services.projects.update("4", label_config=CONFIG)
    renew_panel(services, "4")
    assert written[-1] == CONFIG


@pytest.mark.parametrize("sync_every", [0, 30 * 86400])
def test_the_worker_renews_however_seldom_it_reads_label_studio(
    connected: tuple[Services, list[str]], clock: Clock, sync_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, written = connected
    services.settings.sync_every = sync_every
    planner, uptime = TrainingPlanner(services), [0.0]
    monkeypatch.setattr("taxonomist.backend.worker.retraining_schedule.time.monotonic", lambda: uptime[0])
    for day in range(0, 180, 3):
        clock.day = FIRST + timedelta(days=day)
        uptime[0] = 86400.0 * day
        for _ in range(3):
            planner.plan()
        while job := services.jobs.start_next({JobKind.RENEW}):
            services.jobs.finish(job.id, JobState.DONE, run(services, job.kind, job.project, lambda *_: None))
        assert opens(services, keys_in(written[-1])[0], project="4")
        assert (key_end(keys_in(written[-1])[0]) or FIRST) > clock.day + timedelta(days=7)
    assert len(written) == 4
    assert len(services.jobs.latest("4", JobKind.RENEW)) == 3
    planner.plan()
    written.append(written[1])  # a person puts a former config back
    services.projects.update("4", label_config=written[1])
    planner.plan()
    assert [(job.kind, job.project) for job in services.jobs.waiting() if job.kind is not JobKind.SYNC] == [
        (JobKind.RENEW, "4")
    ]


def test_a_renewal_that_fails_is_tried_again(
    connected: tuple[Services, list[str]], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, written = connected
    url = services.projects.get("4").label_studio_url
    services.settings.sync_every = 0
    services.projects.update("4", label_studio_url="http://127.0.0.1:1")
    planner, uptime = TrainingPlanner(services), [0.0]
    monkeypatch.setattr("taxonomist.backend.worker.retraining_schedule.time.monotonic", lambda: uptime[0])
    loop = JobLoop(services, threading.Event())
    planner.plan()
    assert loop.run_next()
    [failed] = services.jobs.latest("4", JobKind.RENEW)
    assert failed.state is JobState.FAILED
    assert "127.0.0.1:1" in failed.outcome
    services.projects.update("4", label_studio_url=url)
    planner.plan()
    assert services.jobs.waiting() == []
    uptime[0] += RENEW_EVERY_S
    planner.plan()
    assert loop.run_next()
    assert len(written) == 2


@pytest.mark.parametrize("config", ["", "<View/>", "<View", "<!DOCTYPE a><View/>"])
def test_a_config_without_a_panel_costs_nothing(
    connected: tuple[Services, list[str]], clock: Clock, config: str, caplog: pytest.LogCaptureFixture
) -> None:
    services, _ = connected
    services.projects.update("4", label_config=config)
    planner = TrainingPlanner(services)
    planner.plan()
    assert services.jobs.waiting() == []
    assert "look-alike panel" not in caplog.text


def test_a_project_that_was_disconnected_keeps_its_panel(connected: tuple[Services, list[str]], clock: Clock) -> None:
    services, written = connected
    services.projects.update("4", ml_backend=None)
    TrainingPlanner(services).plan()
    assert services.jobs.waiting() == []
    renew_panel(services, "4")
    assert len(written) == 1


def test_a_config_that_label_studio_refuses_is_not_written(services: Services, clock: Clock) -> None:
    with StandIn() as label_studio:
        config = with_panel(CONFIG, services.settings.page_url, "4", former_key(services, "4"))
        label_studio.label_config = config
        label_studio.refuse = lambda _, path: 400 if path.endswith("/validate") else None
        services.projects.update(
            "4", label_config=config, ml_backend=1, label_studio_url=label_studio.url, api_key=SecretStr("t")
        )
        with pytest.raises(LabelStudioError, match="labelling config"):
            renew_panel(services, "4")
        assert label_studio.label_config == services.projects.get("4").label_config == config


def test_a_renewal_that_ended_its_process_each_time_is_not_asked_for_again(
    connected: tuple[Services, list[str]], clock: Clock
) -> None:
    services, _ = connected
    job = services.jobs.enqueue(JobKind.RENEW, "4")
    for _ in range(MAX_ATTEMPTS):
        services.jobs.start(job.id)
        services.jobs.requeue_interrupted()
    TrainingPlanner(services).plan()
    assert [waiting.kind for waiting in services.jobs.waiting()] == []


def test_a_setting_says_how_long_keys_are_valid(settings: Settings, clock: Clock) -> None:
    services = Services(settings.model_copy(update={"look_alike_key_days": 30}))
    services.projects.update("7", label_config=CONFIG)
    key = services.credentials.project_key("7")
    assert opens(services, key)
    clock.day = FIRST + timedelta(days=31)
    assert not opens(services, key)


def test_a_panel_of_another_server_stays(connected: tuple[Services, list[str]], clock: Clock) -> None:
    services, written = connected
    written.append(with_panel(CONFIG, "http://other.test", "4", "20261128-of-another-server-000000"))
    services.projects.update("4", label_config=written[-1])
    renew_panel(services, "4")
    assert len(written) == 2


def test_only_the_key_changes(connected: tuple[Services, list[str]], clock: Clock) -> None:
    services, written = connected
    written[0] = with_panel(CONFIG, "https://images.example/panel", "4", former_key(services, "4"))
    services.projects.update("4", label_config=written[0])
    renew_panel(services, "4")
    [key] = keys_in(written[1])
    assert written[1] == written[0].replace(former_key(services, "4"), key)


@pytest.mark.parametrize(("outer", "is_shared"), [("https://labels.example", True), ("https://other.example", False)])
def test_with_one_address_the_worker_makes_the_panel_relative(
    connected: tuple[Services, list[str]], clock: Clock, outer: str, is_shared: bool
) -> None:
    services, written = connected
    renew_panel(services, "4")
    [before] = panels_in(written[-1])
    services.projects.update("4", label_studio_outer=outer)
    services.settings.browser_url = "https://labels.example/taxonomist"
    for _ in range(2):
        renew_panel(services, "4")
        [after] = panels_in(written[-1])
        assert after == (before.replace("http://127.0.0.1:9090", "/taxonomist") if is_shared else before)
        assert parse_label_config(written[-1]) == parse_label_config(written[0])
        assert len(written) == (3 if is_shared else 2)
