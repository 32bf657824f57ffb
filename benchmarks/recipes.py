"""Which recipe of pre-training is best within the same number of images seen: `python -m benchmarks.recipes --help`.

Half of a catalogue's products are pre-trained on. A linear probe learns level 1 from some views of these and is tested
on a quarter of the products that no recipe has seen; the last quarter is left for the study. With `--share 0/2` and
`--share 1/2` two processes divide the work; `--report` then writes the table of those that were run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightly.loss
import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.catalogue import Catalogue, read_catalogue
from benchmarks.measure import machine
from benchmarks.run import RESULTS
from benchmarks.scores import SCORES, embedding_of, judge, pixels
from benchmarks.yardstick import LITE0, built
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import read_weights
from taxonomist.training.pretraining import step
from taxonomist.training.pretraining.moco import MoCo
from taxonomist.training.pretraining.pretrain import Probe, pretrain
from taxonomist.training.pretraining.recipe import Recipe

BASE = Recipe(
    size=32,
    batch=64,
    optimiser="adamw",
    lr=1e-3,
    weight_decay=0.05,
    head_norm=True,
    shuffle_groups=2,
    positives="image",
)
NOTES = """
R@1 is the share of images whose nearest other image shows the same product. *Mean rank* is the mean of the ranks by
the five scores; the winner by it is the default preset. A mean is used because a single score is too uncertain: two
seeds of *base* differ by 0.03 of macro-F1 and 0.05 of R@1, two of the best recipe for a ResNet by 0.02 and 0.06.
Smaller differences mean nothing; every other row has one seed.

*Start weights* matter most. ImageNet's were available for EfficientNet-Lite0, but not for a ResNet; those of *other
products* are a ResNet18's that had seen 100,000 images of a quarter of the products, which are neither pre-trained on
nor evaluated here. The presets therefore start from the backbone that is served: ImageNet's where it is available, the
starter, or the last pre-training's. Their other settings are those of the best row.

100,000 images are a tenth of what the long run of the study saw. From random weights no row has more macro-F1 at
level 1 than random weights have, so that among those the table ranks early progress; whether their order stays the same
later was not tried. Minutes are those of one core that others used as well, and cannot be compared.
"""
STARTER_NOTES = """
## From the starter

The best recipe for a ResNet, from random weights and from [the starter](../../inference/starter_backbone/README.md),
evaluated on the last quarter of the products, which neither has seen. The starter had seen a million images in views of
up to 64 pixels, among them those that are pre-trained on here: 100,000 more in views of 32 pixels add nothing to that.
"""
WEAK = {"views.brightness": 0.2, "views.contrast": 0.2, "views.saturation": 0.2, "views.hue": 0.05}
BEST = {"positives": "group", "views.min_scale": 0.4, "temperature": 0.2}
OTHERS = "other products"
PREPARED = 64  # side of the images that views are cut from
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "base": {},
    "positives of one product": {"positives": "group"},
    "crop from 0.4": {"views.min_scale": 0.4},
    "positives of one product, crop from 0.4": {"positives": "group", "views.min_scale": 0.4},
    "SGD, no batch norm in the head": {"optimiser": "sgd", "lr": 6e-2, "weight_decay": 5e-4, "head_norm": False},
    "SGD": {"optimiser": "sgd", "lr": 6e-2, "weight_decay": 5e-4},
    "temperature 0.2": {"temperature": 0.2},
    "crop from 0.4, temperature 0.2": {"views.min_scale": 0.4, "temperature": 0.2},
    "positives of one product, crop from 0.4, temperature 0.2": BEST,
    "temperature 0.05": {"temperature": 0.05},
    "crop from 0.4, temperature 0.2, key momentum 0.999": {
        "views.min_scale": 0.4,
        "temperature": 0.2,
        "key_momentum": 0.999,
    },
    "positives of one product, crop from 0.4, temperature 0.2, key momentum 0.999": {
        **BEST,
        "key_momentum": 0.999,
    },
    "queue 256": {"queue": 256},
    "queue 4096": {"queue": 4096},
    "key momentum 0.999": {"key_momentum": 0.999},
    "key momentum 0.9": {"key_momentum": 0.9},
    "symmetric": {"symmetric": True},
    "crop from 0.08": {"views.min_scale": 0.08},
    "weak colours": WEAK,
    "no blur": {"views.blur": 0.0},
    "vertical flip and rotation": {"views.vertical_flip": 0.5, "views.rotation": 0.5},
    "multi-crop": {"local_views": 2, "local_size": 24},
    "size 48": {"size": 48},
    "head 2048 wide": {"hidden": 2048},
    "projection 64": {"projection": 64},
    "projection 256": {"projection": 256},
    "SimCLR (NT-Xent)": {"method": "NTXentLoss"},
    "decoupled (DCLW)": {"method": "DCLWLoss"},
    "VICReg": {"method": "VICRegLoss"},
    "Barlow Twins": {"method": "BarlowTwinsLoss"},
    "ResNet34": {"architecture": "resnet34"},
    "start weights of other products": {"weights": OTHERS},
    "positives of one product, crop from 0.4, temperature 0.2, start weights of other products": {
        **BEST,
        "weights": OTHERS,
    },
    "positives of one product, crop from 0.4, temperature 0.2, another seed": {**BEST, "seed": 1},
    "EfficientNet-Lite0": {"architecture": LITE0},
    "EfficientNet-Lite0, ImageNet's start weights": {"architecture": LITE0, "weights": "imagenet"},
    "positives of one product, crop from 0.4, temperature 0.2, EfficientNet-Lite0, ImageNet's start weights": {
        **BEST,
        "architecture": LITE0,
        "weights": "imagenet",
    },
    "base, another seed": {"seed": 1},
    "base, a third seed": {"seed": 2},
}
# The starter has seen the products that the others are judged on: these are judged on the last quarter.
OF_STARTER: Mapping[str, Mapping[str, Any]] = {
    "from random weights": {**BEST, "seed": 1},
    "from the starter": {**BEST, "seed": 1, "weights": "starter"},
    "from the starter, learning rate 0.0003": {**BEST, "seed": 1, "weights": "starter", "lr": 3e-4},
}


class InBatch(MoCo):
    """A later method of lightly: one encoder, and a loss between the projections of the two views of a batch."""

    method = "NTXentLoss"

    def forward(
        self,
        x_q: Tensor,
        x_k: Tensor,
        ids: Tensor,  # noqa: ARG002
        order: Tensor,  # noqa: ARG002
        local: Sequence[Tensor] = (),  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the projections as `MoCo.forward` does; the others are not used."""
        projections = [self.projection_head(self.backbone(views)).float() for views in (x_q, x_k)]
        loss: Tensor = getattr(lightly.loss, self.method)()(*projections)
        return loss, normalize(projections[0], dim=1).detach()


