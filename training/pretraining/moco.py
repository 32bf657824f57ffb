"""Momentum contrast, version 2.

He et al. 2020, Momentum contrast for unsupervised visual representation learning, https://arxiv.org/abs/1911.05722;
Chen et al. 2020, Improved baselines with momentum contrastive learning, https://arxiv.org/abs/2003.04297.

A query encoder learns to recognise another view of its image among the keys of many other images. The keys come from a
second encoder, a moving average of the first one, and wait in a queue, so that there are more of them than fit into a
batch. Shapes: n views in a batch, c numbers in a projection, K keys in the queue.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import batch_shuffle_distributed, batch_unshuffle_distributed, concat_all_gather
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

_NO_IMAGE = -1  # the id of a key that belongs to no image: the queue starts with random directions


class MoCo(nn.Module):
    """Two encoders with their projection heads, and the queue.

    `encoder` maps (n, 3, h, w) to (n, dimension). `queue_size` is K, `projection` is c, `hidden` the width of the
    projection head's hidden layer (None: `dimension`), `key_momentum` is m of equation 2 of the paper.

    The keys of a batch are shuffled into `shuffle_groups` parts, each with batch statistics of its own, so that a query
    cannot recognise its key by shared statistics ("shuffling BN", section 3.3 of the paper); over several devices they
    are shuffled across these. With `symmetric` each view is a query once and a key once, as in MoCo v3
    (https://arxiv.org/abs/2104.02057).
    """

    queue: Tensor  # (K, c), each row of length 1
    queue_ids: Tensor  # (K,): what each key shows
    queue_ptr: Tensor  # the row of the oldest key, which is replaced next

    def __init__(
        self,
        encoder: nn.Module,
        dimension: int,
        *,
        queue_size: int,
        temperature: float = 0.1,
        key_momentum: float = 0.99,
        projection: int = 128,
        hidden: int | None = None,
        head_norm: bool = False,
        shuffle_groups: int = 4,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.key_momentum = temperature, key_momentum
        self.shuffle_groups, self.symmetric = shuffle_groups, symmetric
        self.backbone = encoder
        self.projection_head: nn.Module = MoCoProjectionHead(
            dimension, hidden or dimension, projection, batch_norm=head_norm
        )
        self.backbone_momentum = deepcopy(self.backbone)
        self.projection_head_momentum = deepcopy(self.projection_head)
        for parameter in self._key_parameters():
            parameter.requires_grad_(False)
        self.register_buffer("queue", normalize(torch.randn(queue_size, projection), dim=1))
        self.register_buffer("queue_ids", torch.full((queue_size,), _NO_IMAGE))
        self.register_buffer("queue_ptr", torch.zeros((), dtype=torch.long))

    def forward(self, x_q: Tensor, x_k: Tensor, ids: Tensor, local: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and its projected queries (n, c).

        `x_q` and `x_k` (n, 3, h, w) are views of the same images, query and key. `local` are further, smaller views
        (n, 3, h', w') that are queries only ("multi-crop", Caron et al. 2020, https://arxiv.org/abs/2006.09882).
        `ids` (n,) say what the views show: a key in the queue with the id of a query is not a negative of it. The keys
        then enter the queue.
        """
        q = self.encode_queries(x_q)  # (n, c)
        k = self.encode_keys(x_k)  # (n, c)
        losses = [self.info_nce(q, k, ids)]
        losses += [self.info_nce(self.encode_queries(x), k, ids) for x in local]
        if self.symmetric:
            losses.append(self.info_nce(self.encode_queries(x_k), self.encode_keys(x_q), ids))
        self.dequeue_and_enqueue(k, ids)
        return torch.stack(losses).mean(), q.detach()

    def info_nce(self, q: Tensor, k: Tensor, ids: Tensor) -> Tensor:
        """Return the mean of InfoNCE (equation 1 of the paper) over queries `q` and their keys `k`, both (n, c)."""
        l_pos = (q * k).sum(1, keepdim=True)  # (n, 1)
        l_neg = q @ self.queue.clone().T  # (n, K); of a copy, since the queue changes before the gradient is computed
        l_neg = l_neg.masked_fill(ids[:, None] == self.queue_ids, -torch.inf)
        logits = torch.cat([l_pos, l_neg], 1) / self.temperature  # (n, 1 + K)
        return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    def encode_queries(self, x: Tensor) -> Tensor:
        """Return queries (n, c), each of length 1, of views (n, 3, h, w)."""
        return normalize(self.projection_head(self.backbone(x)).float(), dim=1)

    @torch.no_grad()
    def encode_keys(self, x: Tensor) -> Tensor:
        """Return keys (n, c), each of length 1, of views (n, 3, h, w), in their order; without a gradient."""
        if _distributed():
            shuffled, order = batch_shuffle_distributed(x)
            restored: Tensor = batch_unshuffle_distributed(self._encode_key_group(shuffled), order)
            return restored
        order = torch.randperm(len(x), device=x.device)
        groups = x[order].chunk(max(1, min(self.shuffle_groups, len(x) // 2)))
        k = torch.cat([self._encode_key_group(group.contiguous(memory_format=torch.channels_last)) for group in groups])
        return k[order.argsort()]

    @torch.no_grad()
    def dequeue_and_enqueue(self, k: Tensor, ids: Tensor) -> None:
        """Replace the oldest keys of the queue by `k` (n, c) with their `ids` (n,), those of all devices."""
        if _distributed():
            k, ids = concat_all_gather(k), concat_all_gather(ids)
        queue_size = len(self.queue)
        k, ids = k[-queue_size:], ids[-queue_size:]
        rows = (self.queue_ptr + torch.arange(len(k), device=k.device)) % queue_size
        self.queue[rows] = k.to(self.queue.dtype)
        self.queue_ids[rows] = ids
        self.queue_ptr = (self.queue_ptr + len(k)) % queue_size

    @torch.no_grad()
    def momentum_update(self) -> None:
        """Move the key encoder a little towards the query encoder (equation 2 of the paper). Call it once a step."""
        torch._foreach_lerp_(self._key_parameters(), self._query_parameters(), 1 - self.key_momentum)

    def _encode_key_group(self, x: Tensor) -> Tensor:
        return normalize(self.projection_head_momentum(self.backbone_momentum(x)).float(), dim=1)

    def _query_parameters(self) -> list[Tensor]:
        return [*self.backbone.parameters(), *self.projection_head.parameters()]

    def _key_parameters(self) -> list[Tensor]:
        return [*self.backbone_momentum.parameters(), *self.projection_head_momentum.parameters()]


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
