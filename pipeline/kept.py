"""Rows that outlive their file: what a step may reuse lies beside its output, under a name that no rule knows.

Snakemake removes an output before it is made again, and what there is of it where that fails. Its own `update()` leaves
the file in place, but writes the new inputs and params into its records also where the job failed: the next run then
takes the old rows for new ones; and under a cluster's executor the file is removed all the same.
"""

import os
import shutil
from pathlib import Path

from pipeline import store


def beside(path: str | Path) -> Path:
    """Where the rows of the file at `path` are kept. Readers of whole folders pass over names that begin with a dot."""
    path = Path(path)
    return path.with_name(f".{path.name}.kept")


def keep(path: str | Path) -> None:
    """Keep the file at `path`, which is whole, for the next time that it is made: a second name of the same bytes."""
    with store.atomic(beside(path)) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # a file system without such names
            shutil.copyfile(path, temporary)
