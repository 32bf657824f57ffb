"""Momentum contrast, version 2.

He et al. 2020, Momentum contrast for unsupervised visual representation learning, https://arxiv.org/abs/1911.05722;
Chen et al. 2020, Improved baselines with momentum contrastive learning, https://arxiv.org/abs/2003.04297.

A query encoder learns to recognise another view of its image among the keys of many other images. The keys come from a
second encoder, a moving average of the first one, and wait in a queue, so that there are more of them than fit into a
batch. Shapes: n views in a batch, c numbers in a projection, K keys in the queue.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache, partial

import torch
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import concat_all_gather
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.nn.modules.batchnorm import _BatchNorm

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
        for layer in (*self.backbone_momentum.modules(), *self.projection_head_momentum.modules()):
            if isinstance(layer, _BatchNorm):
                layer.track_running_stats = False  # nobody reads them, and groups would write them at the same time
        self.register_buffer("queue", normalize(torch.randn(queue_size, projection), dim=1))
        self.register_buffer("queue_ids", torch.full((queue_size,), _NO_IMAGE))
        self.register_buffer("queue_ptr", torch.zeros((), dtype=torch.long))

    def forward(
        self, x_q: Tensor, x_k: Tensor, ids: Tensor, order: Tensor, local: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and its projected queries (n, c).

        `x_q` and `x_k` (n, 3, h, w) are views of the same images, query and key. `local` are further, smaller views
        (n, 3, h', w') that are queries only ("multi-crop", Caron et al. 2020, https://arxiv.org/abs/2006.09882).
        `ids` (n,) say what the views show: a key in the queue with the id of a query is not a negative of it. `order`
        is a random permutation by which the keys of all devices are shuffled. The keys then enter the queue.
        """
        q, k = self.encode(x_q, x_k, order)  # (n, c) each
        losses = [self.info_nce(q, k, ids)]
        losses += [self.info_nce(self.encode_queries(x), k, ids) for x in local]
        if self.symmetric:
            losses.append(self.info_nce(*self.encode(x_k, x_q, order), ids))
        self.dequeue_and_enqueue(k, ids)
        return torch.stack(losses).mean(), q.detach()

    def encode(self, x_q: Tensor, x_k: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys (n, c), each of length 1 and in the order of their views (n, 3, h, w).

        The keys have no gradient. On a GPU the queries and the groups of keys are encoded beside each other.
        """
        own = order
        if _distributed():
            x_k = concat_all_gather(x_k)
            own = order.view(torch.distributed.get_world_size(), -1)[torch.distributed.get_rank()]
        shuffled = x_k.permute(0, 2, 3, 1)[own].permute(0, 3, 1, 2)  # channels last stay last
        groups = 1 if _distributed() else max(1, min(self.shuffle_groups, len(own) // 2))
        encoders = [partial(self._encode_key_group, group) for group in shuffled.chunk(groups)]
        q, *keys = _in_parallel([partial(self.encode_queries, x_q), *encoders], x_q.device)
        k = torch.cat(keys)
        if _distributed():
            k = concat_all_gather(k)[order.argsort()].view(-1, *x_q.shape[:1], k.shape[1])
            return q, k[torch.distributed.get_rank()]
        return q, k[order.argsort()]

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
    def dequeue_and_enqueue(self, k: Tensor, ids: Tensor) -> None:
        """Replace the oldest keys of the queue by `k` (n, c) with their `ids` (n,), those of all devices."""
        if _distributed():
            k, ids = concat_all_gather(k), concat_all_gather(ids)
        queue_size = len(self.queue)
        k, ids = k[-queue_size:], ids[-queue_size:]
        rows = (self.queue_ptr + torch.arange(len(k), device=k.device)) % queue_size
        self.queue[rows] = k.to(self.queue.dtype)
        self.queue_ids[rows] = ids
        self.queue_ptr.add_(len(k)).remainder_(queue_size)  # in place: a recorded step would keep the former tensor

    @torch.no_grad()
    def momentum_update(self) -> None:
        """Move the key encoder a little towards the query encoder (equation 2 of the paper). Call it once a step."""
        torch._foreach_lerp_(self._key_parameters(), self._query_parameters(), 1 - self.key_momentum)

    @torch.no_grad()
    def _encode_key_group(self, x: Tensor) -> Tensor:
        return normalize(self.projection_head_momentum(self.backbone_momentum(x)).float(), dim=1)

    def _query_parameters(self) -> list[Tensor]:
        return [*self.backbone.parameters(), *self.projection_head.parameters()]

    def _key_parameters(self) -> list[Tensor]:
        return [*self.backbone_momentum.parameters(), *self.projection_head_momentum.parameters()]


def projection_std(projections: Tensor) -> Tensor:
    """Return how evenly vectors (n, c) of length 1 fill the sphere: 1 when evenly, 0 when all are the same.

    It is their standard deviation, a mean over the c dimensions, times sqrt(c); see Chen and He 2021, Exploring simple
    Siamese representation learning, section 4.1, https://arxiv.org/abs/2011.10566.
    """
    normalised: Tensor = projections.std(0).mean() * projections.shape[1] ** 0.5
    return normalised


def _in_parallel(calls: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """Return the results of calls that do not depend on each other; on a GPU each has a stream of its own.

    The first call, which may have a gradient, stays on the current stream.
    """
    if device.type != "cuda":
        return [call() for call in calls]
    current, streams = torch.cuda.current_stream(device), [_side_stream(device, n) for n in range(len(calls) - 1)]
    for stream in streams:
        stream.wait_stream(current)
    results = [calls[0]()]
    for call, stream in zip(calls[1:], streams, strict=True):
        with torch.cuda.stream(stream):
            results.append(call())
    for stream in streams:
        current.wait_stream(stream)
    return results


@cache
def _side_stream(device: torch.device, number: int) -> torch.cuda.Stream:  # noqa: ARG001 - one stream for each number
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
