"""Pretrained models: from the hub, a local folder or GGUF file, a run, or a sample from the package index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from tunesmith.files.memory import free_memory
from tunesmith.models.base import HeadOfRun, LoadedModel, ModelSource
from tunesmith.models.hub_weights import HubWeights
from tunesmith.models.image_reader import text_part
from tunesmith.models.loading import (
    CAUSAL,
    class_for,
    load_config,
    load_reader,
    load_tokenizer,
    load_weights,
    load_weights_again,
)
from tunesmith.models.location import locate
from tunesmith.models.materialise import materialise
from tunesmith.models.model_checks import (
    check_causal,
    check_computing,
    check_saving,
    check_vocabulary,
    length_for,
)
from tunesmith.models.safety import check_model_folder
from tunesmith.models.vision_reader import IMAGE_TEXT
from tunesmith.models.weight_files import bytes_in_memory
from tunesmith.readable import size
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.models.model_folder import ModelFolder
    from tunesmith.models.streaming import StreamSettings
    from tunesmith.types import HeadSettings


class Pretrained(ModelSource):
    """A pretrained model: a hub id (``org/name``), a local folder or GGUF file, a run, or ``sample:minilm``.

    Of weights, only safetensors and GGUF are read, and no code that comes with a model is ever run.

    Rows are cut at ``max_length`` tokens. Without it, the limit is the smallest of the tokenizer's
    limit, the model's number of positions, and the task's own (512 where whole rows are classified:
    attention over longer rows costs more than it usually gains). A longer ``max_length`` may be
    given up to the model's number of positions.
    """

    revision: str | None = None
    """Branch, tag or commit of the hub repository."""

    def load(
        self,
        head: HeadSettings,
        texts: Iterable[str],  # noqa: ARG002
        seed: int,
        head_of_run: HeadOfRun | None = None,
        *,
        streaming: StreamSettings | None = None,
    ) -> LoadedModel:
        """Return the model in float32 with the task's head, in ``eval`` mode.

        Weights that the files lack (the head; sometimes the pooler) are initialised from ``seed``;
        equal seeds give equal weights, and the global random state is left as it was.

        Raises:
            InputError: The model is not found, refused (``tunesmith.models.safety``), damaged, or
                does not fit the task or ``max_length``.
        """

        def fits(found: HubWeights) -> None:
            if streaming is None:
                _require_memory(found.hub_id, found.memory_bytes)

        place = materialise(locate(self.name, self.revision, fits), head_of_run)
        check_model_folder(place.folder, tokenizer=head.reads_texts)
        place = place.identified()
        config = load_config(place.folder, head, dropout=self.dropout)
        head = replace(head, auto_class=class_for(config, head) or head.auto_class)
        tokenizer = load_reader(place.folder, config, head)
        model = _load_weights(place, config, head, seed, streaming)
        if self.dropout is not None:
            set_dropout(model, self.dropout)
        if head.reads_texts:
            check_vocabulary(model, tokenizer)
            let_padding_learn(model, tokenizer)
        check_computing(model, tokenizer, place.folder)
        if head.auto_class in (CAUSAL, IMAGE_TEXT):
            check_causal(model, place.folder)
        max_length = length_for(model, tokenizer, self.max_length, head)
        if (texts_read := text_part(tokenizer)) is not None:
            texts_read.model_max_length = max_length
        check_saving(model, place.folder)
        return LoadedModel(model, tokenizer, max_length, place.source)

    def load_again(self, loaded: LoadedModel, seed: int) -> LoadedModel:
        model = load_weights_again(loaded.model, seed)
        if self.dropout is not None:
            set_dropout(model, self.dropout)
        if (texts := text_part(loaded.tokenizer)) is not None:
            let_padding_learn(model, texts)
        return replace(loaded, model=model)

    def load_tokenizer(
        self, head_of_run: HeadOfRun | None = None, head: HeadSettings | None = None
    ) -> PreTrainedTokenizerBase:
        folder = materialise(locate(self.name, self.revision), head_of_run).folder
        if head is None or not head.reads_images:
            return load_tokenizer(folder)
        return load_reader(folder, load_config(folder, head), head)


def _load_weights(
    place: ModelFolder, config: PretrainedConfig, head: HeadSettings, seed: int, streaming: StreamSettings | None
) -> PreTrainedModel:
    """Return the model with its weights, in files where that is asked for; in memory if there is enough of it."""
    if streaming is not None:
        try:
            return load_weights(place, config, head, seed, streaming=streaming)
        except InputError:
            if not streaming.until_divided:
                raise  # of others nobody has asked for files: what is wrong with the model is said below
    _require_memory(str(place.folder), bytes_in_memory(place.folder))
    return load_weights(place, config, head, seed)


def _require_memory(place: str, needed: int) -> None:
    """Refuse to load weights for which there is not enough memory: the system would end the process on the way."""
    import psutil

    free = free_memory()
    if needed > free + psutil.swap_memory().free:
        raise InputError(
            f"The weights of {place} take {size(needed)} of memory, more than there is ({size(free)} are free).",
            "Train with --compute.offload cpu, which leaves them in files, and a method that leaves the base as it is "
            "(--method lora); or free memory, or choose a smaller model.",
        )


def let_padding_learn(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Where the padding token has another meaning too (an end token that pads), let its embedding be trained.

    Torch gives the embedding at ``padding_idx`` no gradient, and ``transformers`` sets that from the config.
    """
    other = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id)
    table = model.get_input_embeddings()
    if isinstance(table, nn.Embedding) and table.padding_idx is not None and table.padding_idx in other:
        table.padding_idx = None


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set the probability of every dropout module of ``model``."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = probability
