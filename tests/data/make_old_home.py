"""Make `home-0.1.0.tar.gz` and `home-0.1.0.json`: a small home of the first release (0.1.0), and what 0.1.0 answers.

The script runs with the code of 0.1.0, whose packages are still called `backend`, `storage`, and so on:

    git worktree add /tmp/taxonomist-0.1.0-code 078dd32
    PYTHONPATH=/tmp/taxonomist-0.1.0-code python tests/data/make_old_home.py

The home holds project "7", imported from a CSV: 24 coloured images, labelled by up to three annotators who mostly
agree; a tiny backbone; two heads, the second promoted; embeddings, journal, jobs (one still waits) and huey's queue;
images prepared at 32 pixels; and the state of a finished pre-training. It holds no secrets: a first start makes them.

Ids of images are hashes of their addresses, so the home is always made at `ROOT`. `tests/integration/test_old_home.py`
unpacks it elsewhere and replaces that folder in the stored addresses; it asks for images by their first addresses.

The JSON file holds the answers of 0.1.0 on this home (predictions, look-alikes, labels with their reasons, lists of
models), every command line option of 0.1.0 with a value that it takes, and every setting with its default.
"""

from __future__ import annotations

import contextlib
import csv
import enum
import io
import json
import os
import shutil
import sqlite3
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import onnx
import typer.main
from backend.app import create_app
from backend.jobs import Kind
from backend.queue import open_queue
from onnx import TensorProto, helper
from PIL import Image

from backend.cli import app, main
from backend.pretraining.state import Run, write_run
from backend.services import BACKBONE, Services
from backend.settings import Settings

HERE = Path(__file__).parent
ROOT = Path("/tmp/taxonomist-0.1.0")
SIZE, GRID = 32, 4
COLOURS = {
    ("Warm", "Red"): (220, 30, 30),
    ("Warm", "Yellow"): (230, 210, 40),
    ("Cold", "Blue"): (30, 50, 220),
    ("Cold", "Green"): (30, 170, 60),
}
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Taxonomy name="colour" toName="image">
    <Choice value="Warm"><Choice value="Red"/><Choice value="Yellow"/></Choice>
    <Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice>
  </Taxonomy>
</View>"""
NEW = "unseen.jpg"  # an image that the home does not know


def image(colour: tuple[int, int, int], seed: int) -> bytes:
    """Return a small JPEG of four by four patches around a colour."""
    noise = np.random.default_rng(seed).normal(0, 70, (4, 4, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST).save(out, "JPEG", quality=60)
    return out.getvalue()


def write_catalogue(folder: Path) -> Path:
    """Write 24 images and their manifest, with the answers of up to three annotators for each."""
    (folder / "images").mkdir(parents=True)
    paths = list(COLOURS)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "level1", "level2", "product", "annotator"])
        for number in range(24):
            path = paths[number % 4]
            name = f"{number:02d}.jpg"
            (folder / "images" / name).write_bytes(image(COLOURS[path], number))
            said = {"anna": path, "bela": path, "carl": path}
            if number == 5:
                said["carl"] = paths[2]  # two of three agree
            elif number == 11:
                said = {"anna": paths[0], "bela": paths[2]}  # no agreement
            elif number == 17:
                said = {"anna": path}  # one annotator is not enough
            elif number == 23:
                said["bela"] = paths[2]  # all agree on level 1, two of three on level 2
            for annotator, answer in said.items():
                rows.writerow([name, *answer, f"p{number}", annotator])
    (folder / "images" / NEW).write_bytes(image(COLOURS["Cold", "Green"], 99))
    return folder / "manifest.csv"


def publish_backbone(services: Services) -> None:
    """Publish and promote a backbone whose embedding is the mean colour of each cell of a grid: 48 numbers."""
    step = SIZE // GRID
    nodes = [
        helper.make_node("Cast", ["pictures"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["channels"], ["cells"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Flatten", ["cells"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean-colours",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3 * GRID * GRID])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with services.registry.stage(BACKBONE) as folder:
        onnx.save(model, str(folder / "backbone.onnx"))
        manifest = {"kind": "backbone", "size": SIZE, "dimension": 3 * GRID * GRID, "architecture": "mean colours"}
        version = services.registry.publish(BACKBONE, folder, manifest)
    services.registry.promote(BACKBONE, version.version)


def command(*arguments: str) -> str:
    """Run a command of 0.1.0 on the home and return what it prints."""
    sys.argv = ["taxonomist", "--home", str(ROOT / "home"), *arguments]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main()
    return printed.getvalue()


def told(*arguments: str) -> Any:
    """Return what a command prints with --json."""
    return json.loads(command(*arguments, "--json"))


def make_home() -> None:
    """Make the home and the catalogue below `ROOT`."""
    shutil.rmtree(ROOT, ignore_errors=True)
    manifest = write_catalogue(ROOT / "catalogue")
    services = Services(Settings(home=ROOT / "home"))
    services.book.remember("7", label_config=CONFIG)
    publish_backbone(services)
    command("import", str(manifest), "--project", "7")
    command("train", "--project", "7")
    command("train", "--project", "7")
    command("models", "promote", "v2", "--project", "7")
    command("embed", "--project", "7")
    command("prepare", "--size", str(SIZE))
    write_run(
        services.settings.home,
        Run(
            preset="smoke",
            recipe={"epochs": 3, "size": SIZE, "batch": 16},
            size=SIZE,
            step="done",
            documents=24,
            seen=24,
            version="v1",
            outcome="Backbone v1 is served now",
        ),
    )
    services.jobs.ask(Kind.EMBED, "7", "a job that waits")
    open_queue(services.settings.home).storage.close()


def answers() -> dict[str, Any]:
    """Return what 0.1.0 answers on the home, before anything else is done with it."""
    services = Services(Settings(home=ROOT / "home"))
    client = create_app(services.settings, services).test_client()
    addresses = [str(ROOT / "catalogue" / "images" / name) for name in ("00.jpg", "05.jpg", "11.jpg", "22.jpg", NEW)]
    request = {
        "tasks": [{"id": number, "data": {"image": address}} for number, address in enumerate(addresses, start=1)],
        "project": "7.1795531934",
        "label_config": CONFIG,
        "params": {"context": None},
    }
    labels = {
        document.id: document.projects["7"].model_dump(
            mode="json", include={"accepted", "reason", "detail", "decided_by", "group", "part"}
        )
        for document in services.catalog.documents("7")
    }
    predicted = client.post("/predict", json=request).get_json()
    services.close()
    return {
        "made_at": str(ROOT),
        "label_config": CONFIG,
        "predict": {"request": request, "answer": predicted},
        "setup": client.post("/setup", json={"project": "7.1795531934", "schema": CONFIG}).get_json(),
        "labels": labels,
        "similar": told("similar", addresses[-1], "--project", "7", "-k", "5"),
        "models": told("models", "list", "--project", "7"),
        "model": told("models", "show", "v2", "--project", "7"),
        "backbones": told("backbone", "list"),
        "evaluation": told("evaluate", "--project", "7", "--manifest", str(ROOT / "catalogue" / "manifest.csv")),
    }


def samples(parameter: Any) -> list[str]:
    """Return values that an option or argument of 0.1.0 takes."""
    annotation = parameter.type_descriptor.annotation
    if issubclass(annotation, enum.Enum):
        return [str(choice.value) for choice in annotation]
    if issubclass(annotation, (int, float)):
        return [str(parameter.min if parameter.min is not None else 1)]
    return ["value"]


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words that call it and the object of every command. Typer brings a click of its own: no isinstance."""
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from leaves(inner, (*words, word))
    else:
        yield words, command


