"""Decides what an import of a manifest will store. Everything is checked here, before anything is stored."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxonomist.backend.labelling.manifests.addresses import Addresses, assign_addresses
from taxonomist.backend.labelling.manifests.difference import Difference, SourceImage, compare
from taxonomist.backend.labelling.manifests.label_configs import config_with, read_config, stored_paths
from taxonomist.backend.labelling.manifests.reading.manifest import Manifest, open_manifest
from taxonomist.backend.labelling.manifests.reading.rows import IMPORT_ANNOTATOR, BadRow, ManifestRow
from taxonomist.backend.labelling.manifests.source_state import ProjectState, read_state
from taxonomist.backend.labelling.sources import file_source
from taxonomist.backend.services import Services
from taxonomist.backend.state.image_folders import ImageFolder
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.errors import ConfigError, ImageError
from taxonomist.taxonomy.names import clean_name
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree

_SHOWN = 20
_MOVED_COMPARED = 20  # files


@dataclass(frozen=True)
class ManifestOptions:
    """Options of an import.

    `source` names the source; None: the name of the file. `config` is the labelling config that the project gets;
    None: the one it has. With `skip_bad_rows`, rows that cannot be taken are left out; without, they are an error.
    With `multi_label`, an annotator may give an image several paths. `confirmed` allows to withdraw more than a tenth
    of the source's labels. A `dry_run` stores nothing.
    """

    source: str | None = None
    config: Path | None = None
    skip_bad_rows: bool = False
    multi_label: bool = False
    dry_run: bool = False
    confirmed: bool = False


@dataclass(frozen=True)
class ImportPlan:
    """What an import will store.

    `now` is what the file says about each image, by address, and `lines` the line that names it first. `shown` are the
    changes as a person sees them, and `used` counts the rows of each path.
    """

    project: str
    source: str
    manifest: Manifest
    label_config: str
    tree: Tree | None
    folders: tuple[ImageFolder, ...]
    now: Mapping[str, SourceImage]
    state: ProjectState
    shown: Difference
    lines: Mapping[str, int]
    used: Counter[TaxonomyPath]

    @property
    def stored(self) -> Difference:
        """The changes of the source itself; images from before sources had names are new to it."""
        if not self.state.former:
            return self.shown
        return compare(self.state.own, self.now, withdraw_absent=not self.manifest.checked.bad)


def make_plan(
    services: Services, manifest: Path, project: str, images: Sequence[Path], options: ManifestOptions
) -> ImportPlan:
    """Return what an import will store. Raises `ConfigError` when the manifest cannot be taken."""
    record = services.projects.get(project)
    source = file_source(options.source if options.source is not None else manifest.name)
    given = read_config(options.config) if options.config else None
    known_folders = [folder for entry in record.image_folders if source in entry.sources for folder in entry.folders]
    opened = open_manifest(manifest, images, known_folders, multi_label=options.multi_label)
    checked = opened.checked
    if checked.bad and not options.skip_bad_rows:
        raise _bad_rows(manifest, checked.bad)
    paths = Counter(row.path for row in checked.rows if row.path)
    growing = _without_gone(record, paths)
    xml = config_with(growing, record.label_config, given, grows=not (record.label_studio_url or record.created))
    tree = record.read_config(xml).trees[0] if xml else None
    state = _state(services, record, source, tree, fold=not options.dry_run)
    if not checked.rows and (checked.bad or _is_new(record)):
        hint = f"line {checked.bad[0].line}: {checked.bad[0].problem}." if checked.bad else None
        raise ConfigError(f"{manifest} has no row that can be taken.", hint=hint)
    known = {*state.own, *state.former}
    found = (row.found for row in checked.rows)
    addresses = assign_addresses(found, source, known, record.image_folders, state.other_addresses)
    for address in addresses.of_path.values():
        _check_text(address)
    _check_moved(services, project, source, addresses)
    now, lines = _said(checked.rows, addresses.of_path, tree)
    state = state.taken_over_by(now)
    shown = compare({**state.former, **state.own}, now, withdraw_absent=not checked.bad)
    plan = ImportPlan(project, source, opened, xml, tree, addresses.folders, now, state, shown, lines, paths)
    if shown.needs_confirmation and not options.confirmed and not options.dry_run:
        raise _too_many_withdrawn(plan)
    return plan


def _without_gone(record: ProjectRecord, paths: Iterable[TaxonomyPath]) -> list[TaxonomyPath]:
    """Return the paths without those of which the tree once had a node and has it no longer: an import adds none."""
    gone = {tuple(map(clean_name, node)) for nodes in record.gone.values() for node in nodes}
    return [path for path in paths if gone.isdisjoint(prefixes(path))]


def _is_new(record: ProjectRecord) -> bool:
    return not record.label_config and not record.image_folders


def _state(services: Services, record: ProjectRecord, source: str, tree: Tree | None, *, fold: bool) -> ProjectState:
    """Return what the journal has. For a new project it is not opened, so that an error leaves no trace of it."""
    if _is_new(record):
        return ProjectState()
    if fold:
        services.journal.fold()
    state = read_state(services.journal, record.project, source, tree.control if tree else None)
    if state.foreign:
        raise ConfigError(
            f"The source {source!r} of project {record.project} is not a manifest.", hint="Give another --source."
        )
    return state


def _check_moved(services: Services, project: str, source: str, addresses: Addresses) -> None:
    """Raise `ConfigError` if files in another folder are not the images that the source had under their names.

    Some of them are compared with the bytes that were embedded, or that are still where they were.
    """
    if not addresses.moved:
        return
    moved = addresses.moved[:: max(1, len(addresses.moved) // _MOVED_COMPARED)]
    documents = services.catalog.get_many(image_id(addresses.of_path[file.path]) for file in moved)
    images = services.images(project)
    for file in moved:
        address = addresses.of_path[file.path]
        document = documents.get(image_id(address))
        try:
            known = document.file_hash if document and document.file_hash else _digest(images.read(address))
            found = _digest(Path(file.path).read_bytes())
        except (ImageError, OSError):
            continue  # they are where they were no more, or cannot be read at all
        if known != found:
            raise ConfigError(
                f"{file.path} is another image than the one that the source {source!r} had under this name.",
                hint="Give another --source for another delivery.",
            )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _said(
    rows: Sequence[ManifestRow], addresses: Mapping[str, str], tree: Tree | None
) -> tuple[dict[str, SourceImage], dict[str, int]]:
    """Return what the rows say about each image, and the line that names it first, both by address."""
    stored = stored_paths({row.path for row in rows if row.path}, tree) if tree else {}
    products: dict[str, str] = {}
    labels: dict[str, dict[str, dict[TaxonomyPath, None]]] = {}
    lines: dict[str, int] = {}
    for row in rows:
        address = addresses[row.found.path]
        lines.setdefault(address, row.line)
        if row.product:
            products[address] = row.product
        of_annotator = labels.setdefault(address, {}).setdefault(row.annotator or IMPORT_ANNOTATOR, {})
        if row.path:
            of_annotator[stored[row.path]] = None
    said = {
        address: SourceImage(products.get(address), {name: tuple(paths) for name, paths in by_annotator.items()})
        for address, by_annotator in labels.items()
    }
    return said, lines


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"The name {text!r} is not Unicode.", hint="Rename the file or its folder.") from None


def _bad_rows(manifest: Path, bad: Sequence[BadRow]) -> ConfigError:
    first, *others = bad
    message = f"{manifest}, line {first.line}: {first.problem}."
    hint = [f"line {row.line}: {row.problem}" for row in others[: _SHOWN - 1]]
    if others:
        message += f" {len(others)} more row{'s' if len(others) > 1 else ''} cannot be taken, so nothing is imported."
    if len(others) >= _SHOWN:
        hint.append(f"and {len(others) - _SHOWN + 1} more")
    return ConfigError(message, hint="\n".join([*hint, "Correct the file, or give --skip-bad-rows."]))


def _too_many_withdrawn(plan: ImportPlan) -> ConfigError:
    shown = plan.shown
    return ConfigError(
        f"The source {plan.source!r} has {shown.labels_before} labels of {shown.images_before} images. This import "
        f"withdraws {shown.withdrawn} labels and {len(shown.removed_images)} images, which is more than a tenth.",
        hint="--dry-run shows them, --yes withdraws them, and another --source adds to what is there.",
    )
