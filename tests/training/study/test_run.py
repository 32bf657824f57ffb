import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import classification_report, f1_score

from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.study.labelled_images import Images, LabelledImages
from taxonomist.training.study.run import StudyResult, run_study
from taxonomist.training.study.scores import Gain, Stat, known_rows
from taxonomist.training.study.split import held_out_groups
from taxonomist.training.study.tables import Table
from taxonomist.training.study.trial import PROBE, SHARED, of_level
from tests.training.study.conftest import COLOUR, COLOURS, NOISE, OPTIONS, PRODUCTS, VIEWS, mean_colour

pytestmark = pytest.mark.slow

CONTESTANTS = (NOISE, replace(NOISE, name="noise, oversampled", oversample=True), COLOUR)

BRIEF = replace(OPTIONS, head=HeadOptions(hidden=16, epochs=2, threads=1))  # where the scores do not matter


@pytest.fixture(scope="module")
def labelled(catalogue: Callable[..., LabelledImages]) -> LabelledImages:
    return catalogue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(labelled: LabelledImages, folder: Path) -> StudyResult:
    return run_study(labelled, CONTESTANTS, OPTIONS, folder, notes=["A note of the caller."])


def table(study: StudyResult, name: str) -> Table:
    return next(table for table in study.tables if table.name == name)


def stat(value: object) -> Stat:
    assert isinstance(value, Stat)
    return value


def test_what_separates_scores_one_and_noise_scores_chance(study: StudyResult) -> None:
    rows = {row[0]: row for row in table(study, "comparison").rows}
    for f1 in (rows["mean colour"][3], rows["mean colour"][5]):  # the head's and the probe's
        assert stat(f1).mean > 0.97
    # Three classes of 63, 29 and 9 per cent.
    assert stat(rows["noise"][3]).mean < 0.45
    assert stat(rows["noise"][5]).mean < 0.45
    assert 0.4 < stat(rows["noise"][4]).mean < 0.75


def test_tables_say_what_scikit_learn_says(study: StudyResult, labelled: LabelledImages) -> None:
    for contestant in CONTESTANTS:
        reports, macro = [], []
        for trial in study.trials[contestant.name]:
            truth = [labelled.paths[position][0] for position in trial.test]
            guess = [labelled.tree.paths[node][0] for node in trial.predictions[of_level(1)]]
            reports.append(classification_report(truth, guess, output_dict=True, zero_division=0))
            macro.append(f1_score(truth, guess, average="macro", zero_division=0))
        rows = {row[0]: row for row in table(study, f"report-{contestant.slug}").rows}
        for name in ("bath", "tools", "sort out"):
            for column, kind in enumerate(("precision", "recall", "f1-score"), start=1):
                values = [report[name][kind] for report in reports]
                assert stat(rows[name][column]).mean == pytest.approx(np.mean(values))
                assert stat(rows[name][column]).sd == pytest.approx(np.std(values, ddof=1))
            assert float(str(rows[name][4])) == pytest.approx(np.mean([r[name]["support"] for r in reports]), abs=0.05)
        comparison = next(row for row in table(study, "comparison").rows if row[0] == contestant.name)
        assert stat(comparison[3]).mean == pytest.approx(np.mean(macro))
        assert stat(rows["Overall"][3]) == stat(comparison[3])
        assert stat(comparison[4]).mean == pytest.approx(np.mean([report["accuracy"] for report in reports]))


def test_deeper_levels(study: StudyResult, labelled: LabelledImages) -> None:
    rows = {(row[0], row[1]): row for row in table(study, "levels").rows}
    assert stat(rows["mean colour", 2][4]).mean > 0.95  # one head
    assert stat(rows["mean colour", 2][5]).mean > 0.95  # a model of its own
    for trial in study.trials["mean colour"]:
        reached = [labelled.paths[position] for position in trial.test if len(labelled.paths[position]) == 2]
        assert len(reached) < len(trial.test)  # "sort out" ends at level 1 and does not count at level 2
        shared = [labelled.tree.paths[node] for node in trial.predictions[SHARED]]
        assert {len(path) for path in shared} == {1, 2}
        assert len(trial.predictions[PROBE]) == len(trial.test)


def test_a_class_without_training_image_counts_as_wrong(labelled: LabelledImages, tmp_path: Path) -> None:
    # Products of a kind of their own: what is tested at level 2 has never been seen there.
    paths = [(path[0], group) for path, group in zip(labelled.paths, labelled.groups, strict=True)]
    unseen = replace(labelled, paths=paths)
    study = run_study(unseen, [COLOUR], replace(OPTIONS, seeds=1), tmp_path)
    first, second = table(study, "levels").rows
    assert first[3] == "0"
    assert second[3] == second[2] == str(len(study.trials["mean colour"][0].test))
    assert stat(second[4]).mean == stat(second[5]).mean == 0
    assert stat(first[4]).mean > 0.95
    assert "comparison-level-2" not in {found.name for found in study.tables}  # none of its test images counts there


