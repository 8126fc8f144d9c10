"""The engine: shared batches, order, memory that runs out, errors in readers."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.features import engine
from pipeline.features.extractor import Bundle, Extractor, Item, NoRows, Unit


class Numbers(Extractor):
    """Text "3 5 5" -> units of these sizes; a row is (size, index). It notes its batches."""

    lookahead = 8

    def __init__(self, batch_size: int = 30, room: int | None = None):
        self.batch_size, self.room, self.batches = batch_size, room, []
        self.bundle = Bundle(
            "numbers", "lexical", "none", None, False, "", None, "", {"embedding": 2}, "cpu", "float32", None
        )

    def units(self, item):
        if item.text == "broken":
            raise ValueError("broken reader")
        for index, size in enumerate(map(int, item.text.split())):
            if size == 13:
                raise NoRows("thirteen")
            yield Unit(index, size, np.zeros(1))
        return "empty" if not item.text else None

    def run(self, units):
        if self.room is not None and sum(unit.size for unit in units) > self.room:
            raise MemoryError
        assert len({unit.size for unit in units}) == 1
        self.batches.append([unit.size for unit in units])
        return {"embedding": np.array([[unit.size, unit.index] for unit in units], dtype=np.float32)}


def extract(extractor, texts):
    return list(engine.extract(extractor, (Item(f"i{n:04d}", text=text) for n, text in enumerate(texts))))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(1, 14), max_size=40), max_size=40), st.integers(1, 60))
def test_every_item_gets_its_own_rows_in_order_whatever_shares_its_batches(sizes, batch_size):
    extractor = Numbers(batch_size)
    results = extract(extractor, [" ".join(map(str, each)) for each in sizes])
    assert [rows.item_id for rows in results] == [f"i{n:04d}" for n in range(len(sizes))]
    for rows, expected in zip(results, sizes, strict=True):
        if 13 in expected:
            assert (len(rows.index), rows.reason) == (0, "thirteen")
            continue
        assert rows.columns["embedding"].tolist() == [[size, index] for index, size in enumerate(expected)]
        assert rows.index.tolist() == list(range(len(expected)))
        assert rows.reason == (None if expected else "empty")
    assert all(sum(batch) <= max(batch_size, batch[0]) for batch in extractor.batches)


def test_units_of_many_items_share_a_batch():
    extractor = Numbers(batch_size=8)
    extractor.lookahead = 64
    extract(extractor, ["1"] * 64)
    assert len(extractor.batches) == 8


def test_out_of_memory_halves_the_batch_and_goes_on():
    extractor = Numbers(batch_size=32, room=9)
    results = extract(extractor, ["2 2 2 2 2 2 2 2"] * 12)
    assert all(len(rows.index) == 8 for rows in results)
    assert max(sum(batch) for batch in extractor.batches) <= 9


def test_out_of_memory_with_a_single_unit_is_an_error_for_the_user():
    with pytest.raises(UserError, match="out of memory with a single unit"):
        extract(Numbers(batch_size=32, room=1), ["2 2"])


def test_an_error_in_a_reader_ends_the_job_and_its_threads():
    before = threading.active_count()
    with pytest.raises(ValueError, match="broken reader"):
        extract(Numbers(), ["1 2 3"] * 5 + ["broken"] + ["1"] * 500)
    assert threading.active_count() == before


def test_leaving_early_ends_the_threads():
    before = threading.active_count()
    results = engine.extract(Numbers(), (Item(str(n), text="1 2") for n in range(10_000)))
    next(results)
    results.close()
    assert threading.active_count() == before


def test_items_in_work_are_bounded():
    taken = []

    def items():
        for number in range(200):
            taken.append(number)
            yield Item(str(number), text="5 6 7")

    for done, _ in enumerate(engine.extract(Numbers(), items()), 1):
        assert len(taken) <= done + Numbers.lookahead + engine.READERS
