"""What the doctor, the panel and a training say when there are too few annotators, and of imported ground truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.labelling.manifests.plan import ManifestOptions
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from taxonomist.taxonomy.errors import TrainingError
from tests.backend.connection.doctor.conftest import seen
from tests.small_world import CONFIG as COLOURS
from tests.small_world import publish_backbone, write_catalogue


@pytest.fixture
def colours(services: Services) -> Services:
    services.projects.update("7", label_config=COLOURS)
    publish_backbone(services)
    return services


def annotated(services: Services, folder: Path, *annotators: str, count: int = 6) -> None:
    import_manifest(services, write_catalogue(folder, count, annotators=annotators), "7")


def test_a_single_annotator_is_told_that_two_are_needed(colours: Services, tmp_path: Path) -> None:
    annotated(colours, tmp_path, "anna")
    check = seen(colours, "7")["annotators"]
    assert check.status == "warn"
    assert check.detail == "one person has annotated 6 images, and a label needs 2 annotators who agree"
    assert "taxonomist settings --project 7 annotators=1" in check.fix

    with pytest.raises(TrainingError, match="6 images wait for a further annotator: a label needs 2") as error:
        train(colours, "7", lambda step, share: None)
    assert "taxonomist settings --project 7 annotators=1" in str(error.value.hint)


def test_the_panel_says_it_beside_an_image_without_look_alikes(colours: Services, tmp_path: Path) -> None:
    annotated(colours, tmp_path, "anna")
    (document, *_) = colours.catalog.documents("7")
    key = colours.credentials.project_key("7")
    client = create_app(colours.settings, colours).test_client()
    page = client.get(f"/similar?project=7&key={key}&src={document.projects['7'].uri}").get_data(as_text=True)
    assert "6 images wait for a further annotator: a label needs 2 annotators who agree." in page


def test_two_people_on_different_images_are_too_few_as_well(colours: Services, tmp_path: Path) -> None:
    annotated(colours, tmp_path, "anna")
    manifest = write_catalogue(tmp_path, 4, annotators=("bela",), first=50)
    import_manifest(colours, manifest, "7", options=ManifestOptions(source="second"))
    check = seen(colours, "7")["annotators"]
    assert check.detail.startswith("no more than 1 people have annotated each of 10 images")


@pytest.mark.parametrize("annotators", [("anna", "bela"), ()])
def test_enough_annotators_or_ground_truth(colours: Services, tmp_path: Path, annotators: tuple[str, ...]) -> None:
    annotated(colours, tmp_path, *annotators)
    checks = seen(colours, "7")
    assert checks["annotators"].status == "ok"
    assert "ground truth" not in checks  # a manifest's own labels are meant so


def test_one_annotator_is_enough_where_the_project_says_so(colours: Services, tmp_path: Path) -> None:
    annotated(colours, tmp_path, "anna")
    colours.projects.update("7", settings=colours.projects.get("7").settings.model_copy(update={"annotators": 1}))
    assert seen(colours, "7")["annotators"].status == "ok"


def exported(folder: Path, **changes: object) -> Path:
    value = {"taxonomy": [["Warm", "Red"]]}
    region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": value}
    times = {"created_at": "2026-11-24T10:00:00Z", "updated_at": "2026-11-24T10:00:00Z"}
    tasks = [
        {
            "id": number,
            "data": {"image": f"https://host/{number}.jpg"},
            "annotations": [{"id": number, "completed_by": 1, "result": [region], **times, **changes}],
        }
        for number in range(1, 5)
    ]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"ground_truth": True, "lead_time": None}, True),  # as Label Studio imports annotations
        ({"ground_truth": True, "lead_time": 3.2}, False),  # a person has set the star
        ({"ground_truth": False, "lead_time": None}, False),
    ],
)
def test_imported_ground_truth_is_reported(
    colours: Services, tmp_path: Path, changes: dict[str, object], reported: bool
) -> None:
    import_export(colours, exported(tmp_path, **changes), project="7")
    checks = seen(colours, "7")
    assert ("ground truth" in checks) == reported
    if reported:
        assert checks["ground truth"].status == "warn"
        assert "4 of 4 annotations were imported into Label Studio" in checks["ground truth"].detail


# --- projects that were only imported


@pytest.mark.parametrize("project", ["furniture", "7"])
def test_no_server_is_missed_for_imported_projects(services: Services, tmp_path: Path, project: str) -> None:
    services.settings.port = 1
    import_manifest(services, write_catalogue(tmp_path, 4), project)
    for checks in (seen(services, project), seen(services)):
        assert (checks["server"].status, checks["worker"].status) == ("ok", "ok")
        assert "imported projects need none" in checks["server"].detail
        assert not [name for name in checks if "Label Studio" in name]


def test_a_server_is_missed_for_a_connected_project_beside_them(services: Services, tmp_path: Path) -> None:
    services.settings.port = 1
    import_manifest(services, write_catalogue(tmp_path, 4), "furniture")
    services.projects.update("4", label_config=COLOURS, created="1795531934")
    checks = seen(services)
    assert (checks["server"].status, checks["worker"].status) == ("fail", "fail")
    assert checks["project 4: Label Studio"].status == "fail"
