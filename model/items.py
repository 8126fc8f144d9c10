"""Which items of a dataset take part in training and comparison: those that have every modality of the corpus.

Takes a table of dataset.parquet as read; without torch, so that splits and the report can ask it cheaply.
"""

from typing import Any

import pyarrow.compute as pc

from pipeline import store


def modalities_of(table: Any) -> tuple[str, ...]:
    """The modalities that a dataset table has, in the order in which they are concatenated."""
    return tuple(modality for modality in store.MODALITIES if modality in table.column_names)


def complete_items(table: Any) -> Any:
    """The rows of a dataset table that have every modality of the corpus."""
    for modality in modalities_of(table):
        table = table.filter(pc.is_valid(table[modality]))
    return table