def changed(base: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return `base` with changes; `views.x` is field x of its views."""
    views = {name.removeprefix("views."): value for name, value in changes.items() if name.startswith("views.")}
    plain = {name: value for name, value in changes.items() if not name.startswith("views.")}
    return replace(base, views=replace(base.views, **views), **plain)


def main() -> None:
    """Run the chosen recipes; results of former calls are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(".study/recipes"), help="where runs and results are kept")
    parser.add_argument("--seen", type=int, default=50_000, help="images that each recipe sees")
    parser.add_argument("--serve", type=float, default=1.5, help="size of judged images, in sizes of training views")
    parser.add_argument("--only", action="append", choices=[*RECIPES, *OF_STARTER])
    parser.add_argument("--base", default="{}", help="changes of the base recipe, as JSON")
    parser.add_argument("--share", default="0/1", help="which share of the recipes, of how many: 0/2")
    parser.add_argument("--report", action="store_true", help="write the table into benchmarks/results/")
    arguments = parser.parse_args()
    share, shares = map(int, arguments.share.split("/"))
    step.build_backbone = built  # type: ignore[attr-defined]  # what it imports is replaced
    names = list(arguments.only or (*RECIPES, *OF_STARTER))[share::shares]
    results = {name: run(name, arguments) for name in names}
    if arguments.report:
        report({name: result for name, result in results.items() if result is not None}, arguments)


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return the result of a recipe, from a former call or a new run; None for `--report` without a former result."""
    changes = dict({**RECIPES, **OF_STARTER}[name])
    part = "test" if name in OF_STARTER else "validation"
    InBatch.method = changes.pop("method", "")
    step.MoCo = InBatch if InBatch.method else MoCo  # type: ignore[attr-defined]
    recipe = changed(changed(BASE, json.loads(arguments.base)), changes)
    served = round(arguments.serve * recipe.size / 16) * 16
    pretraining = read_catalogue(arguments.catalogue, PREPARED, arguments.folder).of("pretrain")
    recipe = with_seen(recipe, pretraining, arguments.seen)
    settings = json.dumps([InBatch.method, asdict(recipe)], sort_keys=True)
    tag = hashlib.sha256(settings.encode()).hexdigest()[:10]
    target = arguments.folder / f"{tag}{'-test' if part == 'test' else ''}.json"
    if target.exists():
        return {**json.loads(target.read_text()), "name": name}
    if arguments.report:
        return None
    judged = read_catalogue(arguments.catalogue, served, arguments.folder)
    train = judged.of("pretrain", every=4)
    done = pretrain(
        np.array(pretraining.images),
        replace(recipe, weights=str(weights_of_others(arguments))) if recipe.weights == OTHERS else recipe,
        arguments.folder / tag,
        groups=pretraining.products,
        probe=Probe(np.array(train.images), train.labels, train.products),
    )
    module = built(BackboneSpec(recipe.architecture, "random", size=recipe.size)).module
    module.load_state_dict(read_weights(done.weights))
    scores = judge(embedding_of(module.eval()), train, judged.of(part))
    summary = {**done.summary, "recipe": asdict(recipe)}
    result = {"name": name, "recipe": asdict(recipe), "served": served, "scores": scores, "summary": summary}
    target.write_text(json.dumps(result, indent=1))
    print(name, scores, summary["seconds"], flush=True)
    return result


def with_seen(recipe: Recipe, catalogue: Catalogue, seen: int) -> Recipe:
    """Return the recipe with the number of epochs that sees about `seen` images."""
    return replace(recipe, epochs=max(1, round(seen / len(catalogue.images))))


def weights_of_others(arguments: argparse.Namespace) -> Path:
    """Return the file of start weights of the best recipe, pre-trained on products that no other recipe uses."""
    others = read_catalogue(arguments.catalogue, PREPARED, arguments.folder).of("test")
    recipe = with_seen(changed(BASE, BEST), others, arguments.seen)
    done = pretrain(np.array(others.images), recipe, arguments.folder / "others", groups=others.products)
    return done.weights


def report(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the table of the recipes, with raw pixels and weights that were not trained here."""
    judged = read_catalogue(arguments.catalogue, 48, arguments.folder)
    train = judged.of("pretrain", every=4)
    random = _untrained("resnet18", "random")
    untrained = {
        "random weights": random,
        "raw pixels": pixels,
        "EfficientNet-Lite0, ImageNet's weights as they are": _untrained(LITE0, "imagenet"),
    }
    if (arguments.folder / "others").exists():
        others = _untrained("resnet18", str(weights_of_others(arguments)))
        untrained["start weights of other products, as they are"] = others
    rows = [result for name, result in results.items() if name in RECIPES]
    rows += [_row(name, judge(embedding, train, judged.of("validation"))) for name, embedding in untrained.items()]
    for row in rows:
        better = [sum(other["scores"][name] > row["scores"][name] for other in rows) for name in SCORES]
        row["rank"] = 1 + sum(better) / len(SCORES)
    rows.sort(key=lambda row: float(row["rank"]))
    untrained = {"random weights as they are": random, "the starter as it is": _untrained("resnet18", "starter")}
    last = [_row(name, judge(embedding, train, judged.of("test"))) for name, embedding in untrained.items()]
    last += [result for name, result in results.items() if name in OF_STARTER]
    about = {"machine": machine(), "base": asdict(changed(BASE, json.loads(arguments.base)))}
    target = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-recipes"
    target.with_suffix(".json").write_text(json.dumps({**about, "rows": rows, "starter": last}, indent=1) + "\n")
    target.with_suffix(".md").write_text(to_markdown(rows, last, arguments, about))
    print(target.with_suffix(".md").read_text())


