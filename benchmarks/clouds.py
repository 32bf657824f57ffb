"""Import, label query and fetch on Azure's emulators, for `benchmarks.azure`: by our commands, and by the plain loops
over the SDK that a person would write."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from azure.cosmos import ContainerProxy, CosmosClient
from azure.storage.blob import BlobServiceClient
from PIL import Image, ImageChops
from pydantic import SecretStr

import emulators
from benchmarks.run import Numbers, say
from benchmarks.world import CATALOGUE
from taxonomist.backend.azure.accounts import cosmos_access
from taxonomist.backend.data_stages.fetch import run_fetch
from taxonomist.backend.data_stages.query import QueryOptions, run_query
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.cosmos_install import install
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.catalog.label_query import LabelQuery
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.label_config import write_label_config

PROJECT = "furniture"
COSMOS_CONTAINER = "images"
BLOB_CONTAINER = "images"
FILLED = "filled"  # the database with all documents
CHUNK = 500  # documents in one call of our catalogue, as the import has them
INCLUDE, EXCLUDE = "Chair", "Exterior"
UDF_QUERY = (
    "SELECT * FROM c WHERE c.is_blurred = false AND c.total_annotations >= 2"
    " AND ARRAY_LENGTH(udf.filterDocumentsByLabels(c.id, c.labels_with_taxonomy, @include, @exclude)) > 0"
)
Json = dict[str, Any]


@dataclass(frozen=True)
class Cloud:
    """The running emulators, with `documents` images in a container, and an export of as many tasks in `folder`.

    The database `FILLED` has their documents.
    """

    blob: emulators.Blob
    cosmos: emulators.Cosmos
    folder: Path
    documents: int
    size: int

    @property
    def export(self) -> Path:
        return self.folder / "export.json"

    @property
    def config(self) -> Path:
        return self.folder / "config.xml"

    @cached_property
    def tasks(self) -> list[Json]:
        tasks: list[Json] = json.loads(self.export.read_text(encoding="utf-8"))
        return tasks

    @cached_property
    def expected(self) -> dict[str, Json]:
        """Return the documents that an import makes, by id."""
        return {document["id"]: document for document in map(by_hand, self.tasks)}


@contextmanager
def make_cloud(folder: Path, documents: int, size: int) -> Iterator[Cloud]:
    """Start the emulators and fill them. `size` is the side of fetched images, in pixels."""
    with emulators.blob() as blob, emulators.cosmos() as cosmos:
        cloud = Cloud(blob, cosmos, folder, documents, size)
        _make_export(cloud)
        say("making and uploading images")
        _upload_images(cloud)
        say("filling the catalogue")
        with _database(cloud, FILLED, keep=True):
            _write_ours(cloud, FILLED)
        yield cloud


def by_hand(task: Json) -> Json:
    """Return the document of a task in the form of listing 4.3 of the thesis."""
    uri = task["data"]["image"]
    labels = [
        {"annotator_id": annotation["completed_by"], "taxonomy": region["value"]["taxonomy"]}
        for annotation in task["annotations"]
        for region in annotation["result"]
    ]
    return {
        "id": image_id(uri),
        "uri_orig": uri,
        "labels_with_taxonomy": labels,
        "total_annotations": len({label["annotator_id"] for label in labels}),
        "has_review": False,
        "is_blurred": False,
    }


# Import


def import_ours(cloud: Cloud) -> Numbers:
    """Measure `taxonomist import`: journal, decided labels and catalogue."""
    with _database(cloud) as database, _services(cloud, database) as services:
        begun = time.monotonic()
        done = import_export(services, cloud.export, project=PROJECT, config=cloud.config)
        seconds = time.monotonic() - begun
        assert done.labelled == cloud.documents, done
        return {"rate": cloud.documents / seconds}


def import_plain(cloud: Cloud) -> Numbers:
    """Measure a loop that reads the whole file, makes a document of each task and writes it."""
    with _database(cloud) as database, _container(cloud, database) as container:
        begun = time.monotonic()
        for task in json.loads(cloud.export.read_text(encoding="utf-8")):
            container.upsert_item(by_hand(task))
        return {"rate": cloud.documents / (time.monotonic() - begun)}


def write_ours(cloud: Cloud) -> Numbers:
    """Measure our catalogue writing the same documents, without journal and decisions."""
    with _database(cloud) as database:
        return {"rate": cloud.documents / _write_ours(cloud, database)}


def write_plain(cloud: Cloud) -> Numbers:
    """Measure a loop that writes the same documents."""
    with _database(cloud) as database, _container(cloud, database) as container:
        begun = time.monotonic()
        for document in cloud.expected.values():
            container.upsert_item(document)
        return {"rate": cloud.documents / (time.monotonic() - begun)}


def _write_ours(cloud: Cloud, database: str) -> float:
    """Write all documents by our catalogue; return the seconds that it took."""

    def setting(document: Json) -> Callable[[ImageDocument], ImageDocument]:
        new = ImageDocument.model_validate(document)
        return lambda _: new

    ids = list(cloud.expected)
    with _services(cloud, database) as services:
        services.catalog.count()  # connects
        begun = time.monotonic()
        for start in range(0, len(ids), CHUNK):
            services.catalog.update_many({id: setting(cloud.expected[id]) for id in ids[start : start + CHUNK]})
        return time.monotonic() - begun


# Label query


def query_ours(cloud: Cloud) -> Numbers:
    """Measure `Catalog.find`, in order of ids."""
    query = LabelQuery(include=(INCLUDE,), exclude=(EXCLUDE,), min_annotators=2, private=None)
    return _find(cloud, query)


def all_ours(cloud: Cloud) -> Numbers:
    """Measure `Catalog.find` for all documents, in order of ids."""
    return _find(cloud, LabelQuery(blurred=None, private=None))


def query_plain(cloud: Cloud) -> Numbers:
    """Measure the query of the thesis, in no given order."""
    parameters = [{"name": "@include", "value": [INCLUDE]}, {"name": "@exclude", "value": [EXCLUDE]}]
    return _query(cloud, UDF_QUERY, parameters)


def all_plain(cloud: Cloud) -> Numbers:
    """Measure a query for all documents, in no given order."""
    return _query(cloud, "SELECT * FROM c", [])


def _find(cloud: Cloud, query: LabelQuery) -> Numbers:
    with _services(cloud, FILLED) as services:
        next(services.catalog.find(query), None)  # connects; the first parse takes long
        begun = time.monotonic()
        found = sum(1 for _ in services.catalog.find(query))
        return {"rate": cloud.documents / (time.monotonic() - begun), "found": found}


def _query(cloud: Cloud, sql: str, parameters: list[Json]) -> Numbers:
    with _container(cloud, FILLED) as container:
        run = partial(container.query_items, sql, parameters=parameters, enable_cross_partition_query=True)
        next(iter(run()), None)
        begun = time.monotonic()
        items = list(run())
        return {"rate": cloud.documents / (time.monotonic() - begun), "found": len(items)}


# Fetch


def fetch_ours(cloud: Cloud) -> Numbers:
    """Measure `taxonomist data fetch` into an empty folder, and again when the folder has all images."""
    with _services(cloud, FILLED) as services, tempfile.TemporaryDirectory(dir=cloud.folder) as name:
        query, store = Path(name) / "query", Path(name) / "store"
        run_query(services, LabelQuery(), query, QueryOptions(reasons=False))
        times = []
        for expected in (cloud.documents, 0):
            begun = time.monotonic()
            done = run_fetch(services, query, store, cloud.size)
            times.append(time.monotonic() - begun)
            assert done.new == expected, done
            assert not done.failures, done
        assert len(PreparedImageStore(store, cloud.size)) == cloud.documents
    return {"rate": cloud.documents / times[0], "again": cloud.documents / times[1]}


def fetch_plain(cloud: Cloud) -> Numbers:
    """Measure a loop that reads one image after the other into an array and stores it at the end."""
    with BlobServiceClient.from_connection_string(cloud.blob.connection_string) as service:
        container = service.get_container_client(BLOB_CONTAINER)
        names = [task["data"]["image"].rpartition("/")[2] for task in cloud.tasks]
        begun = time.monotonic()
        images = np.empty((len(names), cloud.size, cloud.size, 3), np.uint8)
        for number, name in enumerate(names):
            with Image.open(BytesIO(container.download_blob(name).readall())) as image:
                images[number] = np.asarray(image.convert("RGB").resize((cloud.size, cloud.size)))
        np.save(cloud.folder / "plain.npy", images)
        return {"rate": cloud.documents / (time.monotonic() - begun)}


# What both work on


@contextmanager
def _database(cloud: Cloud, name: str | None = None, *, keep: bool = False) -> Iterator[str]:
    """Make a database with a container that has our function; delete it afterwards unless `keep`."""
    name = name or uuid4().hex
    install(cosmos_access(_settings(cloud, name)))
    try:
        yield name
    finally:
        if not keep:
            with _client(cloud) as client:
                client.delete_database(name)


@contextmanager
def _container(cloud: Cloud, database: str) -> Iterator[ContainerProxy]:
    with _client(cloud) as client:
        yield client.get_database_client(database).get_container_client(COSMOS_CONTAINER)


def _client(cloud: Cloud) -> CosmosClient:
    # Without discovery, because the emulator announces an https address.
    return CosmosClient(cloud.cosmos.url, cloud.cosmos.key, enable_endpoint_discovery=False)


def _settings(cloud: Cloud, database: str) -> Settings:
    return Settings(
        home=cloud.folder / "home" / uuid4().hex,
        cosmos_connection_string=SecretStr(cloud.cosmos.connection_string),
        cosmos_database=database,
        cosmos_containers=[COSMOS_CONTAINER],
        blob_connection_string=SecretStr(cloud.blob.connection_string),
    )


@contextmanager
def _services(cloud: Cloud, database: str) -> Iterator[Services]:
    """Open services with an empty home folder; delete it afterwards."""
    services = Services(_settings(cloud, database))
    services.settings.home.mkdir(parents=True)
    with ExitStack() as closing:
        closing.callback(shutil.rmtree, services.settings.home)
        closing.callback(services.blob_account.close)
        closing.callback(services.catalog.close)
        closing.callback(services.journal.close)
        yield services


def _make_export(cloud: Cloud) -> None:
    """Write tasks as Label Studio exports them, each annotated by two people who agree."""
    with (CATALOGUE / "manifest.csv").open(encoding="utf-8", newline="") as file:
        paths = [(row["level1"], row["level2"], row["level3"]) for row in csv.DictReader(file)]
    cloud.config.write_text(write_label_config(dict.fromkeys(paths)), encoding="utf-8")
    stamp = "2026-11-24T15:00:00Z"

    def annotation(task: int, person: int) -> Json:
        value = {"taxonomy": [list(paths[7 * task % len(paths)])]}
        region = {"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": value}
        about = {"was_cancelled": False, "ground_truth": False, "created_at": stamp, "updated_at": stamp}
        return {"id": 2 * task + person, "completed_by": person + 1, "result": [region], **about}

    tasks = [
        {
            "id": number,
            "data": {"image": f"azure-blob://{BLOB_CONTAINER}/{number:05d}.jpg"},
            "annotations": [annotation(number, person) for person in range(2)],
            "created_at": stamp,
            "updated_at": stamp,
        }
        for number in range(cloud.documents)
    ]
    cloud.export.write_text(json.dumps(tasks), encoding="utf-8")


def _upload_images(cloud: Cloud) -> None:
    """Upload the catalogue's images at 300 to 700 pixels, turned and with noise: as large as such photographs."""
    sources = [Image.open(path).convert("RGB") for path in sorted((CATALOGUE / "images").glob("*.jpg"))]
    values = np.random.default_rng(0).normal(0, 6, (1000, 1000)).clip(-40, 40) + 128
    noise = Image.fromarray(values.astype(np.uint8)).convert("RGB")
    with BlobServiceClient.from_connection_string(cloud.blob.connection_string) as service:
        container = service.create_container(BLOB_CONTAINER)

        def upload(number: int) -> None:
            random = np.random.default_rng(number)
            side = int(random.integers(300, 701))
            turned = sources[number % len(sources)].rotate(float(random.uniform(-10, 10)), fillcolor="white")
            left, upper = (int(place) for place in random.integers(0, 1001 - side, 2))
            grain = noise.crop((left, upper, left + side, upper + side))
            image = ImageChops.add(turned.resize((side, side)), grain, offset=-128)
            content = BytesIO()
            image.save(content, "JPEG", quality=int(random.integers(75, 91)))
            container.upload_blob(f"{number:05d}.jpg", content.getvalue())

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(upload, range(cloud.documents)))
