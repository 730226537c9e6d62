"""From a batch to the scores its loss reads, in either layout.

A task that reads rows gets one vector of scores a row: in the padded layout from the model as
``transformers`` wrote it, in the flat one from its base model and the model's own head on the
token that stands for each row.

A task that reads tokens gets scores where it reads, and nowhere else: the base model runs on
everything, the head on the hidden states of the tokens read. The head is not taken apart: the
model's own ``forward`` is called with its base model standing in for itself, giving the hidden
states already computed. What the authors do around the output layer (a transform, a norm, a
scale, a cap) is therefore done.

Shapes: B rows, T tokens, U tokens read, D numbers per hidden state, K scores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.attention import borders_of
from tunesmith.engine.batch import EXACT, Batch, Borders, LayoutName, Shapes
from tunesmith.engine.blocks.block import Reading, reading
from tunesmith.engine.prefix import Prefix
from tunesmith.engine.stand_ins import standing_in
from tunesmith.kernels.noise import keyed_by
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import inner

Reads = Literal["row", "token"]


@dataclass(frozen=True)
class Scorer:
    """Calls a model on batches of one layout; the only thing the loop knows of a model."""

    model: nn.Module
    layout: LayoutName
    reads: Reads
    shapes: Shapes = EXACT
    """How the number of tokens that the head reads is rounded up."""
    prefix: Prefix | None = None
    """What is frozen below everything that is trained."""
    fused_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    """From hidden states [U, D] and labels [U] to the sum of their cross-entropy, where another kernel computes it."""
    graphs: Callable[[Batch], torch.Tensor | None] | None = None
    """Gives the base model's last hidden states from captured graphs, or nothing for a batch that has none."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return ``scores_UK``: K scores for every row (or every token read), in batch order."""
        if self.reads == "token":
            return self.head(self.hidden(batch))
        if batch.read_states is not None:
            return row_head(inner(self.model), batch.read_states)
        if self.layout == "padded":
            scores: torch.Tensor = self.model(**batch.inputs).logits
            return scores
        return row_scores(inner(self.model), self.base(batch)[0], batch)

    def set_training(self) -> None:
        """Switch dropout on, but for what is frozen."""
        is_set = self._base.training if self.prefix is None else self.prefix.is_resting
        if self.model.training and is_set:
            return  # as it was left: walking through hundreds of modules takes longer than training a head
        self.model.train()
        if self.prefix is not None:
            self.prefix.rest()

    @contextmanager
    def surrounding(self, batch: Batch) -> Iterator[None]:
        """Surround the passes of ``batch``: attention learns its borders, the prefix stands aside."""
        with ExitStack() as stack:
            if batch.borders is not None:
                stack.enter_context(borders_of(batch.borders))
                stack.enter_context(reading(self._reading(batch, batch.borders)))
            stack.enter_context(self.noise_of(batch))
            if batch.states is not None:
                assert self.prefix is not None
                stack.enter_context(self.prefix.standing_aside(batch.states))
            yield

    def noise_of(self, batch: Batch) -> AbstractContextManager[None]:
        """Let dropout take the noise of ``batch``, where that is keyed: of its tokens, and of rows if they are read."""
        keys = batch.noise_keys
        if keys is None:
            return nullcontext()
        return keyed_by(keys) if self.reads == "token" else keyed_by(keys, keys[batch.first_tokens])

    def noise_of_read(self, batch: Batch, part: slice = slice(None)) -> AbstractContextManager[None]:
        """Let dropout in ``head`` take the noise of the tokens that it reads, or of a part of them."""
        if batch.noise_keys is None or batch.read_tokens is None:
            return nullcontext()
        keys_U = batch.noise_keys[batch.read_tokens[part]]
        return keyed_by(functional.pad(keys_U, (0, -len(keys_U) % self.shapes.tokens)))

    @contextmanager
    def having_run(self, hidden: torch.Tensor) -> Iterator[None]:
        """Let ``hidden`` be what ``base`` gives inside the block: it has been computed."""
        given = _kind_of_output()(last_hidden_state=hidden)
        with standing_in(self._base, lambda *_, **__: given):
            yield

    def _reading(self, batch: Batch, borders: Borders) -> Reading | None:
        """Return which tokens' last hidden states are read; None where all may be."""
        tokens = batch.read_tokens if self.reads == "token" else tokens_of_rows(inner(self.model), batch)
        return None if tokens is None else Reading.of(tokens, borders)

    def base(self, batch: Batch) -> torch.Tensor:
        """Return the base model's last hidden states: [1, T, D] in the flat layout, [B, L, D] in the padded one."""
        captured = None if self.graphs is None else self.graphs(batch)
        if captured is not None:
            return captured
        pooler = self._anatomy.pooler
        with ExitStack() as stack:
            if pooler is not None:  # of the whole flat row it makes nothing that anybody reads
                stack.enter_context(standing_in(pooler, lambda *_, **__: None))
            hidden: torch.Tensor = self._base(**batch.inputs, **self.switches).last_hidden_state
        return hidden

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Return [U, D]: the base model's last hidden states of the tokens that the task reads."""
        if batch.read_states is not None:
            return batch.read_states
        hidden = self.base(batch)
        hidden_TD = hidden[0] if self.layout == "flat" else hidden[batch.inputs["attention_mask"].bool()]
        return hidden_TD[batch.read_tokens]

    @property
    def reads_apart(self) -> bool:
        """Whether what the head reads can be had apart from the head: not of rows in the padded layout."""
        return self.reads == "token" or self.layout == "flat"

    def read(self, batch: Batch) -> torch.Tensor:
        """Return [U, D]: all that the head reads, of rows or of tokens."""
        if self.reads == "token":
            return self.hidden(batch)
        return row_states(inner(self.model), self.base(batch)[0], batch)

    def head(self, hidden_UD: torch.Tensor) -> torch.Tensor:
        """Return [U, K]: what the model's head makes of hidden states, each for itself."""
        num_read = len(hidden_UD)
        hidden_UD = functional.pad(hidden_UD, (0, 0, 0, -num_read % self.shapes.tokens))
        with self.having_run(hidden_UD[None]):
            ids = torch.zeros((1, len(hidden_UD)), dtype=torch.long, device=hidden_UD.device)
            scores_1UK: torch.Tensor = inner(self.model)(input_ids=ids).logits
        scores_UK = scores_1UK.squeeze(0)
        return scores_UK if len(scores_UK) == num_read else scores_UK[:num_read]

    @cached_property
    def num_outputs(self) -> int:
        """K: the size of the vocabulary for a language model, else the number of labels."""
        output: Any = self._anatomy.output_embeddings
        if output is not None:
            return int(output.weight.shape[0])
        config: Any = inner(self.model).config
        return int(config.num_labels)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters that ``head`` uses; tied output embeddings are among them."""
        return [parameter for parameter in self._outside_base if parameter.requires_grad]

    @cached_property
    def _anatomy(self) -> Anatomy:
        return Anatomy.of(self.model)

    @cached_property
    def _base(self) -> nn.Module:
        return self._anatomy.base

    @cached_property
    def _outside_base(self) -> list[nn.Parameter]:
        whole: Any = inner(self.model)
        within = {id(parameter) for parameter in self._base.parameters()}
        output = self._anatomy.output_embeddings
        tied = [] if output is None else [one for one in output.parameters() if id(one) in within]
        return [*tied, *(one for one in whole.parameters() if id(one) not in within)]

    @cached_property
    def switches(self) -> dict[str, bool]:
        """Arguments of the base model that switch off what training has no use for: decoders would fill a cache."""
        takes_cache = "use_cache" in inspect.signature(self._base.forward).parameters
        return {"use_cache": False} if takes_cache else {}


@cache
def _kind_of_output() -> Any:
    """Return the class of what a base model gives: last hidden states, and nothing under whatever other name."""
    from transformers.modeling_outputs import BaseModelOutput

    class Given(BaseModelOutput):
        def __getattr__(self, name: str) -> None:
            if name.startswith("__"):
                raise AttributeError(name)

    return Given


def row_scores(model: Any, hidden_TD: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Apply a sequence-classification head to what represents each row of a flat batch: [B, K].

    Covers the head designs of ``transformers``: a ``score`` on the last token (decoders);
    on the first token a pooler and classifier (BERT), a classification head module
    (RoBERTa), ``pre_classifier`` (DistilBERT) or ``head`` with mean or first pooling
    (ModernBERT). A wrong guess cannot pass unseen: see ``choose_layout``.
    """
    return row_head(model, row_states(model, hidden_TD, batch))


