"""One of several processes that torchrun starts: checks the order of keys, then trains from weights of its own, and
writes down its queue and its encoder."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.pretraining import pretrain, step
from taxonomist.training.pretraining.distributed.__main__ import main
from taxonomist.training.pretraining.distributed.process_group import process_group
from taxonomist.training.pretraining.loop import PretrainingLoop
from taxonomist.training.pretraining.moco import MoCo


def keys_in_order(rank: int) -> bool:
    """Return whether the keys of this process's views equal those of the key encoder alone."""
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    moco = MoCo(encoder, 8, queue_size=32).eval()
    order = torch.randperm(12)
    torch.manual_seed(rank + 1)  # each process has different views
    views = torch.rand(6, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.normalize(moco.projection_head_momentum(moco.backbone_momentum(views)), dim=1)
    return torch.allclose(moco.encode(views, views, order)[1], expected, atol=1e-6)


class WritingLoop(PretrainingLoop):
    """Writes the queue and the encoder of this process at the end."""

    def run(self, checkpoint: Path | None) -> None:
        super().run(checkpoint)
        moco, rank = self._step.moco, self._group.rank
        queue = {name: getattr(moco, name) for name in ("queue", "queue_ids", "queue_ptr")}
        np.savez(folder / f"queue-{rank}", allow_pickle=False, **queue)
        encoder = {name: weights.detach().numpy() for name, weights in moco.backbone.named_parameters()}
        np.savez(folder / f"encoder-{rank}", allow_pickle=False, **encoder)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with process_group("cpu") as group:
        assert keys_in_order(group.rank)
        pretrain.PretrainingLoop = WritingLoop  # type: ignore[attr-defined]
        seed = group.rank
        step.build_backbone = lambda spec: build_backbone(replace(spec, seed=seed))  # type: ignore[attr-defined]
        sys.exit(main([str(folder)]))
