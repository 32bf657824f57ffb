"""The commands as people and scripts use them: their output and their exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import CONFIG, image_bytes, publish_backbone, write_catalogue


def test_from_a_manifest_to_a_rollback(run: Run, services: Services, tmp_path: Path) -> None:
    publish_backbone(services)
    imported = run_json(run, "import", write_catalogue(tmp_path / "seen", 80), "--project", "colours")
    assert (imported["images"], imported["annotations"], imported["labelled"]) == (80, 80, 80)
    assert imported["problems"] == []
    again = run_json(run, "import", tmp_path / "seen" / "manifest.csv", "--project", "colours")
    assert again["labelled"] == 80

    first = run_json(run, "train")  # the only project is the default
    assert (first["version"], first["champion"], first["labels"]) == ("v1", True, 80)
    unseen = write_catalogue(tmp_path / "unseen", 40, first=500)
    report = run_json(run, "evaluate", "--manifest", unseen)
    assert (report["images"], report["unreadable"], report["outside_taxonomy"]) == (40, 0, 0)
    assert [level["level"] for level in report["levels"]] == [1, 2]
    assert all(level["accuracy"] > 0.9 and level["macro_f1"] > 0.9 for level in report["levels"])
    assert re.search(r"outside_taxonomy\s+0\b", run("evaluate", "--manifest", unseen)[1])  # also where it is zero
    strange = unseen.with_name("strange.csv")
    strange.write_text(unseen.read_text().replace("Cold,Green", "Cold,Teal", 1))
    assert run_json(run, "evaluate", "--manifest", strange)["outside_taxonomy"] == 1
    assert re.search(r"outside_taxonomy\s+1\b", run("evaluate", "--manifest", strange)[1])

    (tmp_path / "query.jpg").write_bytes(image_bytes(("Cold", "Blue"), seed=77))
    found = run_json(run, "similar", tmp_path / "query.jpg", "-k", 3, "--suggestions")
    assert [look_alike["labels"] for look_alike in found["look_alikes"]] == [{"taxonomy": [["Cold", "Blue"]]}] * 3
    assert (found["version"], found["suggestions"][0]["path"]) == ("v1", ["Cold", "Blue"])

    assert run("train")[1].startswith("Nothing is trained: labels, settings and backbone are those of taxonomist-v1.")
    assert run_json(run, "train")["version"] == "v1"
    assert [run_json(run, "train", "--force")["version"] for _ in range(2)] == ["v2", "v3"]
    for version in ("v1", "v2", "v3"):
        run("models", "promote", version)
    assert run("models", "rollback")[1].strip() == "Project colours is served by taxonomist-v2 again."
    assert run("models", "rollback")[1].strip() == "Project colours is served by taxonomist-v1 again."
    assert [row["version"] for row in run_json(run, "models", "list") if row["champion"]] == ["v1"]
    shown = run_json(run, "models", "show", "v1")
    assert {"head.safetensors", "report.json", "confusion-taxonomy-1.png", "data.json"} <= set(shown["files"])


def test_a_manifest_with_several_annotators(run: Run, services: Services, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path / "c", 8, annotators=("anna", "bela", "carl"))
    text = manifest.read_text().splitlines()
    text[1] = text[1].replace("Warm,Red", "Cold,Blue")  # two of three still agree on Warm, Red
    manifest.write_text("\n".join(text))
    assert run_json(run, "import", manifest, "--project", "colours")["labelled"] == 8
    documents = services.catalog.documents("colours")
    first = next(document for document in documents if (document.uri_orig or "").endswith("0000.jpg"))
    assert first.projects["colours"].accepted == {"taxonomy": [["Warm", "Red"]]}
    assert first.total_annotations == 3


def test_what_cannot_be_imported_is_reported(run: Run, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path / "c", 4)
    manifest.write_text(manifest.read_text() + "gone.jpg,Warm,Red,p\n../../etc/passwd,Warm,Red,p\n")
    code, out, err = run("import", manifest, "--project", "colours")
    assert (code, out) == (2, "")
    assert "line 6: no file 'gone.jpg'" in err
    assert "line 7: '../../etc/passwd' is not inside" in err
    assert "--skip-bad-rows" in err
    result = run_json(run, "import", manifest, "--project", "colours", "--skip-bad-rows")
    assert (result["entries"], result["taken"], result["left_out"], len(result["problems"])) == (6, 4, 2, 2)
    assert result["left_out_reasons"] == {"file that is not there": 2}


def test_an_import_follows_its_file(run: Run, services: Services, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path / "c", 8)
    run_json(run, "import", manifest, "--project", "colours")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*lines[:-2], lines[-1].replace("Cold,Green", "Warm,Red")]))
    code, out, err = run("import", manifest, "--project", "colours")
    assert (code, out) == (2, "")
    assert "withdraws 1 labels and 1 images, which is more than a tenth" in err
    shown = run("import", manifest, "--project", "colours", "--dry-run")[1]
    assert "Cold › Green → Warm › Red" in shown
    assert "0006.jpg: the image is removed, with Cold › Blue" in shown
    assert "Nothing is stored" in shown
    assert services.catalog.count("colours") == 8
    result = run_json(run, "import", manifest, "--project", "colours", "--yes")
    assert (result["changes"]["changed labels"], result["changes"]["removed images"], result["labelled"]) == (1, 1, 7)
    other = write_catalogue(tmp_path / "d", 4, first=50)
    added = run_json(
        run, "import", other, "--project", "colours", "--source", "second", "--images", other.parent / "images"
    )
    assert (added["source"], added["images"], added["labelled"]) == ("second", 4, 11)


def test_options_of_manifests_are_refused_for_an_export(run: Run, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text("[]")
    code, _, err = run("import", tmp_path / "export.json", "--project", "4", "--dry-run")
    assert code == 2
    assert "--dry-run is for CSV manifests" in err


def test_an_export_without_tasks_is_an_error(run: Run, services: Services, tmp_path: Path) -> None:
    services.projects.update("4", label_config=CONFIG)
    (tmp_path / "export.json").write_text("[]")
    code, out, err = run("import", tmp_path / "export.json", "--project", "4", "--json")
    assert (code, out) == (2, "")
    assert "export.json has no tasks" in err.replace("\n", "")


def test_no_line_of_a_summary_is_long(run: Run, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path / "c", 4)
    lines = manifest.read_text().splitlines()
    lines[1] = lines[1].replace("Warm,Red", "Warm," + "Wide" * 20_000)
    lines[2] = lines[2].replace("Warm,", "Warm,").replace(",Yellow", "," + "wide" * 20_000)
    manifest.write_text("\n".join(lines))
    _, out, err = run("import", manifest, "--project", "colours", "--dry-run")
    assert "question: " in out
    assert max(map(len, [*out.splitlines(), *err.splitlines()])) < 1200


def test_brackets_are_no_markup(run: Run, tmp_path: Path) -> None:
    """A name such as `[/bold]` is printed as it is, in errors and in tables."""
    manifest = write_catalogue(tmp_path / "c", 4)
    text = manifest.read_text()
    manifest.write_text(text + "[/bold] [red].jpg,Warm,Red,p\n")
    assert "'[/bold] [red].jpg'" in run("import", manifest, "--project", "colours")[2]
    manifest.write_text(text)
    assert "[/x] [red]" in run("import", manifest, "--project", "colours", "--source", "[/x] [red]")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "Give --project"),
        (["train", "--project", "nothing"], 4, "Project nothing is not known"),
        (["models", "show", "v9", "--project", "4"], 4, "v9"),
        (["evaluate", "--project", "4", "--manifest", "none.csv"], 4, "no model yet"),
        (["import", "none.csv", "--project", "4"], 2, "no file none.csv"),
        (["import", "none.json"], 2, "no file none.json"),
        (["sync", "--project", "4"], 2, "taxonomist connect"),
        (["connect", "--project", "4"], 2, "address of Label Studio is not known"),
        (["connect", "--project", "4", "--url", "http://127.0.0.1:1", "--api-key", "t"], 7, "127.0.0.1:1"),
        (["serve", "--host", "0.0.0.0"], 2, "without a password"),
        (["pretrain"], 5, "0 images are too few"),
        (["pretrain", "--preset", "best"], 2, "There is no preset 'best'"),
        (["pretrain", "--resume"], 4, "no unfinished pre-training"),
        (["backbone", "show", "v9"], 4, "v9"),
        (["backbone", "promote", "v9"], 4, "v9"),
        (["backbone", "rollback"], 4, "no previous version"),
        (["study", "--project", "nothing"], 4, "Project nothing is not known"),
        (["similar", "none.jpg", "--project", "4"], 4, "embedded yet"),
    ],
)
def test_errors_are_one_line_with_a_hint(
    run: Run, services: Services, arguments: list[str], code: int, message: str
) -> None:
    for project in ("4", "5"):
        services.projects.update(project)
    exit_code, out, err = run(*arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [["models", "list"], ["labels", "list"], ["settings"], ["embed"], ["doctor"]])
def test_a_listing_of_an_unknown_project_is_an_error(run: Run, tmp_path: Path, command: list[str]) -> None:
    """An empty list would say that all is well."""
    run_json(run, "import", write_catalogue(tmp_path / "c", 4), "--project", "colours")
    code, out, err = run(*command, "--project", "colors")
    assert (code, out) == (4, "")
    assert "Project colors is not known." in err
    assert "Known projects: colours." in err


def test_images_without_labels_are_no_unknown_project(run: Run, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path / "c", 4)
    manifest.write_text("\n".join(line.partition(",")[0] for line in manifest.read_text().splitlines()))
    code, out, _ = run("import", manifest, "--project", "colours")
    assert code == 0
    assert "train" not in out
    code, _, err = run("train", "--project", "colours")
    assert code == 2
    assert "Project colours has no taxonomy yet" in err
    assert "is not known" not in err


def test_an_invalid_setting_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXONOMIST_PORT", "ninety")
    code, _, err = run("models", "list", "--project", "4")
    assert code == 2
    assert "port" in err