def test_products_never_leak(study: StudyResult, labelled: LabelledImages) -> None:
    for trial in study.trials["noise"]:
        parts = [{labelled.groups[p] for p in part} for part in (trial.train, trial.validation, trial.test)]
        assert sum(map(len, parts)) == len(set.union(*parts))
    first = study.trials["noise"]
    for contestant in CONTESTANTS:
        assert [trial.test for trial in study.trials[contestant.name]] == [trial.test for trial in first]


def test_what_lies_in_the_folder(study: StudyResult, folder: Path, labelled: LabelledImages) -> None:
    report = study.report.read_text(encoding="utf-8")
    for text in (
        f"{len(labelled)} labelled images of {sum(PRODUCTS)} products, 8 pixels; classes: 3 at level 1, 4 at level 2",
        "Each of 2 seeds draws 90 images for training, 40 for validation and 50 for testing",
        "Nothing is held out",
        "A note of the caller.",
        "| Method | Precision | Recall | F1-Score | Accuracy |",
    ):
        assert text in report
    assert "scaled down" not in report
    plots = {"labels.png", *(f"{kind}-{c.slug}.png" for c in CONTESTANTS for kind in ("curves", "confusion"))}
    assert {file.name for file in folder.glob("*.png")} == plots
    for name in plots:
        assert f"]({name})" in report
        with Image.open(folder / name) as image:
            image.load()
    rows = list(csv.DictReader((folder / "comparison.csv").read_text(encoding="utf-8").splitlines()))
    found = stat(table(study, "comparison").rows[0][3])
    assert rows[0]["F1-Score"] == f"{found.mean:.4f}"
    assert rows[0]["F1-Score sd"] == f"{found.sd:.4f}"
    raw = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    trial = study.trials["noise"][1]
    assert raw["trials"][1]["predictions"][of_level(1)] == list(trial.predictions[of_level(1)])
    assert [raw["ids"][position] for position in raw["trials"][1]["test"]] == [labelled.ids[p] for p in trial.test]
    assert raw["nodes"] == [list(path) for path in labelled.tree.paths]
    assert not list(folder.glob(".tmp-*"))


def test_split_table_counts_images(study: StudyResult) -> None:
    rows = {row[0]: row for row in table(study, "split").rows}
    counts = dict.fromkeys((path[0] for path in COLOURS), 0)
    for path, products in zip(COLOURS, PRODUCTS, strict=True):
        counts[path[0]] += products * VIEWS
    assert {name: rows[name][1] for name in counts} == counts
    for column, wanted in ((2, 90), (3, 40), (4, 50)):
        assert sum(stat(rows[name][column]).mean for name in counts) == stat(rows["All images"][column]).mean == wanted


def test_paired_differences(study: StudyResult, labelled: LabelledImages) -> None:
    rows = {tuple(row[:3]): row for row in table(study, "paired").rows}
    assert list(rows) == [
        (level, *names) for level in (1, 2) for names in (("noise, oversampled", "noise"), ("mean colour", "noise"))
    ]
    colour, noise = (
        [
            f1_score(
                [labelled.paths[p][0] for p in trial.test],
                [labelled.tree.paths[n][0] for n in trial.predictions[of_level(1)]],
                average="macro",
            )
            for trial in study.trials[name]
        ]
        for name in ("mean colour", "noise")
    )
    found = rows[1, "mean colour", "noise"][3]
    assert isinstance(found, Gain)
    assert found.mean == pytest.approx(np.mean(np.subtract(colour, noise)))
    assert 0 < found.low < found.mean < found.high < 1
    assert rows[1, "mean colour", "noise"][5] == "2 of 2"
    chance = rows[1, "noise, oversampled", "noise"][3]
    assert isinstance(chance, Gain)
    assert chance.low < 0.05  # what oversampling gains on noise is chance


def test_everything_is_compared_with_one_contestant_and_with_the_one_before(
    labelled: LabelledImages, folder: Path, study: StudyResult, tmp_path: Path
) -> None:
    copytree(folder / "runs", tmp_path / "runs")
    contestants = (NOISE, replace(NOISE, name="more noise"), COLOUR)
    again = run_study(labelled, contestants, OPTIONS, tmp_path, base="mean colour")
    pairs = {tuple(row[1:3]) for row in table(again, "paired").rows}
    assert pairs == {("noise", "mean colour"), ("more noise", "mean colour"), ("more noise", "noise")}
    same = next(row for row in table(again, "paired").rows if row[2] == "noise")
    assert same[3] == Gain(0, 0, 0)  # their draws are the same
    with pytest.raises(ConfigError, match="nobody is not among"):
        run_study(labelled, contestants, OPTIONS, tmp_path, base="nobody")


