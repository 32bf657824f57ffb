"""Cross entropy of a hierarchical head: one softmax per group of siblings.

Redmon and Farhadi 2017, YOLO9000: better, faster, stronger, section 4, https://arxiv.org/abs/1612.08242, use the same
softmax over the children of a node.
"""

from typing import Any

import torch
from torch import Tensor


class SiblingCrossEntropy(torch.nn.Module):
    """-sum over nodes of target * log P(node | parent), summed over the batch.

    With g the sibling group of a node, log P(node | parent) = logit - logsumexp(logits of g), so the loss is
    sum over g of T_g * logsumexp_g minus sum over nodes of target * logit, where T_g is the sum of targets in g, and
    its gradient is T_g * softmax_g - target. Both are implemented here: with autograd's index operations a step takes
    three times as long (measured), and padding groups to equal size wastes memory.

    `group_of` is int64 (nodes,): the number of each node's group.
    """

    group_of: Tensor

    def __init__(self, group_of: Tensor) -> None:
        super().__init__()
        self.register_buffer("group_of", group_of)
        self.groups = int(group_of.max()) + 1 if len(group_of) else 0

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of `logits` (n, nodes) against `targets` (n, nodes): a scalar, the sum over n."""
        # (nodes, n) and contiguous: a group's nodes are then added as whole rows, ten times as fast (measured).
        rows = logits.t().contiguous(), targets.t().contiguous()
        loss: Tensor = _SiblingCrossEntropyFunction.apply(*rows, self.group_of, self.groups)
        return loss


class _SiblingCrossEntropyFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, group_of: Tensor, groups: int) -> Tensor:
        nodes, batch = logits.shape
        group_index = group_of[:, None].expand(nodes, batch)  # (nodes, n)
        highest = logits.new_full((groups, batch), -torch.inf).scatter_reduce(0, group_index, logits, "amax")
        powers = torch.exp(logits - highest.index_select(0, group_of))  # (nodes, n)
        sums = logits.new_zeros(groups, batch).index_add(0, group_of, powers)  # (groups, n), at least 1
        weights = logits.new_zeros(groups, batch).index_add(0, group_of, targets)
        ctx.save_for_backward(powers.mul_((weights / sums).index_select(0, group_of)).sub_(targets))
        return (weights * (highest + sums.log())).sum() - (targets * logits).sum()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0], None, None, None
