"""A run that an earlier version has begun is resumed."""

import gzip
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from taxonomist.training.pretraining.batches import ImageSelection
from taxonomist.training.pretraining.checkpoints import load_checkpoint
from taxonomist.training.pretraining.distributed.process_group import ProcessGroup
from taxonomist.training.pretraining.pretrain import pretrain
from taxonomist.training.pretraining.step import PretrainingStep
from tests.training.pretraining.small_images import small_images
from tests.training.pretraining.small_runs import RECIPE, losses, probe

pytestmark = pytest.mark.usefixtures("one_thread")

OLD_RUN = Path(__file__).parent / "old_run"
"""The files of a run of commit 078dd32 that was stopped after 5 of 16 steps, with the small encoder."""


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copyfile(OLD_RUN / "run.json", folder / "run.json")
    (folder / "last.ckpt").write_bytes(gzip.decompress((OLD_RUN / "last.ckpt.gz").read_bytes()))
    return folder


def test_the_names_of_an_old_checkpoint_become_those_of_today(old_run: Path) -> None:
    old = torch.load(old_run / "last.ckpt", weights_only=True)
    new = load_checkpoint(old_run / "last.ckpt")
    for old_name, name in (("keys", "queue"), ("key_ids", "queue_ids"), ("position", "queue_ptr")):
        assert torch.equal(new["state_dict"][f"moco.{name}"], old["state_dict"][f"moco.{old_name}"])
        assert f"moco.{old_name}" not in new["state_dict"]
    (point,) = new["points"]
    (old_point,) = old["callbacks"]["Watch"]["points"]
    assert point["projection_std"] == old_point["spread"] > 0
    assert "spread" not in point


@pytest.mark.usefixtures("small")
def test_the_state_of_an_old_checkpoint_is_taken_whole(old_run: Path) -> None:
    old = torch.load(old_run / "last.ckpt", weights_only=True)
    step = PretrainingStep(
        ImageSelection(small_images()),
        RECIPE,
        None,
        device=torch.device("cpu"),
        number_format="32-true",
        process_group=ProcessGroup(),
    )
    step.load_state_dict(load_checkpoint(old_run / "last.ckpt"))
    assert torch.equal(step.moco.queue, old["state_dict"]["moco.keys"])
    momenta = old["optimizer_states"][0]["state"]
    state = step.optimiser.state_dict()["state"]
    assert len(state) == len(momenta) > 5
    for number, values in state.items():
        assert torch.equal(values["momentum_buffer"], momenta[number]["momentum_buffer"])


@pytest.mark.slow
def test_a_run_that_an_earlier_version_has_begun_is_resumed(small: None, old_run: Path, tmp_path: Path) -> None:
    recipe = {**json.loads((old_run / "run.json").read_text())["recipe"], "frozen": 0.0}  # which it did not have yet
    assert recipe == json.loads(json.dumps(asdict(RECIPE)))
    done = pretrain(small_images(), RECIPE, old_run, probe=probe(), device="cpu")
    pretrain(small_images(), RECIPE, tmp_path / "today", probe=probe(), device="cpu")
    assert [step for step, _ in losses(old_run)] == [4, 8, 12, 16]
    assert losses(old_run)[0][1] == 2.4118528366088867  # of the old run: it was not begun anew
    # The same images in the same order; but the earlier release drew other numbers for their views.
    resumed, today = ([loss for _, loss in losses(folder)] for folder in (old_run, tmp_path / "today"))
    assert resumed == pytest.approx(today, abs=0.25)
    assert done.summary["seen"] == 256
    header = (old_run / "curves.csv").read_text().splitlines()[0]
    assert header == "step,epoch,seen,loss,projection_std,lr,size,seconds,score"
