"""Export of a backbone for serving: `backbone.onnx`, and `backbone.safetensors` for later trainings."""

import threading
from copy import deepcopy
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import WEIGHTS_FILE
from taxonomist.training.backbones.backbone import Backbone, convolutions_and_norms

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "WEIGHTS_FILE", "export_backbone"]

INPUT_NAME, OUTPUT_NAME = "images", "embeddings"
"""Of the ONNX graph. Files written earlier call the input "pictures"; serving reads its name from the file."""

_EXPORT_LOCK = threading.Lock()  # torch traces with global state: two exports in one process break each other
_OPSET = 18  # what torch 2.6 can write and onnxruntime 1.18 can read


def export_backbone(module: Backbone, folder: Path, size: int) -> None:
    """Write `backbone.onnx` (float32, any batch size, normalisation inside) and `backbone.safetensors` into `folder`.

    `size` is the side of an image in pixels.
    """
    module = module.eval()
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    with _EXPORT_LOCK:
        torch.onnx.export(
            _without_batch_norm(module),
            (example,),
            str(folder / BACKBONE_FILE),
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},  # by the name of `forward`'s argument
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    data = safetensors.torch.save(state, metadata={"architecture": module.architecture.name})
    (folder / WEIGHTS_FILE).write_bytes(data)


def _without_batch_norm(module: Backbone) -> Backbone:
    """Return a copy whose batch norms are folded into the convolutions before them, which is equivalent in serving.

    onnxruntime would fold them, too; it is done here since torch 2.6 cannot export a batch norm with a recent
    onnxscript.
    """
    copy = deepcopy(module)
    # Where the blocks are not known, neither is the order in which layers run.
    pairs = convolutions_and_norms(copy.encoder) if module.architecture.stages else []
    for conv_name, norm_name in pairs:
        conv, norm = copy.encoder.get_submodule(conv_name), copy.encoder.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        copy.encoder.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        copy.encoder.set_submodule(norm_name, getattr(norm, "act", nn.Identity()))  # timm's norms have an activation
    return copy
