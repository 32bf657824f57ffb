"""The algorithm, against numbers worked out without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import normalize

from taxonomist.training.pretraining.moco import MoCo, projection_std


class Tiny(nn.Module):
    """Mean colours with a batch norm: (n, 3, h, w) to (n, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(self.norm(x).mean((2, 3)) + x.mean((2, 3)))
        return answer


def tiny(**changes: object) -> MoCo:
    torch.manual_seed(0)
    options = {"queue_size": 8, "projection": 4, "temperature": 0.2, **changes}
    return MoCo(Tiny(), 6, **options)  # type: ignore[arg-type]


def millions(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_parameter_counts_are_those_of_table_6_1() -> None:
    encoder = torchvision.models.resnet18(weights=None)
    encoder.fc = nn.Identity()
    moco = MoCo(encoder, 512, queue_size=2048)
    assert round(millions(moco.backbone) / 1e6, 1) == round(millions(moco.backbone_momentum) / 1e6, 1) == 11.2
    assert round(millions(moco.projection_head) / 1e3) == round(millions(moco.projection_head_momentum) / 1e3) == 328
    assert round(millions(moco) / 1e6, 1) == 23.0
    trained = sum(parameter.numel() for parameter in moco.parameters() if parameter.requires_grad)
    assert round(trained / 1e6, 1) == 11.5


def test_the_loss_is_that_of_the_paper() -> None:
    moco = tiny()
    random = np.random.default_rng(1)
    q, k, queue = (random.normal(size=(rows, 4)) for rows in (5, 5, 8))
    q, k, queue = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (q, k, queue))
    ids, queue_ids = np.array([1, 2, 3, 4, 5]), np.array([9, 9, 9, 2, 9, -1, -1, 2])
    moco.queue.copy_(torch.from_numpy(queue))
    moco.queue_ids.copy_(torch.from_numpy(queue_ids))
    expected = []
    for row in range(5):
        own = np.exp(q[row] @ k[row] / 0.2)
        # Keys of the same image, here of number 2, are no negatives.
        others = sum(np.exp(q[row] @ queue[at] / 0.2) for at in range(8) if queue_ids[at] != ids[row])
        expected.append(-np.log(own / (own + others)))
    got = moco.info_nce(torch.from_numpy(q).float(), torch.from_numpy(k).float(), torch.from_numpy(ids))
    assert float(got) == pytest.approx(float(np.mean(expected)), abs=1e-5)


def test_the_queue_is_first_in_first_out() -> None:
    moco = tiny(queue_size=5)
    for start in (0, 3, 6):
        ids = torch.arange(start, start + 3)
        moco.dequeue_and_enqueue(torch.full((3, 4), float(start)), ids)
    # Nine keys went through five places: the last five remain, and the oldest of them is replaced next.
    assert sorted(moco.queue_ids.tolist()) == [4, 5, 6, 7, 8]
    assert moco.queue_ids[moco.queue_ptr] == 4
    assert all(float(key[0]) == (3.0 if id < 6 else 6.0) for key, id in zip(moco.queue, moco.queue_ids, strict=True))


def test_more_keys_than_places_leave_the_last() -> None:
    moco = tiny(queue_size=5)
    moco.dequeue_and_enqueue(torch.zeros(7, 4), torch.arange(7))
    assert sorted(moco.queue_ids.tolist()) == [2, 3, 4, 5, 6]


def test_the_key_encoder_follows_by_equation_5_4() -> None:
    moco = tiny(key_momentum=0.9)
    with torch.no_grad():
        for parameter in (*moco.backbone.parameters(), *moco.projection_head.parameters()):
            parameter.add_(1.0)
    queries = [
        parameter.detach().clone() for parameter in (*moco.backbone.parameters(), *moco.projection_head.parameters())
    ]
    keys = [
        parameter.detach().clone()
        for parameter in (*moco.backbone_momentum.parameters(), *moco.projection_head_momentum.parameters())
    ]
    moco.momentum_update()
    after = (*moco.backbone_momentum.parameters(), *moco.projection_head_momentum.parameters())
    for new, key, query in zip(after, keys, queries, strict=True):
        torch.testing.assert_close(new, 0.9 * key + 0.1 * query)


def test_no_gradient_reaches_the_keys() -> None:
    moco = tiny()
    views = torch.rand(8, 3, 4, 4)
    loss, _ = moco(views, views.flip(3), torch.arange(8), torch.randperm(8))
    loss.backward()
    assert all(parameter.grad is None for parameter in moco.backbone_momentum.parameters())
    assert all(parameter.grad is None for parameter in moco.projection_head_momentum.parameters())
    assert all(parameter.grad is not None for parameter in moco.backbone.parameters())
    assert not moco.queue.requires_grad


def test_keys_keep_their_order_and_are_normalised_in_groups() -> None:
    moco = tiny(shuffle_groups=2)
    moco.backbone_momentum.eval()  # with fixed statistics, groups and order make no difference
    views = torch.rand(10, 3, 4, 4)
    expected = normalize(moco.projection_head_momentum(moco.backbone_momentum(views)), dim=1)
    order = torch.randperm(10)
    torch.testing.assert_close(moco.encode(views, views, order)[1], expected)
    moco.backbone_momentum.train()
    before = moco.backbone_momentum.get_buffer("norm.running_mean").clone()
    groups = []
    moco.backbone_momentum.register_forward_pre_hook(lambda module, inputs: groups.append(inputs[0]))
    moco.encode(views, views, order)
    torch.testing.assert_close(torch.cat(groups), views[order])
    assert [len(group) for group in groups] == [5, 5]
    torch.testing.assert_close(moco.backbone_momentum.get_buffer("norm.running_mean"), before)  # nobody reads it


def test_what_counts_as_the_same_decides_what_is_pushed_apart() -> None:
    moco = tiny(queue_size=4)
    views = torch.rand(4, 3, 4, 4)
    loss = [float(moco(views, views, torch.zeros(4, dtype=torch.long), torch.arange(4))[0].detach()) for _ in range(2)]
    # The second time all four keys in the queue are of the same product: nothing is left to tell apart.
    assert loss[0] > 0.1
    assert loss[1] == pytest.approx(0.0, abs=1e-6)


def test_symmetric_and_local_views_enter_the_mean() -> None:
    views, other, small = torch.rand(6, 3, 4, 4), torch.rand(6, 3, 4, 4), torch.rand(6, 3, 2, 2)
    ids = order = torch.arange(6)
    moco = tiny(symmetric=True).eval()
    (_, key), (_, back) = moco.encode(views, other, order), moco.encode(other, views, order)
    projected = [moco.encode_queries(view) for view in (views, small, other)]
    expected = (
        moco.info_nce(projected[0], key, ids)
        + moco.info_nce(projected[1], key, ids)
        + moco.info_nce(projected[2], back, ids)
    ) / 3
    torch.testing.assert_close(moco(views, other, ids, order, [small])[0], expected)


def test_projection_std_is_one_on_the_whole_sphere_and_zero_at_a_point() -> None:
    random = torch.randn(2000, 32, generator=torch.Generator().manual_seed(0))
    assert float(projection_std(normalize(random, dim=1))) == pytest.approx(1.0, abs=0.02)
    assert float(projection_std(normalize(torch.ones(10, 32), dim=1))) == 0.0
