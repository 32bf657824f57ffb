"""Momentum contrast, version 2 (He et al. 2020, Chen et al. 2020; thesis, section 5.1.3 and algorithm 2).

A query encoder learns to recognise the other view of a picture among the keys of many other pictures. Keys come from
a second encoder that follows the first one slowly, and wait in a queue, so that there are more of them than fit into a
batch.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import batch_shuffle_distributed, batch_unshuffle_distributed, concat_all_gather
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

_NOBODY = -1  # the id of a key that stands for no picture: the queue starts with random directions


class MoCo(nn.Module):
    """Two encoders with their projection heads, and the queue.

    `encoder` maps (n, 3, h, w) to (n, dimension). `queue` counts keys. `key_momentum` is m of equation 5.4. The keys
    of a batch are shuffled into `shuffle_groups` parts, each with a batch norm of its own, so that a query cannot
    recognise its key by the statistics that they share; over several devices they are shuffled across these. With
    `symmetric` each view is a query once and a key once.
    """

    keys: Tensor
    key_ids: Tensor
    position: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        dimension: int,
        *,
        queue: int,
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
        self.register_buffer("keys", normalize(torch.randn(queue, projection), dim=1))
        self.register_buffer("key_ids", torch.full((queue,), _NOBODY))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def forward(
        self, queries: Tensor, keys: Tensor, ids: Tensor, local: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and its projected queries (n, projection), of length 1.

        `queries` and `keys` (n, 3, h, w) are views of the same pictures, `local` are smaller views that are queries,
        too. `ids` (n,) say what they show: keys in the queue with the id of a query are no negatives of it. The keys
        then enter the queue.
        """
        projected = self._project(queries)
        key = self.project_keys(keys)
        losses = [self.loss(projected, key, ids)]
        losses += [self.loss(self._project(views), key, ids) for views in local]
        if self.symmetric:
            losses.append(self.loss(self._project(keys), self.project_keys(queries), ids))
        self.enqueue(key, ids)
        return torch.stack(losses).mean(), projected.detach()

    def loss(self, queries: Tensor, keys: Tensor, ids: Tensor) -> Tensor:
        """InfoNCE: the cross entropy of finding the own key (n, projection) among it and those in the queue."""
        own = (queries * keys).sum(1, keepdim=True)
        others = queries @ self.keys.clone().T  # a copy, since new keys come in before the gradient is taken
        others = others.masked_fill(ids[:, None] == self.key_ids, -torch.inf)
        logits = torch.cat([own, others], 1) / self.temperature
        return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    @torch.no_grad()
    def project_keys(self, views: Tensor) -> Tensor:
        """Keys (n, projection) of views (n, 3, h, w), each of length 1; no gradient flows into them."""
        if _distributed():
            shuffled, order = batch_shuffle_distributed(views)
            restored: Tensor = batch_unshuffle_distributed(self._keys_of(shuffled), order)
            return restored
        order = torch.randperm(len(views), device=views.device)
        parts = views[order].chunk(max(1, min(self.shuffle_groups, len(views) // 2)))
        keys = torch.cat([self._keys_of(part.contiguous(memory_format=torch.channels_last)) for part in parts])
        return keys[order.argsort()]

    @torch.no_grad()
    def enqueue(self, keys: Tensor, ids: Tensor) -> None:
        """First in, first out: the keys (n, projection) take the places of the oldest. Devices send theirs to all."""
        if _distributed():
            keys, ids = concat_all_gather(keys), concat_all_gather(ids)
        length = len(self.keys)
        keys, ids = keys[-length:], ids[-length:]
        places = (self.position + torch.arange(len(keys), device=keys.device)) % length
        self.keys[places] = keys.to(self.keys.dtype)
        self.key_ids[places] = ids
        self.position = (self.position + len(keys)) % length

    @torch.no_grad()
    def follow(self) -> None:
        """Equation 5.4: the key encoder goes a small step towards the query encoder. To be called once a step."""
        torch._foreach_lerp_(self._key_parameters(), self._query_parameters(), 1 - self.key_momentum)

    def _project(self, views: Tensor) -> Tensor:
        return normalize(self.projection_head(self.backbone(views)).float(), dim=1)

    def _keys_of(self, views: Tensor) -> Tensor:
        return normalize(self.projection_head_momentum(self.backbone_momentum(views)).float(), dim=1)

    def _query_parameters(self) -> list[Tensor]:
        return [*self.backbone.parameters(), *self.projection_head.parameters()]

    def _key_parameters(self) -> list[Tensor]:
        return [*self.backbone_momentum.parameters(), *self.projection_head_momentum.parameters()]


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
