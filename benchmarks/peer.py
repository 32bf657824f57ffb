"""The peer: a typical backend on label-studio-ml, with the same routes and the same images.

It follows their examples: the model is built for each request (label-studio-ml 2.x makes a new object of the model
class per call), torch runs eagerly, one image at a time, nothing is kept between requests, and the request handler
appends a webhook to SQLite with its default settings. It is served as in their Dockerfile. It leaves out what would
only slow it further: no download of images, no model in a webhook, no training in a request.

PEER_FOLDER has model.pt and classes.json, PEER_IMAGES the images, PEER_SIZE is their side in pixels. With
PEER_KEEP_MODEL=1 the model is built once, as a careful author would do.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import torch
import torchvision
from flask import Flask, jsonify, request
from PIL import Image
from torchvision import transforms

FOLDER = Path(os.environ.get("PEER_FOLDER", "."))
IMAGES = Path(os.environ.get("PEER_IMAGES", "."))
SIZE = int(os.environ.get("PEER_SIZE", "160"))
KEEP_MODEL = os.environ.get("PEER_KEEP_MODEL") == "1"
DATABASE = "annotations.sqlite"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(classes: int) -> torch.nn.Module:
    """Return a ResNet18 with a last layer for that many classes."""
    resnet: torch.nn.Module = torchvision.models.resnet18(weights=None, num_classes=classes)
    return resnet


def make_transform(size: int) -> transforms.Compose:
    """Return the transform from a Pillow image to the network's input, float (3, size, size)."""
    return transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


class Model:
    """What an author writes as a subclass of LabelStudioMLBase."""

    def __init__(self) -> None:
        self.classes: list[list[str]] = json.loads((FOLDER / "classes.json").read_text())
        self.network = network(len(self.classes))
        self.network.load_state_dict(torch.load(FOLDER / "model.pt", weights_only=True))
        self.network.eval()
        self.transform = make_transform(SIZE)

    def predict(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return a taxonomy result for each task."""
        return [self._predict_one(task) for task in tasks]

    def _predict_one(self, task: dict[str, Any]) -> dict[str, Any]:
        image = Image.open(IMAGES / task["data"]["image"]).convert("RGB")
        with torch.no_grad():
            probabilities = torch.softmax(self.network(self.transform(image).unsqueeze(0))[0], 0)
        score, best = probabilities.max(0)
        region = {
            "from_name": "taxonomy",
            "to_name": "image",
            "type": "taxonomy",
            "value": {"taxonomy": [self.classes[int(best)]]},
        }
        return {"result": [region], "score": float(score), "model_version": "peer"}


app = Flask(__name__)
kept: list[Model] = []


def model() -> Model:
    """Return the model for this request."""
    if not KEEP_MODEL:
        return Model()
    if not kept:
        kept.append(Model())
    return kept[0]


@app.get("/health")
def health() -> Any:
    return jsonify(status="UP", model_class="Peer")


@app.post("/setup")
def setup() -> Any:
    return jsonify(model_version="peer")


@app.post("/predict")
def predict() -> Any:
    return jsonify(results=model().predict(request.json["tasks"]))


@app.post("/webhook")
def webhook() -> Any:
    body = request.json
    with sqlite3.connect(FOLDER / DATABASE) as database:
        database.execute("CREATE TABLE IF NOT EXISTS annotations (action TEXT, body TEXT)")
        database.execute("INSERT INTO annotations VALUES (?, ?)", (body["action"], json.dumps(body)))
    database.close()
    return jsonify(status="ok"), 201


def train_epoch(network: torch.nn.Module, files: list[Path], classes: list[int], size: int, batch: int = 32) -> None:
    """Train one epoch as the transfer-learning examples do: read each image, run the frozen backbone, fit the last
    layer."""
    transform = make_transform(size)
    optimiser = torch.optim.Adam(network.fc.parameters(), 1e-3)  # type: ignore[union-attr]
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc.")
    for start in range(0, len(files), batch):
        images = [transform(Image.open(file).convert("RGB")) for file in files[start : start + batch]]
        loss = torch.nn.functional.cross_entropy(
            network(torch.stack(images)), torch.tensor(classes[start : start + batch])
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
