"""How long the server takes for the console's pages, with few images and with many. Nothing but the number differs.

python -m benchmarks.console_grid [--sizes 1000 100000] [--repeats 30] [--anew 3] [--seed 5000] [--cosmos]

The two sizes take turns, so that what else the machine does concerns both.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from uuid import uuid4

import numpy as np
from flask.testing import FlaskClient

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.services.kept_counts import KeptCounts
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.suggestions import Answer, StoredSuggestion
from taxonomist.backend.web.app import create_app
from taxonomist.storage.catalog import ImageDocument, ProjectLabels, image_id

_CHUNK = 2000
_STATES = (None, "not_annotated", "no_agreement", "too_few_annotators")
CONFIG = (
    '<View><Image name="image" value="$image"/><Taxonomy name="taxonomy" toName="image">'
    + "".join(
        f'<Choice value="Room {room}">' + "".join(f'<Choice value="Kind {kind}"/>' for kind in range(20)) + "</Choice>"
        for room in range(20)
    )
    + "</Taxonomy></View>"
)
PAGES = {
    "first page": "images",
    "page in the middle": "images?after=8",
    "a node of level 2": "images?node=taxonomy&node=Room+3&node=Kind+7",
    "a node and a state": "images?node=taxonomy&node=Room+3&state=labelled",
    "disagreement": "images?state=no_agreement",
    "wrong suggestions": "images?suggestion=wrong",
    "overview": "overview",
}


def fill(services: Services, images: int, seed: int) -> None:
    """Make a project with so many images of ten views each, 400 nodes, and a suggestion for each image."""
    services.projects.update("4", label_config=CONFIG, title="Furniture")
    with services.registry.stage(registry_name("4")) as folder:
        (folder / "notes.txt").write_text("no weights")
        manifest = {"kind": "head", "backbone": "v1", "trees": [], "calibration": {}}
        version = services.registry.publish(registry_name("4"), folder, manifest)
    services.registry.promote(registry_name("4"), version.version)
    random = np.random.default_rng(seed)
    for start in range(0, images, _CHUNK):
        documents, suggestions, answers = {}, [], []
        for number in range(start, min(start + _CHUNK, images)):
            uri = f"https://images.example/catalogue/{number:07d}.jpg"
            path = [f"Room {random.integers(20)}", f"Kind {random.integers(20)}"]
            state = _STATES[min(int(random.integers(10)), 3)] if random.random() < 0.5 else None
            labels = ProjectLabels(
                uri=uri, group=f"p{number // 10}", reason=state, accepted={} if state else {"taxonomy": [path]}
            )
            document = ImageDocument(id=image_id(uri), uri_orig=uri).in_project("4", labels)
            documents[document.id] = document
            suggestions.append(
                StoredSuggestion(str(number), "taxonomy", "taxonomist-v1", document.id, tuple(path), 0.9, 1.0)
            )
            if state is None:
                answers.append(Answer(str(number), "taxonomy", "taxonomist-v1", 2.0, random.random() < 0.9, uri))
        services.catalog.update_many(
            {id: partial(lambda made, _: made, document) for id, document in documents.items()}
        )
        services.suggestions.add("4", suggestions)
        services.suggestions.keep_answers("4", list(documents), answers)


@contextmanager
def home(images: int, seed: int, **settings: str) -> Iterator[tuple[Services, float]]:
    """Yield the services of a home with so many images, and the seconds that it took to make it."""
    folder = Path(tempfile.mkdtemp(prefix="taxonomist-grid-"))
    try:
        services, started = Services(Settings.model_validate({"home": folder, **settings})), time.perf_counter()
        fill(services, images, seed)
        yield services, time.perf_counter() - started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cosmos() -> Iterator[dict[str, str]]:
    """Run Cosmos DB's emulator; yield the settings of an empty database in it."""
    import emulators
    from taxonomist.backend.azure.accounts import cosmos_access
    from taxonomist.storage.catalog.cosmos_install import install

    with emulators.cosmos() as server:
        settings = {"cosmos_connection_string": server.connection_string, "cosmos_database": f"grid-{uuid4().hex}"}
        install(cosmos_access(Settings.model_validate(settings)))
        yield settings


def timed(client: FlaskClient, path: str) -> tuple[float, int]:
    """Return the time of the server in milliseconds, and the bytes of the page."""
    started = time.perf_counter()
    answer = client.get(f"/project/4/{path}")
    size = len(answer.get_data())
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code}")
    return 1000 * (time.perf_counter() - started), size


def _median_of_pages(services: Services, repeats: int) -> float:
    """Return the milliseconds in which the catalogue gives the documents of a page."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        services.catalog.page("4", limit=61)
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs=2, default=[1000, 100_000])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--anew", type=int, default=3, help="requests that find no counts kept")
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--cosmos", action="store_true", help="with the catalogue in the emulator of Cosmos DB")
    options = parser.parse_args()
    few, many = options.sizes
    command = " ".join(["python -m benchmarks.console_grid", *sys.argv[1:]])
    with ExitStack() as stack:
        homes = {
            images: stack.enter_context(
                home(images, options.seed, **(stack.enter_context(cosmos()) if options.cosmos else {}))
            )
            for images in options.sizes
        }
        clients = {
            images: create_app(services.settings, services).test_client() for images, (services, _) in homes.items()
        }
        print(f"`{command}`, seed {options.seed}\n")
        print(
            f"| page | {few:,} images, ms | {many:,} images, ms | ratio | counted anew, ms | kB |\n"
            "| --- | ---: | ---: | ---: | ---: | ---: |"
        )
        for name, path in PAGES.items():
            anew, times, size = list[float](), {few: list[float](), many: list[float]()}, 0
            for number in range(options.repeats + options.anew):
                if number < options.anew:
                    homes[many][0].kept_counts = KeptCounts(always=options.cosmos)
                for images, client in clients.items():
                    taken, size = timed(client, path)
                    (times[images] if number >= options.anew else anew if images == many else []).append(taken)
            left, right = median(times[few]), median(times[many])
            row = f"{left:.1f} | {right:.1f} | {right / left:.2f} | {median(anew):.0f} | {size / 1000:.0f}"
            print(f"| {name} | {row} |", flush=True)
        alone = {images: _median_of_pages(services, options.repeats) for images, (services, _) in homes.items()}
        print(f"\nThe documents of the first page alone take {alone[few]:.1f} and {alone[many]:.1f} ms.")
        print(f"Making the homes took {homes[few][1]:.0f} and {homes[many][1]:.0f} seconds.")


if __name__ == "__main__":
    main()
