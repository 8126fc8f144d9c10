"""Text in, a row for each chunk out: CLS vector and masked mean of any Hugging Face text encoder (lexical features).

A text longer than the model's limit is cut into chunks, with overlap where asked for. Chunks of several texts share a
batch when they are padded to the same length, and that length depends on the chunk alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.errors import UserError
from pipeline.features import huggingface
from pipeline.features.extractor import Bundle, Extractor, Item, NoRows, Unit, rows_unchanged

if TYPE_CHECKING:
    import torch

    from pipeline.features.compute import Plan

PROBE = (
    "What would you do if nobody told you what comes next?",
    "I was angry, then I laughed, and in the end we both said that it had been worth every minute of the walk.",
    "No.",
)


@dataclass(frozen=True)
class Settings:
    """`features.lexical` of the config."""

    model: str = "bert-base-uncased"
    revision: str | None = None
    max_tokens: int | None = None  # of a chunk, special tokens included; null: the model's limit
    overlap: int = 0  # tokens that a chunk shares with the one before
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    pooling: Literal["cls", "mean"] = rows_unchanged("cls")  # read by the dataset step: files hold both
    device: Literal["auto", "cpu", "cuda"] = rows_unchanged("auto")
    batch_tokens: int = rows_unchanged(8192)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 3:
            raise ValueError(f"max_tokens is {self.max_tokens}; write 3 or more")
        if self.overlap < 0:
            raise ValueError(f"overlap is {self.overlap}; write 0 or more")
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; write 1 or more")


def weights_identity(settings: Settings) -> str:
    """The model's name and revision, or its folder's content."""
    return huggingface.identity(settings.model, settings.revision)


def load(settings: Settings, weights_path: str | Path | None, plan: Plan) -> TextEncoder:
    """The encoder and its tokenizer. Raises UserError where the model is not to be had."""
    import transformers

    tokenizer = huggingface.load(transformers.AutoTokenizer.from_pretrained, settings.model, settings.revision)
    network = huggingface.load(
        transformers.AutoModel.from_pretrained, settings.model, settings.revision, dtype="float32"
    )
    if network.config.is_encoder_decoder:
        network = network.get_encoder()
    return TextEncoder(settings, tokenizer, network, plan)


class TextEncoder(Extractor):
    """A Hugging Face text encoder with its tokenizer."""

    lookahead = 2048

    def __init__(self, settings: Settings, tokenizer: Any, network: torch.nn.Module, plan: Plan):
        from pipeline.features import compute

        self.batch_size = settings.batch_tokens
        self.max_tokens = _limit(settings, tokenizer, network)
        self._chunks = Chunks(tokenizer, self.max_tokens, settings.overlap)
        self._pad = tokenizer.pad_token_id or 0
        self._device = plan.device
        probe = [self._chunks.of(text)[0] for text in PROBE]
        width = network.config.hidden_size
        placed = compute.place(
            network, plan, probe, lambda network, ids: self._encode(network, ids, max(map(len, ids)))
        )
        self._network = placed.network
        self.bundle = Bundle(
            name="bert",
            modality="lexical",
            weights=settings.model,
            revision=huggingface.revision_of(network, settings.model, settings.revision),
            untrained=False,
            licence=huggingface.licence_of(settings.model),
            sample_rate_hz=None,
            preprocessing=f"{type(tokenizer).__name__}, chunks of {self.max_tokens} tokens, overlap {settings.overlap}",
            widths={"embedding": width, "embedding_mean": width},
            device=plan.device,
            precision=placed.precision,
            bfloat16_cosine=placed.cosine,
            method=placed.method,
        )

    def units(self, item: Item) -> Generator[Unit, None, str | None]:
        """A unit for each chunk of at most `max_tokens` tokens. Raises NoRows for a text without words."""
        if not (item.text or "").strip():
            raise NoRows("no text")
        for index, ids in enumerate(self._chunks.of(item.text)):
            yield Unit(index, min(padded_length(len(ids)), self.max_tokens), ids)
        return None

    def run(self, units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """CLS vectors and means over the tokens of each chunk, (n, width) each."""
        import torch

        with torch.inference_mode():
            both = self._encode(self._network, [unit.data for unit in units], units[0].size).cpu().numpy()  # (n, 2, W)
        return {"embedding": both[:, 0], "embedding_mean": both[:, 1]}

    def _encode(self, network: torch.nn.Module, chunks: Sequence[np.ndarray], length: int) -> torch.Tensor:
        """Token ids padded to `length` -> float32 (n, 2, width): CLS, mean over the chunk's own tokens."""
        import torch

        ids = np.full((len(chunks), length), self._pad, dtype=np.int64)
        mask = np.zeros((len(chunks), length), dtype=np.int64)
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk)] = chunk
            mask[row, : len(chunk)] = 1
        input_ids = torch.from_numpy(ids).to(self._device)
        attention = torch.from_numpy(mask).to(self._device)
        hidden = network(input_ids=input_ids, attention_mask=attention).last_hidden_state.float()  # (n, T, W)
        weight = attention.unsqueeze(-1).float()
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return torch.stack([hidden[:, 0], mean], 1)


class Chunks:
    """Cuts texts into chunks of token ids, with special tokens around each.

    Only tokenizers written in Rust do it themselves (return_overflowing_tokens); here any does, with the same ids.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, overlap: int):
        self._tokenizer, self._overlap = tokenizer, overlap
        bare, whole = (tokenizer(PROBE[0], add_special_tokens=special)["input_ids"] for special in (False, True))
        start = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        self._before, self._after = whole[:start], whole[start + len(bare) :]
        special = len(self._before) + len(self._after)
        self._room = max_tokens - special
        if overlap >= self._room:
            raise UserError(
                f"config: features.lexical.overlap is {overlap}, but a chunk has {max_tokens} tokens, "
                f"{special} of them special; write less"
            )

    def of(self, text: str) -> list[np.ndarray]:
        """Token ids of each chunk, int64 (tokens,): at most `max_tokens`, `overlap` of them shared with the last."""
        ids = self._tokenizer(
            text,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # it would warn of a text longer than the model takes
        )["input_ids"]
        starts = range(0, max(1, len(ids) - self._overlap), self._room - self._overlap)
        return [
            np.array([*self._before, *ids[start : start + self._room], *self._after], dtype=np.int64)
            for start in starts
        ]


def padded_length(tokens: int) -> int:
    """The length that a chunk is padded to: near its own, and shared by enough others to fill a batch."""
    step = 4 if tokens <= 64 else 8 if tokens <= 128 else 16 if tokens <= 256 else 32
    return -(-tokens // step) * step


def _limit(settings: Settings, tokenizer: Any, network: torch.nn.Module) -> int:
    """Tokens of a chunk: as set, but no more than tokenizer and position embeddings allow."""
    limits = [tokenizer.model_max_length]
    positions = getattr(network.config, "max_position_embeddings", None)
    if positions:
        # RoBERTa and its kin begin to count positions behind the padding token's.
        table = next((m for n, m in network.named_modules() if n.endswith("position_embeddings")), None)
        padding = getattr(table, "padding_idx", None)
        limits.append(positions - (0 if padding is None else padding + 1))
    limit = min(int(each) for each in limits if each and each < 10**6) if any(each < 10**6 for each in limits) else 512
    if settings.max_tokens is not None and settings.max_tokens > limit:
        raise UserError(
            f"config: features.lexical.max_tokens is {settings.max_tokens}, but {settings.model} takes {limit}"
        )
    return settings.max_tokens or limit
