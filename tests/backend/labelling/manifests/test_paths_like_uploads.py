"""Files on the disk whose paths end like Label Studio's: they are no uploads, and two of them are two images."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taxonomist.backend.forgetting.plan import plan_image
from taxonomist.backend.labelling.manifests import addresses
from taxonomist.backend.prediction import image_inputs
from taxonomist.backend.services import Services
from taxonomist.backend.state import image_folders
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import TaskSaved
from taxonomist.taxonomy.errors import ConfigError, ImageForbiddenError, ImageNotFoundError
from tests.backend.labelling.manifests.small_manifests import follow, write

UPLOADED = "data/upload/4/0a1b2c3d-x.jpg"
TWO = {f"original/{UPLOADED}": ("Bath", "Sink"), f"blurred/{UPLOADED}": ("Kitchen", "Tap")}


def accepted(services: Services) -> dict[str, list[list[str]]]:
    """Return the accepted paths by the content of the image, as its reader reads it."""
    return {
        services.images("p").read(labels.uri).decode(): labels.accepted["taxonomy"]
        for document in services.catalog.documents("p")
        for labels in [document.projects["p"]]
    }


def ids(services: Services) -> set[str]:
    return {document.id for document in services.catalog.documents("p")}


def as_before(services: Services, monkeypatch: pytest.MonkeyPatch, *manifests: Path) -> None:
    """Import manifests as a release did that took such paths as addresses, into a record without the new field."""
    with monkeypatch.context() as earlier:
        earlier.setattr(addresses, "file_address", str)
        earlier.setattr(image_folders, "is_ambiguous_path", lambda _: False)
        for manifest in manifests:
            follow(services, manifest)
    folders = services.projects.get("p").image_folders
    former = [image_folders.ImageFolder(**folder.model_dump(exclude={"has_bare_paths"})) for folder in folders]
    services.projects.update("p", image_folders=tuple(former))


RIGHT = {f"image catalogue {name}": [list(path)] for name, path in TWO.items()}


@pytest.mark.parametrize("at_once", [True, False])
def test_two_files_that_end_like_one_upload(services: Services, catalogue: Path, at_once: bool) -> None:
    """Below one folder, or each in a folder of its own and a manifest of its own."""
    if at_once:
        follow(services, write(catalogue, TWO))
    else:
        for number, (name, path) in enumerate(TWO.items()):
            manifest = write(catalogue, {name: path}, f"{number}.csv")
            folder = (catalogue / "images" / name).parent
            manifest.write_text(manifest.read_text().replace(name, Path(name).name))
            follow(services, manifest, images=[folder])
    assert accepted(services) == RIGHT
    again = follow(services, catalogue / ("m.csv" if at_once else "0.csv"))
    assert not any(again.changes.values())


def test_such_an_address_is_read_as_an_input(services: Services, catalogue: Path) -> None:
    """A person may pass what a summary shows to `predict` or `similar`."""
    follow(services, write(catalogue, TWO))
    for document in services.catalog.documents("p"):
        address = document.projects["p"].uri
        assert image_inputs._read(services, "p", address) == services.images("p").read(address)


def test_a_file_and_the_upload_at_the_same_path(services: Services, catalogue: Path) -> None:
    """A Label Studio below the path of a proxy may have the very path of the file."""
    follow(services, write(catalogue, TWO))
    path = (catalogue / "images" / "original" / UPLOADED).as_posix()
    now = datetime.now(UTC)
    services.journal.record([TaskSaved("p", "4.1795531934", "7", path, now, now, {})])
    services.journal.fold()
    (task,) = [task for task in services.journal.tasks("p") if task.task_id == "7"]
    assert task.image_id == image_id(f"/{UPLOADED}")
    assert task.image_id not in ids(services)
    with pytest.raises(ImageForbiddenError, match="is an image in Label Studio"):
        services.images("p").read(path)  # the file is not the upload


def test_an_earlier_import_keeps_its_ids(
    services: Services, catalogue: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"original/{UPLOADED}"
    manifest = write(catalogue, {name: ("Bath", "Sink"), "a.jpg": ("Kitchen", "Tap")})
    as_before(services, monkeypatch, manifest)
    before = ids(services)
    assert image_id(f"/{UPLOADED}") in before
    assert not any(follow(services, manifest).changes.values())
    follow(services, manifest, source="second opinion")
    assert ids(services) == before
    assert accepted(services)[f"image catalogue {name}"] == [["Bath", "Sink"]]
    shutil.move(catalogue, tmp_path / "moved")
    assert not any(follow(services, tmp_path / "moved" / "m.csv").changes.values())
    assert ids(services) == before
    assert accepted(services)[f"image catalogue {name}"] == [["Bath", "Sink"]]


def test_an_earlier_import_that_took_two_files_for_one_is_corrected(
    services: Services, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person sees it, because images are withdrawn."""
    manifest = write(catalogue, TWO)
    as_before(services, monkeypatch, manifest)
    assert len(ids(services)) == 1
    with pytest.raises(ConfigError, match="2 images"):
        follow(services, manifest)
    result = follow(services, manifest, confirmed=True)
    assert (result.changes["new images"], result.accepted) == (2, 2)
    assert accepted(services) == RIGHT
    assert not any(follow(services, manifest).changes.values())


