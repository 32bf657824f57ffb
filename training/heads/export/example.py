"""Suggest labels for images: python example.py photo.jpg … (after pip install numpy onnxruntime pillow)."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(files: list[str], here: Path = Path(__file__).parent) -> None:
    """Print what the model suggests for each control of each file."""
    labels = json.loads((here / "labels.json").read_text(encoding="utf-8"))
    backbone, head = (onnxruntime.InferenceSession(here / f"{name}.onnx") for name in ("backbone", "head"))
    side = labels["size"]
    for file in files:
        image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        width, height = (max(1, round(length * (side / max(image.size)))) for length in image.size)
        resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
        square = Image.new("RGB", (side, side), "white")
        square.paste(resized, ((side - width) // 2, (side - height) // 2))
        (embedding,) = backbone.run(None, {backbone.get_inputs()[0].name: np.array(square)[None]})
        for control, (row,) in zip(labels["controls"], head.run(None, {"embeddings": embedding}), strict=True):
            node, suggested = -1, "nothing is sure enough"
            while children := [child for child, parent in enumerate(control["parents"]) if parent == node]:
                node = max(children, key=row.__getitem__)
                if control["thresholds"][node] is not None and row[node] >= control["thresholds"][node]:
                    suggested = f"{' > '.join(control['paths'][node])} ({row[node]:.2f})"
            print(f"{file}: {control['name']}: {suggested}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
