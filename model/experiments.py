"""Tables 1 to 6 of the paper as data: which variants, on which corpora, and what the paper reports for them.

Reads and writes nothing; cheap to import, since the Snakefile asks it what has to be trained.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from model.variants import (
    DISTILLED,
    LINEAR,
    MAJORITY,
    MULTIMODAL,
    NO_FINETUNE,
    NO_PRETRAIN,
    NO_PRETRAIN_NO_FINETUNE,
    NO_REGULARISATION,
    OTHER_PRETRAIN,
    OURS,
    SIMPLE,
    STUDENTS,
    UNIMODAL,
)

TRANSFER_TEACHER = ("lexical", "acoustic")  # tables 5 and 6: the modalities that both corpora have

_ABLATION = (UNIMODAL, NO_PRETRAIN_NO_FINETUNE, NO_FINETUNE, NO_REGULARISATION, OURS, MULTIMODAL)
_TRANSFER = (NO_PRETRAIN, OTHER_PRETRAIN, OURS)

_PAPER_ABLATION = {
    1: {
        "iemocap": (0.812, 0.699, 0.708, 0.820, 0.826, 0.876),
        "ted": (0.616, 0.334, 0.326, 0.632, 0.531, 0.632),
        "mit": (0.0406, 0.0522, 0.0601, 0.0813, 0.0912, 0.102),
    },
    2: {
        "iemocap": (0.712, 0.661, 0.688, 0.730, 0.752, 0.873),
        "ted": (0.517, 0.514, 0.529, 0.532, 0.540, 0.545),
        "mit": (0.0450, 0.0433, 0.0545, 0.0789, 0.0748, 0.397),
    },
}
_PAPER_DISTILLATION = {
    3: {"iemocap": (0.824, 0.826), "ted": (0.618, 0.632), "mit": (0.0483, 0.0912)},
    4: {"iemocap": (0.656, 0.652), "ted": (0.532, 0.540), "mit": (0.0460, 0.0748)},
}
_PAPER_TRANSFER = {
    5: {("ted", "iemocap"): (0.832, 0.841, 0.838), ("iemocap", "ted"): (0.745, 0.806, 0.804)},
    6: {("ted", "iemocap"): (0.731, 0.737, 0.764), ("iemocap", "ted"): (0.526, 0.533, 0.531)},
}
TABLES = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Cell:
    """A row of a table: a variant of the student of `modality`, taught by a teacher of the modalities `teacher`.

    `source` is the other corpus of tables 5 and 6; `paper` the paper's value as a fraction, where it has one.
    """

    table: int
    corpus: str
    modality: str
    variant: str
    teacher: tuple[str, ...]
    source: str | None
    paper: float | None


def student_of(table: int) -> str:
    """The modality of a table's student: the odd tables are lexical, the even ones acoustic."""
    return STUDENTS[(table - 1) % 2]


def cells(corpora: Mapping[str, Sequence[str]], tables: Iterable[int]) -> list[Cell]:
    """All rows of `tables` for the configured corpora, given each corpus's modalities.

    A corpus without the student's modality has no row in that table; one with that modality alone has no teacher, and
    so only the rows that need none.
    """
    return [cell for table in sorted(tables) for cell in _rows_of(table, corpora)]


def _rows_of(table: int, corpora: Mapping[str, Sequence[str]]) -> Iterable[Cell]:
    modality = student_of(table)
    for corpus, modalities in corpora.items():
        modalities = tuple(modalities)
        if modality not in modalities:
            continue
        if table in _PAPER_ABLATION:
            values = _PAPER_ABLATION[table].get(corpus, (None,) * len(_ABLATION))
            rows = [*zip(_ABLATION, values, strict=True), *((variant, None) for variant in SIMPLE)]
        elif table in _PAPER_DISTILLATION:
            values = _PAPER_DISTILLATION[table].get(corpus, (None, None))
            rows = [(UNIMODAL, None), *zip((DISTILLED, OURS), values, strict=True)]
        else:
            yield from _transfer_rows(table, modality, corpus, corpora)
            continue
        for variant, paper in rows:
            if len(modalities) > 1 or variant in (UNIMODAL, LINEAR, MAJORITY):
                yield Cell(table, corpus, modality, variant, modalities, None, paper)


def _transfer_rows(table: int, modality: str, corpus: str, corpora: Mapping[str, Sequence[str]]) -> Iterable[Cell]:
    """Rows of tables 5 and 6: `corpus` learns, each other corpus in turn lends its pre-training."""
    for source, others in corpora.items():
        if source == corpus or not all(set(TRANSFER_TEACHER) <= set(has) for has in (corpora[corpus], others)):
            continue
        values = _PAPER_TRANSFER[table].get((source, corpus), (None, None, None))
        for variant, paper in zip(_TRANSFER, values, strict=True):
            yield Cell(table, corpus, modality, variant, TRANSFER_TEACHER, source, paper)