def test_a_moved_folder_keeps_such_images(services: Services, catalogue: Path, tmp_path: Path) -> None:
    follow(services, write(catalogue, TWO))
    before = ids(services)
    shutil.move(catalogue, tmp_path / "moved")
    assert not any(follow(services, tmp_path / "moved" / "m.csv").changes.values())
    assert ids(services) == before
    assert accepted(services) == RIGHT


class LabelStudio:
    """The reader of tasks' images."""

    def __init__(self, is_set_up: bool) -> None:
        self._is_set_up = is_set_up

    def read(self, uri: str) -> bytes:
        if not self._is_set_up:
            raise ImageForbiddenError(f"{uri} is an image in Label Studio.")
        return b"upload"


@pytest.mark.parametrize("recorded_earlier", [True, False])
def test_uploads_of_label_studio_beside_a_folder_that_holds_their_path(tmp_path: Path, recorded_earlier: bool) -> None:
    """The images are in `/data`, and tasks have `/data/upload/…`. What an earlier import may mean is read first."""
    folder = image_folders.image_folder(tmp_path).model_copy(update={"has_bare_paths": recorded_earlier})
    for name in (UPLOADED, "a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"file")
    images = image_folders.ImportedImages([folder], 100, LabelStudio(True))
    alone = image_folders.ImportedImages([folder], 100, LabelStudio(False))
    assert images.read(f"file:{tmp_path}/{UPLOADED}") == images.read(f"{tmp_path}/a.jpg") == b"file"
    assert images.read(f"{tmp_path}/{UPLOADED}") == (b"file" if recorded_earlier else b"upload")
    (tmp_path / UPLOADED).unlink()
    assert images.read(f"{tmp_path}/{UPLOADED}") == b"upload"
    for uri in (f"file:{tmp_path}/{UPLOADED}", f"{tmp_path}/b.jpg"):
        with pytest.raises(ImageNotFoundError):
            images.read(uri)
    with pytest.raises(ImageNotFoundError if recorded_earlier else ImageForbiddenError):
        alone.read(f"{tmp_path}/{UPLOADED}")


def test_names_that_are_read_as_one_are_refused(services: Services, catalogue: Path) -> None:
    manifest = write(catalogue, {"a/b.jpg": ("Bath", "Sink"), "a\\b.jpg": ("Kitchen", "Tap")})
    with pytest.raises(ConfigError, match=r"line 3: .*whose name looks the same, in line 2"):
        follow(services, manifest)


def test_such_an_image_is_forgotten_by_its_path(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, TWO))
    path = (catalogue / "images" / "original" / UPLOADED).as_posix()
    assert plan_image(services, path).images == (image_id(f"file:{path}"),)
    assert plan_image(services, f"file:{path}").images == (image_id(f"file:{path}"),)
    now = datetime.now(UTC)
    services.journal.record([TaskSaved("p", "4.1795531934", "7", f"/{UPLOADED}", now, now, {})])
    services.journal.fold()
    with pytest.raises(ConfigError, match=r"may be .*0a1b2c3d-x\.jpg") as error:
        plan_image(services, path)
    assert "id" in (error.value.hint or "")
