"""From a command line to cells: what its flags say together is checked, and the product of their lists becomes the
cells.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections.abc import Hashable
from dataclasses import dataclass

from junkdna.errors import Faults
from junkdna.runs import cell as cells
from junkdna.runs import commandline, groups
from junkdna.runs.cell import Cell
from junkdna.runs.family import Family
from junkdna.runs.jobs import flags
from junkdna.runs.speech import say


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command line asks for: cells in the order in which they run, and how to go about them."""

    cells: tuple[Cell, ...]
    argv: tuple[str, ...]
    dry_run: bool = False
    overwrite_output_dir: bool = False
    launcher: str = "local"
    num_jobs: int | None = None
    """None: as many as there are GPUs on this machine, or one on a cluster."""
    jobs_dir: str | None = None
    slurm: tuple[tuple[str, object], ...] = ()
    """The --slurm_ flags that were given, without that prefix."""


def parse(family: Family, argv: list[str] | None = None) -> Request:
    """Turn a command line into validated cells.

    Raises UserError with every fault found in the flags and in the files and folders they name.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    faults = Faults()
    given = commandline.read(family, argv, faults)
    faults.raise_any()
    made = _cells(family, given, faults)
    faults.raise_any()
    return Request(
        cells=tuple(made),
        argv=tuple(argv),
        dry_run=given["dry_run"],
        overwrite_output_dir=given["overwrite_output_dir"],
        launcher=given["launcher"] or "local",
        num_jobs=given["num_jobs"],
        jobs_dir=given["jobs_dir"],
        slurm=flags.slurm_settings(given),
    )


def _cells(family: Family, given: dict, faults: Faults) -> list[Cell]:
    """Check what the flags say together, and build the product of their lists."""
    family.check(given, faults)
    if not given["model_name_or_path"]:
        faults.append("--model_name_or_path: is required: a Hub name (roberta-base) or a folder")
    flags.check_jobs(given, faults)
    patterns = family.patterns(given, faults)
    if given["hub_model_id"] and not given["push_to_hub"]:
        faults.append(f"--hub_model_id {given['hub_model_id']}: has no effect without --push_to_hub")
    faults.raise_any()
    product = itertools.product(family.variants(given), patterns, given["seed"])
    made = [_cell(family, given, own | pattern | {"seed": seed}, faults) for own, pattern, seed in product]
    faults.raise_any()
    made = _neighbours(family, _once(made, given["seed"], faults))
    _check_folders(made, faults)
    if given["push_to_hub"]:
        _check_repositories(made, given["hub_model_id"], faults)
    groups.check_one_checkpoint(given, len(made), faults)
    return made


def _cell(family: Family, given: dict, chosen: dict, faults: Faults) -> Cell | None:
    """Build one cell and its folder's name; ``chosen`` are its values of the flags that take several."""
    fields = dataclasses.fields(family.cell)
    values = {field.name: _frozen(given[field.name]) for field in fields if field.name in given} | chosen
    if chosen["sparsity_pattern"] == "dense":  # a dense run is the same whatever the pruned runs beside it are
        ours = (f for f in fields if f.metadata["role"] in ("scope", "treatment", "pattern") and f.metadata.get("flag"))
        values |= {f.name: f.default for f in ours if f.name not in chosen}
    values["save_model"] = given["save_model"] or given["push_to_hub"]
    draft = family.cell(**values)
    draft = dataclasses.replace(draft, **dict.fromkeys(draft.unused), method=given["method"] or draft.method_name)
    template = cells.default_output(family.cell) if given["output_dir"] is None else given["output_dir"]
    folder = faults.collect(cells.output_dir, template, draft)
    return None if folder is None else dataclasses.replace(draft, output_dir=folder)


def _once(made: list[Cell], seeds: list[int], faults: Faults) -> list[Cell]:
    """Leave what draws nothing to the first seed: the others would be the same run. Refuse them if that is all."""
    if len(seeds) > 1 and not any(cell.drawn for cell in made):
        said = " ".join(["--seed", *map(str, seeds)])
        faults.append(f"{said}: all would be the same run, as nothing is trained or drawn; give one of them")
    once = [cell for cell in made if cell.drawn or cell.seed == seeds[0]]
    if len(once) < len(made):
        alone = sum(not cell.drawn for cell in once)
        runs = "run does" if alone == 1 else "runs do"
        say(f"{alone} {runs} not depend on the seed: for seed {seeds[0]} only")
    return once


def _neighbours(family: Family, made: list[Cell]) -> list[Cell]:
    """Put cells that load the same next to each other, where the first of them stands."""
    groups: dict[Hashable, list[Cell]] = {}
    for cell in made:
        groups.setdefault(family.loads(cell), []).append(cell)
    return list(itertools.chain.from_iterable(groups.values()))


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def _check_folders(made: list[Cell], faults: Faults) -> None:
    """Refuse two cells in one folder."""
    seen: dict[str, Cell] = {}
    for cell in made:
        other = seen.setdefault(os.path.abspath(cell.output_dir), cell)
        if other is not cell:
            differ = [name for name, value in cell.settings().items() if other.settings()[name] != value]
            known = cells.template_fields(type(cell)).values()
            wanted = " ".join(dict.fromkeys(f"{{{name}}}" if name in known else "{pattern}" for name in differ))
            faults.append(
                f"--output_dir {cell.output_dir}: several runs would share this folder; "
                + (f"use {wanted} in it" if wanted else "the command asks for the same run twice")
            )
            return


def _check_repositories(made: list[Cell], asked: str | None, faults: Faults) -> None:
    """Refuse two cells that would be uploaded to one repository, which need not lie in one folder."""
    if asked:
        if len(made) > 1:
            faults.append(f"--hub_model_id {asked}: {len(made)} runs would share this repository; leave it out")
        return
    seen: dict[str, Cell] = {}
    for cell in made:
        other = seen.setdefault(cell.repository.lower(), cell)  # the Hub does not tell upper from lower case
        if other is not cell and other.output_dir != cell.output_dir:  # the same run twice has been refused
            faults.append(
                f"--push_to_hub: {other.output_dir} and {cell.output_dir} would share the repository "
                f"{cell.repository}; give the runs one by one, each with a --hub_model_id"
            )
            return
