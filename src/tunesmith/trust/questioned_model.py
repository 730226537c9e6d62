"""A run's model as its authors wrote it, asked about one sequence whose tokens may have other vectors than their own.

Whatever of a token is explained or taken away is done to its vector, the row of the table of tokens: nothing else of
the model is touched, so that every architecture can be asked in the same way, adapters, virtual tokens and decoders
included.

Shapes: B copies of the sequence, L tokens, D numbers a vector, U places read, K scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunesmith.data.encoded import DECODER, Encoded
from tunesmith.engine.batch import Collator
from tunesmith.engine.stand_ins import as_written, standing_in
from tunesmith.models.head_scores import head_inputs, head_scores
from tunesmith.models.modes import evaluating
from tunesmith.models.wrapping import inner, token_table
from tunesmith.run import Run
from tunesmith.run.assembly import Network
from tunesmith.run.ensemble import read_ensemble
from tunesmith.run.finished_network import read_network
from tunesmith.tasks.losses import widen
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

PASS_TOKENS = 4096
"""Tokens of all copies that are asked about at once."""
PASS_SCORES = 20_000_000
"""Scores of all copies, of models with one for every entry of a vocabulary."""


def network_to_question(run: Run) -> Network:
    """Return the trained model, loaded in float32 and in the padded layout; ``InputError`` where there are several."""
    if read_ensemble(run.directory) is not None:
        raise InputError(
            f"{run.folder} is an ensemble: what it answers comes from several models.", "Explain one of its members."
        )
    config = run.config
    config = config.changed(
        train=config.train.changed(precision="fp32"), compute=config.compute.changed(layout="padded")
    )
    network = read_network(run.directory, config)
    if token_table(network.model) is None:
        raise InputError(f"The model of {run.folder} reads no tokens that could be explained.", "Use a run on texts.")
    return network


@dataclass(frozen=True)
class Sequence:
    """One sequence as the model reads it."""

    inputs: Mapping[str, torch.Tensor]
    """[1, L] each, as in the padded layout; those of a decoder have a length of their own."""
    reads: torch.Tensor | None
    """The places of the tokens whose scores are read; None where the sequence has scores as a whole."""

    @property
    def ids(self) -> list[int]:
        """The token ids, L of them."""
        found: list[int] = self.inputs["input_ids"][0].tolist()
        return found

    @classmethod
    def of(cls, network: Network, data: Encoded, number: int) -> Sequence:
        """Return a sequence of ``data``."""
        collate = Collator("padded", network.tokenizer.pad_token_id or 0, device=network.device)
        batch = collate(data, np.array(data.sequences_of(np.array([0])) if data.keeps_rows else [number]))
        row = int(np.flatnonzero(batch.sequences == number)[0])
        streams = {prefix: data.stream(prefix) for prefix in ("", DECODER)}
        lengths = {prefix: len(one[number]) for prefix, one in streams.items() if one is not None}
        reads = None if data.reads is None else torch.from_numpy(np.asarray(data.reads[number], dtype=np.int64).copy())
        inputs = {
            name: values[row : row + 1, : lengths[DECODER if name.startswith(DECODER) else ""]]
            for name, values in batch.inputs.items()
        }
        return cls(inputs, reads)

    @property
    def num_scored(self) -> int:
        """Tokens that a head may give scores for: the decoder's, where there is one."""
        return int(self.inputs.get(f"{DECODER}input_ids", self.inputs["input_ids"]).shape[1])


@dataclass(frozen=True)
class QuestionedModel:
    """A model that is asked again and again about sequences, without dropout and without any code of ours in it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    num_passes: list[int] = field(default_factory=lambda: [0])
    """How many copies of sequences were asked about so far."""

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Let the model be as its authors wrote it inside the ``with`` block."""
        with as_written(self.model), evaluating(self.model):
            yield

    @cached_property
    def _tables(self) -> tuple[nn.Module, ...]:
        """The tables that tokens are looked up in, that of the text first: an encoder and a decoder may have theirs."""
        whole: Any = inner(self.model)
        found = [token_table(self.model)]
        if getattr(whole.config, "is_encoder_decoder", False):
            parts = [whole.get_encoder(), whole.get_decoder()]
            found = [*(part.get_input_embeddings() for part in parts), *found]
        tables = tuple({id(one): one for one in found if one is not None}.values())
        assert tables, "who asks has looked whether there is one"
        return tables

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """Return [..., D]: the vectors of tokens."""
        with torch.no_grad():
            found: torch.Tensor = self._tables[0](ids)
        return found

    def scores(self, sequence: Sequence, vectors_BLD: torch.Tensor) -> torch.Tensor:
        """Return [B, K], or [B, U, K] of the places read: the scores of B copies whose tokens have these vectors."""
        num_copies = len(vectors_BLD)
        inputs = {name: one.expand(num_copies, *one.shape[1:]) for name, one in sequence.inputs.items()}
        self.num_passes[0] += num_copies
        with ExitStack() as stack:
            for table in self._tables:
                stack.enter_context(standing_in(table, _given(table.forward, inputs["input_ids"], vectors_BLD)))
            scores = widen(head_scores(self.model(**head_inputs(self.model, inputs))))
        if sequence.reads is None:
            return scores.reshape(num_copies, -1)
        return scores[:, -sequence.num_scored :][:, sequence.reads.to(scores.device)]

    def copies_at_once(self, sequence: Sequence, num_scores: int) -> int:
        """Return how many copies fit into a pass; ``num_scores`` is K."""
        of_scores = sequence.num_scored * num_scores if sequence.reads is not None else num_scores
        return max(1, min(PASS_TOKENS // len(sequence.ids), PASS_SCORES // max(of_scores, 1)))


def _given(own: Callable[..., torch.Tensor], ids_BL: torch.Tensor, vectors_BLD: torch.Tensor) -> Callable[..., Any]:
    """Return what a table gives instead of its ``own`` vectors, where it is asked for tokens of the text.

    Virtual tokens and what a decoder has written keep theirs. Decoders that read the text themselves are given it
    behind a first token of their own.
    """

    def given(*arguments: Any, **named: Any) -> torch.Tensor:
        asked = arguments[0] if arguments else named["input"]
        if asked.shape == ids_BL.shape:
            if torch.equal(asked, ids_BL):
                return vectors_BLD
            if torch.equal(asked[:, 1:], ids_BL[:, :-1]):
                return torch.cat([own(asked[:, :1]), vectors_BLD[:, :-1]], dim=1)
        return own(*arguments, **named)

    return given


def blank_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token whose vector stands for a word that is not there: the mask, where the model has learned one."""
    candidates = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in candidates if isinstance(token, int))
