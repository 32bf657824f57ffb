"""The peer: a backend as people write it on label-studio-ml, with the same routes and the same pictures.

It has what their examples have: the model is built for each request (label-studio-ml 2.x makes a new object of the
model class per call), torch runs eagerly, one picture at a time, nothing is remembered between requests, and a webhook
is handled where it arrives, by an append to SQLite with its default settings. It is served as their Dockerfile does it.
It is spared what would only slow it further: no download of pictures, no model in a webhook, no training in a request.

PEER_FOLDER has model.pt and classes.json, PEER_IMAGES the pictures, PEER_SIZE their side in pixels; with
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
    """A ResNet18 with a last layer for that many classes."""
    resnet: torch.nn.Module = torchvision.models.resnet18(weights=None, num_classes=classes)
    return resnet


def look(size: int) -> transforms.Compose:
    """From a Pillow picture to the tensor (3, size, size) that the network reads."""
    return transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


class Model:
    """What an author writes as a subclass of LabelStudioMLBase."""

    def __init__(self) -> None:
        self.classes: list[list[str]] = json.loads((FOLDER / "classes.json").read_text())
        self.network = network(len(self.classes))
        self.network.load_state_dict(torch.load(FOLDER / "model.pt", weights_only=True))
        self.network.eval()
        self.look = look(SIZE)

    def predict(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A taxonomy result for each task."""
        return [self._predict_one(task) for task in tasks]

    def _predict_one(self, task: dict[str, Any]) -> dict[str, Any]:
        image = Image.open(IMAGES / task["data"]["image"]).convert("RGB")
        with torch.no_grad():
            probabilities = torch.softmax(self.network(self.look(image).unsqueeze(0))[0], 0)
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
    """A model for this request."""
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
    """One epoch as the transfer-learning examples have it: each picture is read, goes through the frozen backbone, and
    the last layer learns."""
    transform = look(size)
    optimiser = torch.optim.Adam(network.fc.parameters(), 1e-3)  # type: ignore[union-attr]
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc.")
    for start in range(0, len(files), batch):
        pictures = [transform(Image.open(file).convert("RGB")) for file in files[start : start + batch]]
        loss = torch.nn.functional.cross_entropy(
            network(torch.stack(pictures)), torch.tensor(classes[start : start + batch])
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
