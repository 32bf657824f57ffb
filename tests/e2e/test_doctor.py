"""The doctor, and connect as its cure, against a real Label Studio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from taxonomist.backend.demo import process, server
from taxonomist.backend.demo.project import CatalogueImage, create_project, label_config
from taxonomist.backend.label_studio.failures import SSRF_FIX
from taxonomist.taxonomy.errors import LabelStudioError
from tests.e2e.in_process import NO_MODEL, MakeProject, Ours, state
from tests.environment import LABEL_STUDIO_CACHE, label_studio_program


def test_what_was_broken_is_found_and_mended(
    ours: Ours, owner: httpx.Client, catalogue: tuple[CatalogueImage, ...], make_project: MakeProject
) -> None:
    project, _ = make_project("Repair", catalogue[:1])
    assert ours.doctor(project)["Label Studio"].fix.startswith("taxonomist connect")  # never connected
    done = ours.connect(project, NO_MODEL)
    right = state(owner, project)
    healthy = ours.doctor(project)
    assert {name: check.detail for name, check in healthy.items() if check.status == "fail"} == {}
    assert {name for name, check in healthy.items() if check.status == "warn"} - {"disk"} == {"backbone", "model"}
    assert set(healthy) >= {"token", "project", "taxonomy", "ML backend", "webhook", "pre-filling", "image"}

    hook = f"/api/webhooks/{done.webhook}/"
    config = right["about"]["label_config"]
    breaks: dict[str, tuple[str, Callable[[], httpx.Response]]] = {
        "header": ("webhook", lambda: owner.patch(hook, json={"headers": {}})),
        "inactive": ("webhook", lambda: owner.patch(hook, json={"is_active": False})),
        "events": ("webhook", lambda: owner.patch(hook, json={"send_for_all_actions": False})),
        "prefill": (
            "pre-filling",
            lambda: owner.patch(f"/api/projects/{project}", json={"show_collab_predictions": False}),
        ),
        "version": ("model version", lambda: owner.patch(f"/api/projects/{project}", json={"model_version": ""})),
        "panel": (
            "look-alike panel",
            lambda: owner.patch(
                f"/api/projects/{project}", json={"label_config": config.replace("&amp;amp;key=", "&amp;amp;key=0")}
            ),
        ),
    }
    for name, (check, break_it) in breaks.items():
        assert break_it().is_success, name
        assert ours.doctor(project)[check].status == "fail", name
        ours.connect(project, NO_MODEL)
        assert state(owner, project) == right, name
        assert ours.doctor(project)[check].status == "ok", name

    # A second webhook to the same address would send all events twice: it is turned off, not deleted.
    extra = {"project": project, "url": f"{ours.services.settings.url}/webhook", "send_for_all_actions": True}
    made = owner.post("/api/webhooks/", json=extra).json()
    assert ours.doctor(project)["webhook"].status == "warn"
    for _ in range(2):
        ours.connect(project, NO_MODEL)
        first, second = state(owner, project)["webhooks"]
        assert first == right["webhooks"][0]
        assert (second["id"], second["is_active"]) == (made["id"], False)
    assert ours.doctor(project)["webhook"].status == "ok"

    # Without its webhook nothing arrives; Label Studio makes none for a backend that is there already.
    for webhook in (first, second):
        assert owner.delete(f"/api/webhooks/{webhook['id']}/").is_success
    assert ours.doctor(project)["webhook"].status == "fail"
    ours.connect(project, NO_MODEL)
    assert len(state(owner, project)["webhooks"]) == 1

    # The config changed without a webhook.
    ours.services.projects.update(str(project), label_config=config.replace("<View", "<View "))
    assert ours.doctor(project)["taxonomy"].status == "warn"


def test_ssrf_settings_that_forbid_us_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalogue: tuple[CatalogueImage, ...]
) -> None:
    """Label Studio keeps the webhook, says that all is well, and drops every event."""
    program = label_studio_program()
    with server.start(program, tmp_path / "data", cache=LABEL_STUDIO_CACHE) as running:
        ours = Ours(tmp_path / "home", running)
        with running.owner.client(running.url) as owner:
            project = create_project(owner, "Protected", label_config(picture.path for picture in catalogue))
        ours.connect(project, NO_MODEL)
        assert ours.doctor(project)["SSRF settings"].status == "ok"
        port = int(running.url.rpartition(":")[2])
    try:
        monkeypatch.setitem(process._SETTINGS, "SSRF_PROTECTION_ENABLED", "true")
        with server.start(program, tmp_path / "data", port=port) as running:
            ours.label_studio = running
            ours.services.projects.update(str(project), label_studio_url=running.url)
            checks = ours.doctor(project)
            assert {checks[name].status for name in ("ML backend", "webhook")} == {"ok"}
            assert (checks["SSRF settings"].status, checks["SSRF settings"].fix) == ("fail", SSRF_FIX)
            with pytest.raises(LabelStudioError) as caught:
                ours.connect(project, NO_MODEL)
            assert caught.value.hint == SSRF_FIX
            with running.owner.client(running.url) as owner:
                fresh = create_project(owner, "Refused", label_config(picture.path for picture in catalogue))
            with pytest.raises(LabelStudioError) as caught:
                ours.connect(fresh, NO_MODEL)
            assert caught.value.hint == SSRF_FIX
    finally:
        ours.stop()
