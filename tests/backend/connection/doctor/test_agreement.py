"""What the doctor says of the agreement between annotators."""

from __future__ import annotations

from pathlib import Path

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.services import Services
from tests.backend.connection.doctor.conftest import seen
from tests.small_world import CONFIG as COLOURS
from tests.small_world import image_bytes


def test_how_well_annotators_agree(services: Services, tmp_path: Path) -> None:
    """Both annotators agree on two of four images: half of the pairs."""
    rows = ["file,level1,level2,annotator"]
    opinions = [("Warm", "Red", "Warm", "Red"), ("Cold", "Blue", "Cold", "Blue"), ("Warm", "Red", "Cold", "Blue")]
    opinions.append(("Cold", "Green", "Warm", "Yellow"))
    for number, (first, below_first, second, below_second) in enumerate(opinions):
        (tmp_path / f"{number}.jpg").write_bytes(image_bytes(("Warm", "Red"), number))
        rows += [f"{number}.jpg,{first},{below_first},anna", f"{number}.jpg,{second},{below_second},bela"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    services.projects.update("furniture", label_config=COLOURS)
    assert "no image was labelled by two" in seen(services, "furniture")["agreement"].detail
    import_manifest(services, tmp_path / "manifest.csv", "furniture")
    check = seen(services, "furniture")["agreement"]
    # Krippendorff's alpha by hand: 4 of 8 values of each class, observed (2 + 2) / 8, expected 2 * 4 * 4 / (8 * 7)
    alpha = 1 - (4 / 8) / (32 / 56)
    assert check.status == "warn"
    assert check.detail.startswith(f"level 1: alpha {alpha:.2f}, 50% of pairs, 4 images; level 2: ")
