"""From a batch to the scores its loss reads, in either layout.

The head is not taken apart: the model's own ``forward`` is called with its base model standing in
for itself, giving hidden states already computed. What the authors do around the output layer (a
pooling, a transform, a norm, a scale, a cap) is therefore done.

A task that reads rows gets one vector of scores a row: in the padded layout from the model as
``transformers`` wrote it, in the flat one from its base model and the model's own head, which is given
the one state that represents each row as a row of a single token. Of a model without a head (``pooling``)
a row's scores are the D numbers of its pooled states.

A task that reads tokens gets scores where it reads, and nowhere else: the base model runs on
everything, the head on the hidden states of the tokens read.

Shapes: B rows, T tokens, U tokens read, D numbers per hidden state, K scores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.answering import Answering
from tunesmith.engine.attention import borders_of
from tunesmith.engine.batch import EXACT, Batch, Borders, LayoutName, Shapes
from tunesmith.engine.blocks.block import Reading, reading
from tunesmith.engine.first_output import first_output
from tunesmith.engine.mixed_embeddings import mixed_embeddings
from tunesmith.engine.pooling import pooled_flat, pooled_padded
from tunesmith.engine.prefix import Prefix
from tunesmith.engine.sharding.model import Sharding
from tunesmith.engine.stand_ins import standing_in
from tunesmith.kernels.noise import keyed_by
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.head_scores import head_inputs, head_scores
from tunesmith.models.observation import RowReading
from tunesmith.models.wrapping import has_virtual_tokens, inner, takes_images, writes_from_encoder

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
    pooling: RowReading | None = None
    """How a row's last hidden states become its scores, where the model has no head that makes these of them."""
    packs: bool = False
    """Whether linear layers are packed for predictions: of models that are not trained any more."""
    answering: Answering | None = None
    """What it takes that the model writes answers, for tasks that learn from them."""
    sharding: Sharding | None = None
    """How the model's weights lie in parts over several processes; None where each process has all of them."""

    def __post_init__(self) -> None:
        if self.reads == "row" and self.layout == "flat":
            _ = self._row_reading  # looked at while nothing is going on, and the weights are still sound

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return ``scores_UK``: K scores for every row (or every token read), in batch order."""
        if self.reads_apart or batch.read_states is not None:
            return self.head(self.read(batch))
        return head_scores(self.model(**head_inputs(self.model, batch.inputs)))

    def set_training(self) -> None:
        """Switch dropout on, but for what is frozen."""
        is_set = self._base.training if self.prefix is None else self.prefix.is_resting
        if self.model.training and is_set:
            return  # as it was left: walking through hundreds of modules takes longer than training a head
        self.model.train()
        if self.prefix is not None:
            self.prefix.rest()

    def compute(self, call: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return what ``call`` makes by passes of this scorer, to be differentiated; inside ``surrounding``."""
        return call() if self.sharding is None else self.sharding(call)

    def at_hand(self) -> AbstractContextManager[None]:
        """Surround passes of which nothing is differentiated, of whatever number of batches."""
        return nullcontext() if self.sharding is None else self.sharding.at_hand()

    @contextmanager
    def without_gradients(self) -> Iterator[None]:
        """Surround passes as ``at_hand``, and keep no graph of them."""
        # What is put together from parts in inference mode could not be trained on afterwards.
        with torch.inference_mode() if self.sharding is None else torch.no_grad(), self.at_hand():
            yield

    @contextmanager
    def surrounding(self, batch: Batch) -> Iterator[None]:
        """Surround the passes of ``batch``: attention learns its borders, tokens are mixed, the prefix stands aside."""
        with ExitStack() as stack:
            if batch.borders is not None:
                stack.enter_context(borders_of(batch.borders))
                stack.enter_context(reading(self._reading(batch, batch.borders)))
            stack.enter_context(self._noise_of(batch))
            stack.enter_context(mixed_embeddings(self.model, batch))
            if batch.states is not None:
                assert self.prefix is not None
                stack.enter_context(self.prefix.standing_aside(batch.states))
            yield

    def _noise_of(self, batch: Batch) -> AbstractContextManager[None]:
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
    def _having_run(self, hidden: torch.Tensor, pooled: torch.Tensor | None = None) -> Iterator[None]:
        """Let ``hidden`` (and ``pooled``, of a row each) be what the base model gives inside the block: it has run."""
        given = _kind_of_output()(last_hidden_state=hidden, pooler_output=pooled)
        with ExitStack() as stack:
            if self._top is not self._base:  # nothing is read of the encoder once the decoder has run
                encoder: nn.Module = self._anatomy.whole.get_encoder()
                stack.enter_context(standing_in(encoder, lambda *_, **__: given))
            stack.enter_context(standing_in(self._top, lambda *_, **__: given))
            yield

    def _reading(self, batch: Batch, borders: Borders) -> Reading | None:
        """Return which tokens' last hidden states are read; None where all may be."""
        tokens = batch.read_tokens
        if self.reads == "row":
            tokens = {"first": batch.first_tokens, "last": batch.last_tokens}.get(self._row_reading or "")
        if tokens is None:
            return None
        return Reading.of(tokens if batch.laid_out is None else tokens.sort().values, borders)

    def base(self, batch: Batch) -> torch.Tensor:
        """Return the base model's last hidden states: [1, T, D] in the flat layout, [B, L, D] in the padded one."""
        captured = None if self.graphs is None else self.graphs(batch)
        if captured is not None:
            return captured
        pooler = self._anatomy.pooler
        with ExitStack() as stack:
            if pooler is not None:  # of the whole flat row it makes nothing that anybody reads
                stack.enter_context(standing_in(pooler, lambda *_, **__: None))
            given = head_inputs(self.model, batch.inputs) if self._sees else batch.inputs
            return self._enter({**given, **self.switches})

    def _enter(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """Return the base model's last hidden states; the only door by which anything enters it.

        What is around a model may put something before every row. Then the outermost module is called, until the
        base model has run, and the states of what was put there are left out.
        """
        hidden: torch.Tensor
        if not self._has_virtual_tokens:
            if self._top is self._base:
                hidden = self._base(**inputs).last_hidden_state
            else:
                hidden = first_output(self._top, lambda: self._base(**inputs)).last_hidden_state
            return hidden
        hidden = first_output(self._base, lambda: self.model(**inputs)).last_hidden_state
        return hidden[:, -inputs["input_ids"].shape[1] :]

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Return [U, D]: the base model's last hidden states of the tokens that the task reads."""
        hidden = self.base(batch)
        hidden_TD = hidden[0] if self.layout == "flat" else hidden[batch.read_mask]
        return hidden_TD[batch.read_tokens]

    @property
    def reads_apart(self) -> bool:
        """Whether what the head reads can be had apart from it: not of padded rows, where there is a head."""
        return self.reads == "token" or self.layout == "flat" or self.pooling is not None

    def read(self, batch: Batch) -> torch.Tensor:
        """Return [U, D]: all that the head reads, of tokens, or of each row the one state that represents it."""
        if batch.read_states is not None:
            return batch.read_states
        return self.hidden(batch) if self.reads == "token" else self._rows(self.base(batch), batch)

    def _rows(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return [B, D]: of every row what its head reads, one state or the mean of all."""
        reading = self._row_reading
        if reading is None:
            raise NotImplementedError("its head reads neither one of a row's hidden states nor their mean")
        if self.layout == "padded":
            return pooled_padded(hidden, batch.read_mask, reading)
        return pooled_flat(hidden[0], batch, reading)

    def head(self, states_UD: torch.Tensor) -> torch.Tensor:
        """Return [U, K]: what the model's head makes of hidden states, each for itself; without one, these."""
        if self.pooling is not None:
            return states_UD
        return self._head_of_rows(states_UD) if self.reads == "row" else self._head_of_tokens(states_UD)

    def _head_of_rows(self, states_BD: torch.Tensor) -> torch.Tensor:
        """Give the head rows of a single token, which is the first one, the last one and the mean of all."""
        states_B1D = states_BD[:, None]
        pooler = self._anatomy.pooler
        with self._having_run(states_B1D, None if pooler is None else pooler(states_B1D)):
            whole: Any = inner(self.model)
            no_padding = int(whole.config.get_text_config().pad_token_id == 0)
            ids = torch.full((len(states_BD), 1), no_padding, device=states_BD.device)
            return head_scores(whole(input_ids=ids, attention_mask=torch.ones_like(ids)))

    def _head_of_tokens(self, hidden_UD: torch.Tensor) -> torch.Tensor:
        """Give the head one row of all tokens: it works on each for itself."""
        num_read = len(hidden_UD)
        hidden_UD = functional.pad(hidden_UD, (0, 0, 0, -num_read % self.shapes.tokens))
        with self._having_run(hidden_UD[None]):
            ids = torch.zeros((1, len(hidden_UD)), dtype=torch.long, device=hidden_UD.device)
            given = {"input_ids": ids, "decoder_input_ids": ids} if self._writes_from_encoder else {"input_ids": ids}
            scores_UK = head_scores(inner(self.model)(**given)).squeeze(0)
        return scores_UK if len(scores_UK) == num_read else scores_UK[:num_read]

    @cached_property
    def num_outputs(self) -> int:
        """K: the size of the vocabulary for a language model, else the number of labels; D where there is no head."""
        if self.pooling is not None:
            return self._anatomy.hidden_size
        output: Any = self._anatomy.output_embeddings
        if output is not None:
            return int(output.weight.shape[0])
        config: Any = inner(self.model).config
        return int(config.num_labels)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters that ``head`` uses; tied output embeddings are among them."""
        if self.sharding is not None:
            self.forget_parameters()  # in a pass they are others than between passes
        return [parameter for parameter in self._outside_base if parameter.requires_grad]

    def forget_parameters(self) -> None:
        """Let go of the model's parameters, which become others."""
        vars(self).pop("_outside_base", None)

    @cached_property
    def _anatomy(self) -> Anatomy:
        return Anatomy.of(self.model)

    @cached_property
    def _row_reading(self) -> RowReading | None:
        return self.pooling or self._anatomy.row_reading

    @cached_property
    def _has_virtual_tokens(self) -> bool:
        return has_virtual_tokens(self.model)

    @cached_property
    def _base(self) -> nn.Module:
        return self._anatomy.base

    @cached_property
    def _top(self) -> nn.Module:
        return self._anatomy.top

    @cached_property
    def _sees(self) -> bool:
        return takes_images(self.model)

    @cached_property
    def _writes_from_encoder(self) -> bool:
        return writes_from_encoder(self.model)

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
    """Return the class of what a base model gives: hidden states, pooled ones maybe, nothing under any other name."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    class Given(BaseModelOutputWithPooling):
        def __getattr__(self, name: str) -> None:
            if name.startswith("__"):
                raise AttributeError(name)

    return Given