def command_lines() -> list[tuple[str, ...]]:
    """Return a command line for each spelling of each option of 0.1.0, with what it needs beside.

    Hidden options are left out: 0.1.0 starts its own child processes with them.
    """
    lines: list[list[str]] = []
    for words, command in leaves(typer.main.get_command(app)):
        needed = {
            parameter.name: [*parameter.opts[:1], samples(parameter)[0]]
            if parameter.param_type_name == "option"
            else [samples(parameter)[0]]
            for parameter in command.params
            if parameter.required
        }
        lines.append([*words, *(word for value in needed.values() for word in value)])
        for parameter in command.params:
            if parameter.param_type_name != "option" or parameter.hidden:
                continue
            beside = [word for name, value in needed.items() if name != parameter.name for word in value]
            for spelling in [*parameter.opts, *parameter.secondary_opts]:
                values = [[]] if parameter.is_flag else [[value] for value in samples(parameter)]
                lines += [[*words, *beside, spelling, *value] for value in values]
    return sorted({tuple(line) for line in lines})


def settings() -> dict[str, Any]:
    """Return the defaults of the settings of 0.1.0, by name."""
    defaults = Settings(home=ROOT / "home").model_dump(mode="json")
    return {name: value for name, value in defaults.items() if name != "home"}


def pack() -> None:
    """Pack home and catalogue, without secrets and without SQLite's temporary files."""
    home = ROOT / "home"
    for database in home.rglob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = Path(entry.name).name
        if name in {"secrets.json", "credentials.json"} or name.endswith(("-wal", "-shm", ".lock")):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(HERE / "home-0.1.0.tar.gz", "w:gz") as archive:
        for name in ("catalogue", "home"):
            archive.add(ROOT / name, name, filter=kept)


if __name__ == "__main__":
    for variable in [name for name in os.environ if name.startswith("TAXONOMIST_")]:
        del os.environ[variable]
    # So few labels would allow no suggestion otherwise, and so easy images only certain ones.
    training = {"TAXONOMIST_TARGET_PRECISION": "0.02", "TAXONOMIST_HEAD_EPOCHS": "4", "TAXONOMIST_HEAD_HIDDEN": "32"}
    os.environ |= training
    matplotlib.rcParams.update({"figure.dpi": 20, "savefig.dpi": 20})  # plots take most of the space
    make_home()
    for variable in training:
        del os.environ[variable]
    pack()
    written = {**answers(), "settings": settings(), "command_lines": command_lines()}
    (HERE / "home-0.1.0.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
