"""Images of one product are predicted together: which ones, and what an answer says."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.backend.label_studio.requests import PredictRequest
from taxonomist.backend.labelling.products import ProductImage
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.prediction.product_images import ProductImages
from taxonomist.backend.services import Services
from taxonomist.inference.heads.discriminant_weights import Discriminant, DiscriminantHead
from taxonomist.inference.heads.fusion import MOST_IMAGES, Fusion
from taxonomist.inference.serving_model import ServingModel
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels, image_id
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.label_config import parse_label_config
from tests.small_world import CONFIG, publish_backbone
from tests.waiting import eventually

DIMENSION = 48


def uri(name: str) -> str:
    return f"/data/upload/7/{name}.jpg"


@pytest.fixture
def known(services: Services) -> Services:
    """Project "7", with three images of product p, one of q, and one without a product."""
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    for name, product in (("a", "p"), ("b", "p"), ("c", "p"), ("d", "q"), ("e", None)):
        add(services, name, product)
    return services


def add(services: Services, name: str, product: str | None, value: float = 0.0, **fields: Any) -> None:
    labels = ProjectLabels(uri=uri(name), group=product)
    services.catalog.put(ImageDocument(id=image_id(uri(name)), uri_orig=uri(name), projects={"7": labels}, **fields))
    embed(services, name, value or ord(name[0]) - 96)


def embed(services: Services, name: str, value: float) -> None:
    services.embeddings("v1").append([image_id(uri(name))], np.full((1, DIMENSION), value, np.float32))


def others(services: Services, *names: str, images: ProductImages | None = None) -> list[list[float]]:
    """Return the embeddings of the others of each image's product, by their first number."""
    wanted = {image_id(uri(name)): ProductImage({"sku": "p"}, uri(name)) for name in names}
    found = (images or ProductImages(services)).others("7", "v1", wanted, DIMENSION)
    return [sorted(rows[:, 0].tolist()) for rows in found]


def test_the_other_images_of_the_product(known: Services) -> None:
    assert others(known, "a", "d", "e") == [[2, 3], [], []]


def test_the_task_names_the_product_of_an_image_that_is_not_known_yet(known: Services) -> None:
    embed(known, "x", 24)
    embed(known, "y", 25)
    assert others(known, "x", "y") == [[], []]
    known.projects.change("7", lambda record: {"settings": record.settings.model_copy(update={"product_field": "sku"})})
    assert others(known, "x", "y") == [[1, 2, 3, 25], [1, 2, 3, 24]]


def test_private_images_and_those_without_an_embedding_are_left_out(known: Services) -> None:
    add(known, "f", "q", face_rects=[[1, 1, 2, 2]])
    labels = ProjectLabels(uri=uri("g"), group="q")
    known.catalog.put(ImageDocument(id=image_id(uri("g")), projects={"7": labels}))
    assert others(known, "d") == [[]]


def test_a_request_reads_a_bounded_number_of_embeddings(known: Services) -> None:
    for number in range(40):
        add(known, f"z{number}", "q", 1.0)
    assert len(others(known, "d")[0]) == MOST_IMAGES - 1


def test_new_images_are_found_later(known: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ProductImages(known)
    assert others(known, "a", images=images) == [[2, 3]]
    add(known, "h", "p")
    assert others(known, "a", images=images) == [[2, 3]]
    later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    others(known, "a", images=images)  # begins to read the catalogue
    monkeypatch.undo()
    eventually("the catalogue is read", lambda: not images._readers)
    assert others(known, "a", images=images) == [[2, 3, 8]]


def test_no_request_waits_long_for_a_large_catalogue(known: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    read, go_on = ProductImages._read, threading.Event()

    def slow(images: ProductImages, project: str) -> Any:
        go_on.wait()
        return read(images, project)

    monkeypatch.setattr(ProductImages, "_read", slow)
    monkeypatch.setattr("taxonomist.backend.prediction.product_images._FIRST_WAIT_S", 0.01)
    images = ProductImages(known)
    assert others(known, "a", images=images) == [[]]
    go_on.set()
    eventually("the catalogue is read", lambda: images._indexes)
    assert others(known, "a", images=images) == [[2, 3]]


def model(depth: int = 2) -> ServingModel:
    """Return a model that is unsure of an image alone: the sign of its first number says warm or cold."""
    (tree,) = parse_label_config(CONFIG).trees
    nodes = np.array([tree.index["Warm", "Red"], tree.index["Cold", "Blue"]])
    weight = np.zeros((2, DIMENSION), np.float32)
    weight[:, 0] = 7, -7
    head = Discriminant(weight, np.zeros(2, np.float32), nodes, np.asarray(tree.parents, np.int64))
    fusion = Fusion(3.0, np.zeros(2, np.float32), np.zeros(2, np.float32), depth)
    calibration = Calibration(1.0, (0.95, 0.95), 0.9, (40, 40))
    return ServingModel(
        "v1", "v1", {"colour": tree}, {"colour": calibration}, DiscriminantHead({"colour": head}),
        {"colour": fusion}, {"colour": calibration},
    )  # fmt: skip


def predicted(services: Services, monkeypatch: pytest.MonkeyPatch, found: ServingModel, *names: str) -> Any:
    predictor = Predictor(services)
    monkeypatch.setattr(predictor, "model", lambda project: found)
    tasks = [{"id": number, "data": {"image": uri(name)}} for number, name in enumerate(names, start=1)]
    request = {"tasks": tasks, "project": "7", "label_config": CONFIG}
    return predictor.predict(PredictRequest.model_validate(request))


def test_an_answer_says_how_many_images_helped(known: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    known.settings.__dict__["blind_share"] = 0.0
    together, alone = predicted(known, monkeypatch, model(), "a", "d")
    assert together["images"] == {"colour": 3}
    assert together["result"][0]["value"] == {"taxonomy": [["Warm", "Red"]]}
    assert alone["result"] == []
    assert "images" not in alone


def test_a_version_without_fused_predictions_looks_for_no_images(
    known: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> list[NDArray[np.float32]]:
        raise AssertionError

    monkeypatch.setattr(ProductImages, "others", never)
    found = model()
    plain = ServingModel(found.version, found.backbone, found.trees, found.calibrations, found.head)
    assert predicted(known, monkeypatch, plain, "a")[0]["result"] == []
