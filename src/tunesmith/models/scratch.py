"""What models trained from scratch share: a vocabulary from the training texts, weights from the seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from tunesmith.models.base import HeadOfRun, LoadedModel, ModelSource
from tunesmith.models.scratch_tokenizer import SPECIAL_TOKENS, TokenizerKind, learn_tokenizer
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from tunesmith.models.streaming import StreamSettings
    from tunesmith.types import HeadSettings


class ScratchSource(ModelSource):
    """A model whose weights and tokenizer are made here."""

    from_scratch: ClassVar[bool] = True
    is_plain: ClassVar[bool] = False
    default_learning_rate: ClassVar[float | None] = 3e-3

    writes: ClassVar[bool] = False
    """Whether the network writes texts, rather than scoring them: it then has no use for a mark where a text begins."""

    tokenizer: TokenizerKind = "auto"
    """How text is split: word, character (Chinese, Japanese, Thai), bpe, bytes (bpe of bytes), or auto (decided by the
    texts)."""
    vocabulary_size: Annotated[int, Field(ge=len(SPECIAL_TOKENS) + 1)] = 30_000
    """Most tokens in the vocabulary."""
    min_frequency: Annotated[int, Field(ge=1)] = 2
    """Tokens seen more rarely in the training texts are unknown."""
    lowercase: bool = True
    """Whether upper and lower case are the same."""
    embedding_size: Annotated[int, Field(ge=1)] = 256
    """Numbers per token that enter the network."""

    def network_config(self, settings: dict[str, Any]) -> PretrainedConfig:
        """Return the network's config, given what all networks need."""
        raise NotImplementedError

    def load(
        self,
        head: HeadSettings,
        texts: Iterable[str],
        seed: int,
        head_of_run: HeadOfRun | None = None,  # noqa: ARG002
        *,
        streaming: StreamSettings | None = None,  # noqa: ARG002
    ) -> LoadedModel:
        """Learn the tokenizer from ``texts`` and initialise the weights from ``seed``.

        Equal arguments give equal weights; the global random state is left as it was.
        Raises ``InputError`` when the texts are empty or the task needs another kind of head.
        """
        import torch
        import transformers

        from tunesmith.models.loading import CAUSAL, SEQ2SEQ, apply_head, class_for

        max_length = self.max_length or head.default_max_length
        tokenizer = learn_tokenizer(
            list(texts),
            self.tokenizer,
            vocabulary_size=self.vocabulary_size,
            min_frequency=self.min_frequency,
            lowercase=self.lowercase,
            max_length=max_length,
            writes=self.writes,
        )
        settings: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        if self.dropout is not None:
            settings["dropout"] = self.dropout
        config = self.network_config(settings)
        apply_head(config, head)
        auto_class = class_for(config, head)
        if auto_class is None or (self.writes and auto_class != SEQ2SEQ):
            is_language_model = {CAUSAL, SEQ2SEQ} & set(head.auto_classes)
            fitting = "sample:smollm2-135m-instruct" if is_language_model else "sample:minilm"
            raise InputError(
                f"The model '{self.name}' has no head for this task ({' or '.join(head.auto_classes)}).",
                f"Choose a pretrained model, such as {fitting}, or another task with --task.",
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = getattr(transformers, auto_class).from_config(config)
        return LoadedModel(model, tokenizer, max_length, f"{self.name}, from scratch")