def test_below_level_1_images_count_whose_class_is_in_training(labelled: LabelledImages, study: StudyResult) -> None:
    (trial, *_) = study.trials["noise"]
    missing = labelled.paths[next(position for position in trial.train if len(labelled.paths[position]) == 2)]
    kept = [position for position in trial.train if labelled.paths[position] != missing]
    rows = known_rows(labelled, replace(trial, train=tuple(kept)), 2)
    tested = [labelled.paths[position] for position in trial.test]
    assert [tested[row] for row in rows] == [path for path in tested if len(path) == 2 and path != missing]
    assert missing in tested
    found = table(study, "comparison-level-2")
    assert stat({row[0]: row for row in found.rows}["mean colour"][4]).mean > 0.95
    assert "Only test images whose class is in training count" in found.note


@pytest.mark.slow
def test_a_killed_study_goes_on(labelled: LabelledImages, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    embedded = []

    def counting(images: Images) -> NDArray[Any]:
        embedded.append(len(images))
        return mean_colour(images)

    def killing(images: Images) -> NDArray[Any]:
        if len(embedded) > 3:
            raise KilledError
        return counting(images)

    with pytest.raises(KilledError):
        run_study(labelled, [NOISE, replace(COLOUR, embed=killing)], BRIEF, tmp_path)
    done = sorted((tmp_path / "runs").iterdir())
    assert [file.name[:7] for file in done] == ["noise-0", "noise-1"]
    assert not (tmp_path / "study.md").exists()
    before = [file.read_bytes() for file in done]
    study = run_study(labelled, [NOISE, replace(COLOUR, embed=counting)], BRIEF, tmp_path)
    assert [file.read_bytes() for file in done] == before
    # Once more: nothing is embedded, nothing changes, and a third seed is the only work.
    embedded.clear()
    again = run_study(labelled, [NOISE, replace(COLOUR, embed=counting)], BRIEF, tmp_path)
    assert not embedded
    assert again.trials == study.trials
    longer = run_study(labelled, [NOISE, replace(COLOUR, embed=counting)], replace(BRIEF, seeds=3), tmp_path)
    assert embedded
    assert longer.trials["mean colour"][:2] == study.trials["mean colour"]


@pytest.mark.slow
def test_results_of_something_else_are_not_taken(labelled: LabelledImages, tmp_path: Path) -> None:
    options = replace(BRIEF, seeds=1)
    first = run_study(labelled, [COLOUR], options, tmp_path)
    other = run_study(labelled, [replace(NOISE, name=COLOUR.name)], options, tmp_path)
    assert other.trials != first.trials
    bigger = run_study(labelled, [COLOUR], replace(options, train=60), tmp_path)
    assert len(bigger.trials["mean colour"][0].train) == 60
    torn = next((tmp_path / "runs").iterdir())
    torn.write_bytes(torn.read_bytes()[:100])
    again = run_study(labelled, [COLOUR], options, tmp_path)
    assert again.trials["mean colour"][0].predictions == first.trials["mean colour"][0].predictions


def test_held_out_and_scaled_down(catalogue: Callable[..., LabelledImages], tmp_path: Path) -> None:
    everything = catalogue()
    held_out = held_out_groups(set(everything.groups), 0.3)
    options = replace(BRIEF, train=411, validation=157, test=216, seeds=1)
    study = run_study(catalogue(held_out), [COLOUR], options, tmp_path)
    (trial,) = study.trials["mean colour"]
    assert {everything.groups[position] for position in trial.test} <= held_out
    report = study.report.read_text(encoding="utf-8")
    assert f"Test images are of {len(held_out)} products that are held out" in report
    assert "411, 157 and 216 were requested" in report
    assert study.sizes.test / study.sizes.train == pytest.approx(216 / 411, abs=0.02)


def test_what_cannot_be_studied(labelled: LabelledImages, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="distinct names"):
        run_study(labelled, [COLOUR, replace(NOISE, name="Mean: colour")], OPTIONS, tmp_path)
    with pytest.raises(ConfigError, match="must be positive"):
        replace(OPTIONS, seeds=0)
    with pytest.raises(TrainingError, match="two different labels"):
        replace(labelled, paths=[("bath",)] * len(labelled))
    with pytest.raises(ConfigError, match="cannot be fine-tuned"):
        replace(COLOUR, fine_tune=1)
    with pytest.raises(ValueError, match="differ in length"):
        replace(labelled, ids=labelled.ids[1:])
