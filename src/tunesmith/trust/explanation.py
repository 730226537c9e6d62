"""Why a run answers as it does: the words of a text, each with what it added to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import DECODER, Encoded, Ragged
from tunesmith.engine.encoder_generation import search_settings
from tunesmith.engine.generate import generate
from tunesmith.engine.predict import predict
from tunesmith.models.wrapping import inner, takes_images, writes_from_encoder
from tunesmith.run import Run, Writing
from tunesmith.run.written_answers import encode_prompts, sampling_for
from tunesmith.tasks.base import Columns
from tunesmith.trust.attribution import METHODS, Question
from tunesmith.trust.explained_target import EXPLAINED, Target, target_of, written_target
from tunesmith.trust.faithfulness import Faithfulness, faithfulness
from tunesmith.trust.questioned_model import QuestionedModel, network_to_question
from tunesmith.trust.questioned_model import Sequence as Asked
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import GenerationConfig

DEFAULT_METHOD = "integrated-gradients"
ANSWER_TOKENS = 32
"""Longest written answer that is explained, in tokens."""
_NOT_SHOWN = ("probabilities", "n_best", "tokens", "tags", "entities")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One text with its words' scores; plain values, as ``--json`` writes them."""

    texts: tuple[str, ...]
    """What was given."""
    prediction: Mapping[str, Any]
    """What the run answers, in short."""
    target: str
    """What is explained: a label, the tag of a word, an answer."""
    unit: str
    """Of the scores: ``log-odds``, or ``value``, the user's units."""
    method: str
    tokens: tuple[str, ...]
    """The words (characters of Chinese) as the model reads them."""
    scores: tuple[float, ...]
    """What each added to the target; below 0 where it spoke against it."""
    spaces: tuple[bool, ...]
    """Whether a space stands before each word."""
    value: float
    """The target's number, in ``unit``."""
    value_without: float
    """The same where every word is a blank."""
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Scores for single parts of the target, whose mean ``scores`` are: where an answer begins and ends, its tokens."""
    faithfulness: Mapping[str, Faithfulness] = field(default_factory=dict)
    """By method."""
    row: int = 1
    """Which of the given texts it is, from 1 on."""

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


class Explainer:
    """A run's model, loaded to be explained."""

    def __init__(
        self,
        run: Run,
        *,
        methods: Sequence[str] = (DEFAULT_METHOD,),
        max_new_tokens: int = ANSWER_TOKENS,
        seed: int = 0,
    ) -> None:
        """Load the model.

        Args:
            run: A run of one model that reads texts.
            methods: Names of ``METHODS``; the first is the one whose scores are given, the others have their
                faithfulness measured beside it.
            max_new_tokens: The longest written answer, in tokens.
            seed: Of the orders that are drawn.

        Raises:
            InputError: The run cannot be explained, or there is no such method.
        """
        if unknown := [name for name in methods if name not in METHODS]:
            raise InputError(
                f"There is no way of explaining called {', '.join(unknown)}.", f"Choose of {', '.join(METHODS)}."
            )
        self.methods = tuple(methods)
        self.task = run.task
        self._run, self._max_new_tokens, self._seed = run, max_new_tokens, seed
        self.network = network_to_question(run)
        if takes_images(self.network.model) or self.network.scorer.pooling is not None:
            raise InputError(
                f"The answers of {run.folder} cannot be explained.", f"What can be explained: {EXPLAINED}."
            )
        self._model = QuestionedModel(self.network.model, self.network.tokenizer)

    def explain(
        self, columns: Columns, *, label: str | None = None, word: str | None = None, parts: bool = True, row: int = 1
    ) -> Explanation:
        """Explain the answer to the only row of ``columns``.

        ``label`` and ``word`` choose another target than what was predicted (see ``target_of``). Without ``parts`` the
        parts of a target have no scores of their own, which takes less time.

        Raises ``InputError`` for texts that the model does not read whole, and for targets that there are not.
        """
        data, target, prediction, before = self._target(columns, label, word)
        asked = Asked.of(self.network, data, target.sequence)
        with self._model.asked():
            question = Question.of(
                self._model, asked, target, num_scores=self.network.scorer.num_outputs, before=before
            )
            if not question.open_words:
                raise InputError("The text has no words to explain.", "Give a text with words.")
            by_method = {name: METHODS[name](question, target.value, self._seed) for name in self.methods}
            scores = by_method[self.methods[0]]
            found = {name: faithfulness(question, own, self._seed) for name, own in by_method.items()}
            of_parts = {
                name: tuple(METHODS[self.methods[0]](question, value, self._seed).tolist())
                for name, value in (target.parts if parts else {}).items()
            }
            is_there = np.array([[True], [False]]).repeat(len(question.open_words), axis=1)
            whole, blank = question.values_with(is_there).tolist()
        words = question.open_words
        return Explanation(
            texts=tuple(str(text or "") for texts in self.task.texts(columns).values() for text in texts),
            prediction=prediction,
            target=target.name,
            unit="log-odds" if target.is_odds else "value",
            method=self.methods[0],
            tokens=tuple(one.text for one in words),
            scores=tuple(scores.tolist()),
            spaces=tuple(one.has_space for one in words),
            value=whole,
            value_without=blank,
            parts=of_parts,
            faithfulness={name: one for name, one in found.items() if one is not None},
            row=row,
        )

    def _target(
        self, columns: Columns, label: str | None, word: str | None
    ) -> tuple[Encoded, Target, dict[str, Any], int | None]:
        """Return the row as it is read, what is explained of it, what was predicted, and where an answer begins."""
        if self.task.writer is not None:
            return self._written(columns, label or word)
        data = self.network.encode(self.task, columns)
        if data.num_truncated:
            raise InputError(
                f"The text is longer than the {self.network.max_length} tokens that the model reads; what it does not "
                "read cannot be explained.",
                "Give a shorter text, or a part of it.",
            )
        scored = predict(self.network.scorer, self.network.collate, self.task, data, self._budget)
        answer = self.task.spell(self.task.decode(scored.outputs, columns), self.network.tokenizer)[0]
        target = target_of(self.task, scored.outputs, data, columns, label=label, word=word)
        prediction = {name: value for name, value in answer.items() if name not in _NOT_SHOWN}
        if "entities" in answer:
            prediction["entities"] = answer["entities"]
        return data, target, prediction, None

    @property
    def _budget(self) -> int:
        return self._run.config.compute.micro_batch_tokens

    def _written(self, columns: Columns, asked: str | None) -> tuple[Encoded, Target, dict[str, Any], int | None]:
        """Have an answer written, and explain its tokens by the words of what was asked."""
        network, task = self.network, self.task
        if asked is not None:
            raise InputError(f"--label or --word {asked}: the run writes answers; these have none.", "Leave it out.")
        prompt = encode_prompts(network, task, columns, self._max_new_tokens)[0].tolist()
        sampling = sampling_for(network, task, Writing(self._max_new_tokens))
        answer = generate(network.model, Ragged.from_rows([prompt]), sampling)[0]
        if not answer:
            raise InputError("The model writes nothing to this text.", "Give another text.")
        tokenizer = network.tokenizer
        prediction = {"answer": str(tokenizer.decode(answer, skip_special_tokens=True))}
        if writes_from_encoder(network.model):
            settings = search_settings(inner(network.model), sampling)
            data, answer, before = *_after_encoder(prompt, answer, settings), None
        else:
            data, before = _after_prompt(prompt, answer), len(prompt)
        target = written_target(answer, [str(tokenizer.decode([token])) for token in answer])
        return data, target, prediction, before


def _after_prompt(prompt: list[int], answer: list[int]) -> Encoded:
    """Return a prompt with its answer, whose tokens are read where the model chose them: one place before each."""
    inputs = {"input_ids": Ragged.from_rows([[*prompt, *answer]])}
    return Encoded(inputs, {}, reads=Ragged.from_rows([range(len(prompt) - 1, len(prompt) + len(answer) - 1)]))


def _after_encoder(source: list[int], answer: list[int], settings: GenerationConfig) -> tuple[Encoded, list[int]]:
    """Return a source with its answer in the decoder, and those of its tokens that the model chose.

    A first token that every answer begins with (a language) was not chosen.
    """
    start = settings.bos_token_id if settings.decoder_start_token_id is None else settings.decoder_start_token_id
    first = int(answer[0] == settings.forced_bos_token_id and len(answer) > 1)
    inputs = {"input_ids": Ragged.from_rows([source]), f"{DECODER}input_ids": Ragged.from_rows([[start, *answer[:-1]]])}
    return Encoded(inputs, {}, reads=Ragged.from_rows([range(first, len(answer))])), answer[first:]
