"""Extras that are not installed: the error that names them, and what works without them."""

from __future__ import annotations

import sys

import pytest

from taxonomist.backend import extras
from taxonomist.backend.extras import Extra, require
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.job_runner import run
from taxonomist.taxonomy.errors import ConfigError


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.parametrize(
    ("extra", "module"), [("train", "lightly"), ("azure", "azure.cosmos"), ("azureml", "azure.ai.ml")]
)
def test_the_error_says_how_to_install_the_extra(monkeypatch: pytest.MonkeyPatch, extra: Extra, module: str) -> None:
    require(extra)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as raised:
        require(extra)
    assert f"the extra `{extra}`: {module} is not installed" in raised.value.args[0]
    assert raised.value.hint == f"pip install 'label-studio-taxonomist[{extra}]'"


def test_a_package_whose_parent_is_missing_counts_as_missing() -> None:
    assert not extras._is_found("no_such_package.of_it")


@pytest.mark.parametrize("head", ["mlp", "ensemble"])
def test_a_training_names_the_extra(without_torch: None, world: Services, head: str) -> None:
    services = Services(world.settings.model_copy(update={"head": head}))
    with pytest.raises(ConfigError, match=rf"{head} needs.*pip install 'label-studio-taxonomist\[train\]'"):
        run(services, JobKind.TRAIN, "7", lambda step, share: None)


def test_a_discriminant_is_trained_without_extras_and_the_report_says_that_nothing_is_plotted(
    without_torch: None, monkeypatch: pytest.MonkeyPatch, world: Services
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    services = Services(world.settings.model_copy(update={"head": "lda"}))
    run(services, JobKind.TRAIN, "7", lambda step, share: None)
    folder = services.registry.get("project-7", "v1").path
    assert not list(folder.glob("*.png"))
    assert (folder / "report.md").read_text().endswith(
        "Nothing is plotted: matplotlib is missing. Install it with `pip install 'label-studio-taxonomist[plots]'`.\n"
    )  # fmt: skip


@pytest.mark.parametrize("given", [{}, {"backbone_weights": "starter"}, {"image_size": 160}])
def test_a_new_home_begins_with_the_starter(without_torch: None, settings: Settings, given: dict[str, object]) -> None:
    services = Services(settings.model_copy(update=given))
    first = prepare_backbone(services)
    assert first.manifest["starter"]
    assert (services.registry.champion(BACKBONE), prepare_backbone(services).version) == (first.version, first.version)


@pytest.mark.parametrize(
    "given",
    [{"backbone": "resnet50"}, {"backbone_weights": "imagenet"}, {"image_size": 80}, {"backbone_weights": "a.pth"}],
)
def test_other_first_backbones_need_the_extra(
    without_torch: None, settings: Settings, given: dict[str, object]
) -> None:
    services = Services(settings.model_copy(update=given))
    with pytest.raises(ConfigError, match=r"label-studio-taxonomist\[train\]'; or unset TAXONOMIST_BACKBONE"):
        prepare_backbone(services)
    assert services.registry.champion(BACKBONE) is None