def row_states(model: Any, hidden_TD: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return [B, D]: what represents each row of a flat batch, its last token, its first one, or the mean of all."""
    if hasattr(model, "score"):
        return hidden_TD[batch.last_tokens]
    if _has_mean_head(model) and model.config.classifier_pooling == "mean":
        return _mean_rows(hidden_TD, batch)
    return hidden_TD[batch.first_tokens]


def row_head(model: Any, states_BD: torch.Tensor) -> torch.Tensor:
    """Apply a sequence-classification head to what represents each row: [B, K]."""
    if hasattr(model, "score"):
        return _tensor(model.score(states_BD))
    if hasattr(model, "pre_classifier"):
        return _tensor(model.classifier(model.dropout(torch.relu(model.pre_classifier(states_BD)))))
    if _has_mean_head(model):
        return _tensor(model.classifier(model.drop(model.head(states_BD))))
    pooler = Anatomy.of(model).pooler
    if pooler is not None:
        return _tensor(model.classifier(model.dropout(pooler(states_BD[:, None]))))
    return _tensor(model.classifier(states_BD[:, None]))


def _has_mean_head(model: Any) -> bool:
    return hasattr(model, "head") and hasattr(model, "drop")


def tokens_of_rows(model: Any, batch: Batch) -> torch.Tensor | None:
    """Return the tokens that ``row_scores`` reads, [B] ascending; None for all."""
    if hasattr(model, "score"):
        return batch.last_tokens
    averages = _has_mean_head(model) and model.config.classifier_pooling == "mean"
    return None if averages else batch.first_tokens


def _tensor(scores: Any) -> torch.Tensor:
    assert isinstance(scores, torch.Tensor)
    return scores


def _mean_rows(hidden_TD: torch.Tensor, batch: Batch) -> torch.Tensor:
    lengths = batch.last_tokens - batch.first_tokens + 1
    row_of_token = torch.repeat_interleave(
        torch.arange(len(lengths), device=hidden_TD.device), lengths, output_size=batch.num_tokens
    )
    real_TD = hidden_TD[: batch.num_tokens]
    total_BD = hidden_TD.new_zeros(len(lengths), hidden_TD.shape[1]).index_add(0, row_of_token, real_TD)
    return total_BD / lengths[:, None]
