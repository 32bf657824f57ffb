"""One of several processes that torchrun starts: checks the order of keys, then trains from weights of its own, and
writes down its queue and its encoder."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.pretraining import moco_module
from taxonomist.training.pretraining.distributed.__main__ import main
from taxonomist.training.pretraining.distributed.process_group import process_group
from taxonomist.training.pretraining.moco import MoCo
from taxonomist.training.pretraining.moco_module import MoCoModule


def keys_in_order(rank: int) -> bool:
    """Return whether the keys of this process's views equal those of the key encoder alone."""
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    moco = MoCo(encoder, 8, queue_size=32).eval()
    torch.manual_seed(rank + 1)  # each process has different views and a different shuffle
    views = torch.rand(6, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.normalize(moco.projection_head_momentum(moco.backbone_momentum(views)), dim=1)
    return torch.allclose(moco.encode_keys(views), expected, atol=1e-6)


def write_down(module: MoCoModule) -> None:
    """Write the queue and the encoder of this process; Lightning calls it at the end of a training."""
    moco, rank = module.moco, module.trainer.global_rank
    np.savez(folder / f"queue-{rank}", **{name: getattr(moco, name) for name in ("queue", "queue_ids", "queue_ptr")})
    encoder = {name: weights.detach().numpy() for name, weights in moco.backbone.named_parameters()}
    np.savez(folder / f"encoder-{rank}", allow_pickle=False, **encoder)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with process_group("cpu") as group:
        assert keys_in_order(group.rank)
        MoCoModule.on_train_end = write_down  # type: ignore[method-assign, assignment]
        seed = group.rank
        moco_module.build_backbone = lambda spec: build_backbone(replace(spec, seed=seed))  # type: ignore[attr-defined]
        sys.exit(main([str(folder)]))