def _untrained(architecture: Any, weights: str) -> Any:
    return embedding_of(built(BackboneSpec(architecture, weights, size=BASE.size)).module)


def _row(name: str, scores: dict[str, float]) -> dict[str, Any]:
    return {"name": name, "scores": scores, "served": 48, "summary": None}


def to_markdown(
    rows: list[dict[str, Any]], last: list[dict[str, Any]], arguments: argparse.Namespace, about: Mapping[str, Any]
) -> str:
    """Return the tables as Markdown."""
    seen = sorted({row["summary"]["seen"] for row in rows if row["summary"]})
    usual = asdict(Recipe())
    base = [f"{name} {value}" for name, value in about["base"].items() if value != usual[name]]
    lines = [
        "# Recipes of pre-training",
        "",
        f"`python -m benchmarks.recipes CATALOGUE --seen {arguments.seen} --report`; {about['machine']['cpu']}, "
        f"{about['machine']['cores']} cores, no GPU; torch {about['machine']['packages']['torch']}.",
        "",
        f"Each recipe saw {' to '.join(f'{count:,}' for count in seen)} images of half of the products, with its "
        "learning rate falling to zero at the end. A linear probe learnt from every fourth view of these and was "
        "tested on all views of a quarter of the products that no recipe saw; the study's products are others.",
        f"Base: ResNet18, {', '.join(base)}, else `Recipe`'s defaults.",
        NOTES,
        "| recipe | mean rank | level 1 macro-F1 | accuracy | level 2 macro-F1 | accuracy | R@1 | minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {row['name']} | {row['rank']:.1f} | {_cells(row)} |" for row in rows]
    lines += [
        STARTER_NOTES,
        "| start | level 1 macro-F1 | accuracy | level 2 macro-F1 | accuracy | R@1 | minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {row['name']} | {_cells(row)} |" for row in last),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> str:
    minutes = f"{row['summary']['seconds'] / 60:.0f}" if row["summary"] else ""
    return " | ".join([*(f"{row['scores'][name]:.3f}" for name in SCORES), minutes])


if __name__ == "__main__":
    main()
