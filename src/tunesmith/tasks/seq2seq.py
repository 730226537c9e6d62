"""Text to text: translation, summaries, and whatever else is to be made of a text.

By an encoder with a decoder, or, through a prompt, by a model that only goes on with texts.

Shapes: N rows, U tokens read in a micro-batch, K tokens of the vocabulary, R replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from tunesmith import metrics
from tunesmith.config.base import BY_DATA, BY_ITSELF
from tunesmith.data.encoded import Array, Encoded, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.text_to_text import SOURCE, SOURCE_ROLE, TARGET, TARGET_ROLE, TextToText, named_pair, pair_roles
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import writes_from_encoder
from tunesmith.tasks import losses, rules_of_thumb, text_pairs
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Writer
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.causal_lm import CausalLM
from tunesmith.tasks.prompted_texts import conversation, conversations
from tunesmith.tasks.source_encoding import SourceEncoder
from tunesmith.tasks.token_scores import (
    ANSWER_METRICS,
    TokenByToken,
    answer_figures,
    answer_outputs,
    answered_like,
    decoded,
    row_sums,
)
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Via = Literal["encoder_decoder", "prompt"]


class Seq2Seq(TokenByToken, Writer):
    """Make one text of another: a translation, a summary, whatever the rows show."""

    name: Literal["seq2seq"] = "seq2seq"

    title: ClassVar[str] = "Text to text"

    prefix: str | None = None
    """Text before every source, such as `"summarize: "` for T5; what is asked of a model that is prompted."""
    via: Via | None = Field(default=None, json_schema_extra=BY_DATA)
    """How a target is written: by a decoder beside an encoder (`encoder_decoder`), or as the answer to a `prompt` by a
    model that only goes on with texts; what the model is decides when not given."""
    source_language: str | None = None
    """Code of the language that is read, as the model's tokenizer writes it (`en_XX`, `eng_Latn`): for models that know
    several."""
    target_language: str | None = None
    """Code of the language that is written; answers of models that know several begin with it."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all tokens (Szegedy et al. 2016); 0.1 is usual for translation."""
    max_target_length: Annotated[int, Field(ge=2)] | None = None
    """Longest target in tokens, special ones included; that of sources when not given."""
    most_length_ratio: Annotated[float, Field(gt=1)] | None = None
    """Leave out rows of which one side is more than so many times as long as usual beside the other one."""
    num_beams: Annotated[int, Field(ge=1, le=64)] | None = None
    """Beams of the search for an answer; the model's own setting, mostly 1, when not given."""
    length_penalty: float | None = None
    """The score of a beam is divided by its length to this power: the higher, the more are longer answers preferred."""
    no_repeat_ngram: Annotated[int, Field(ge=0)] | None = None
    """So many tokens in a row never come twice in an answer; 0 for no such rule."""
    judged_by: Literal["bleu", "rouge_l"] | None = Field(default=None, json_schema_extra=BY_DATA)
    """The figure that counts most: `bleu` where targets are about as long as sources, `rouge_l` where they are shorter
    when not given."""
    template: str | None = None
    """How prompts are written: the model's own chat template when not given; `chatml`; a Jinja file; or Jinja text."""
    system: str | None = None
    """System message of prompts."""
    decoder_start: int | Literal["last"] | None = Field(default=None, json_schema_extra=BY_ITSELF)
    """What the decoder reads first: a token, or the last one of the target."""
    first_token: int | None = Field(default=None, json_schema_extra=BY_ITSELF)
    """The special token that every target begins with (a language, mostly), where there is one."""
    usual_ratio: float | None = Field(default=None, json_schema_extra=BY_ITSELF)
    """Length of a target beside its source, in UTF-8 bytes, in the middle of all training rows."""

    roles: ClassVar[tuple[Role, ...]] = (SOURCE_ROLE, TARGET_ROLE)
    truths: ClassVar[tuple[str, ...]] = (TARGET,)
    inputs: ClassVar[tuple[str, ...]] = (SOURCE,)
    not_encoded: ClassVar[frozenset[str]] = frozenset(
        ["label_smoothing", "num_beams", "length_penalty", "no_repeat_ngram", "judged_by"]
    )
    answer_name: ClassVar[str] = "text"
    usual_answers: ClassVar[int] = 500
    answer_metrics: ClassVar[frozenset[str]] = frozenset(ANSWER_METRICS)
    most_epochs: ClassVar[int] = 10
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "perplexity": False,
        "token_accuracy": True,
        **dict.fromkeys(ANSWER_METRICS, True),
    }

    @property
    def rival(self) -> Literal["untuned", "rule"]:  # type: ignore[override]
        """A rule, such as copying the source or its first sentences; of a model that is prompted, the model itself."""
        return "untuned" if self.via == "prompt" else "rule"

    def wanted_steps(self, longer: int = 1) -> int:
        return longer**2 * 1500  # two languages and how they go together are much to learn from nothing

    # ---- columns ---------------------------------------------------------------------------------

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return TextToText

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        return pair_roles(profiles, overrides)

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        source, target = profiles[SOURCE], profiles[TARGET]
        names = f"'{source.name}' and '{target.name}'"
        if source.name in target.tags_of:
            return 0.3, f"column '{target.name}' holds a tag for every token of '{source.name}'"
        if named_pair({source.name: source, target.name: target}) is None:
            return 0.02, f"columns {names} are two texts, and nothing says that one is made of the other"
        return 0.98, f"column '{target.name}' is what is made of '{source.name}', by their names"

    def bind(self, columns: Columns) -> Self:
        """Note how long targets are beside their sources, and which figure counts."""
        ratio = self.usual_ratio or text_pairs.usual_ratio(columns[SOURCE], columns[TARGET])
        return self.changed(
            usual_ratio=ratio,
            judged_by=self.judged_by or ("rouge_l" if ratio < text_pairs.SHORT else "bleu"),
        )

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report sides whose lengths do not go together, row by row and as a whole."""
        if self.usual_ratio is None or TARGET not in columns:
            return []
        return text_pairs.check(split, columns, self.usual_ratio, are_translations=self.judged_by == "bleu")

    # ---- the model -------------------------------------------------------------------------------

    def suited_to(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Note what the model is, and where its decoder begins.

        Raises ``InputError`` where it is another model than ``via`` says, or languages are not known to it.
        """
        via: Via = "encoder_decoder" if writes_from_encoder(model) else "prompt"
        if self.via not in (None, via):
            raise InputError(
                f"task.via is {self.via}, and {type(model).__name__} is no such model.",
                f"Set task.via to {via}, or leave it out.",
            )
        if via == "prompt":
            return self.changed(via=via)
        if self.decoder_start is not None:
            return self
        encoder = self._encoder(tokenizer)
        try:
            start = Anatomy.of(model).decoder_start
        except ValueError as error:
            message = f"{type(model).__name__} cannot be trained to write: {error}."
            raise InputError(message, "Use a model of the T5, BART, mBART or Marian family.") from error
        return self.changed(via=via, decoder_start=start, first_token=encoder.first_token())

    def adapt(self, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
        """Set the tokenizer's languages, or its chat template where the model is prompted."""
        if self.via == "prompt":
            return self._chat.adapt(tokenizer)
        self._encoder(tokenizer)
        return []

    def head(self) -> HeadSettings:
        if self.via == "prompt":
            return HeadSettings("AutoModelForCausalLM", None, default_max_length=1024)
        other = "" if self.via else "AutoModelForCausalLM"
        return HeadSettings("AutoModelForSeq2SeqLM", None, default_max_length=512, other_class=other)

    @property
    def _chat(self) -> CausalLM:
        """The task as one of conversations, each a source with its target as the answer."""
        return CausalLM(form="chat", train_on="last", template=self.template, system=self.system)

    def _encoder(self, tokenizer: PreTrainedTokenizerBase) -> SourceEncoder:
        return SourceEncoder.of(tokenizer, self.source_language, self.target_language)

    # ---- rows to numbers -------------------------------------------------------------------------

    @property
    def shortening(self) -> str:
        return self._chat.shortening if self.via == "prompt" else "lose their end"

    def vocabulary_texts(self, columns: Columns) -> Iterable[str]:
        for source, targets in zip(columns[SOURCE], columns[TARGET], strict=True):
            yield self._read(source)
            yield from targets or ()

    def _read(self, source: str | None) -> str:
        """Return what is read of a source."""
        return f"{self._prefix}{source or ''}"

    @property
    def _prefix(self) -> str:
        """What is put before a source: a prompted model is told what is wanted, where nobody else says it."""
        if self.prefix is not None or self.via != "prompt":
            return self.prefix or ""
        if self.source_language and self.target_language:
            return f"Translate from {self.source_language} to {self.target_language}:\n\n"
        return "Summarize the following text:\n\n" if self.judged_by == "rouge_l" else ""

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise rows: a sequence for every target, or for the source alone where there are no targets.

        Rows whose lengths do not fit are left out where ``most_length_ratio`` asks for it.
        """
        sources = [self._read(source) for source in columns[SOURCE]]
        targets = [list(texts or ()) for texts in columns[TARGET]] if TARGET in columns else None
        left_out: dict[str, tuple[int, ...]] = {}
        if targets is not None and self.most_length_ratio is not None and self.usual_ratio is not None:
            unfit = text_pairs.unfit(columns[SOURCE], targets, self.usual_ratio, self.most_length_ratio)
            left_out = {"have sides of lengths that do not fit (task.most_length_ratio)": unfit} if unfit else {}
            targets = [[] if row in set(unfit) else texts for row, texts in enumerate(targets)]
        if self.via == "prompt":
            found = self._chat.encode(conversations(sources, columns, targets), tokenizer, max_length)
            if targets is not None:
                found = text_pairs.regrouped(found, list(map(len, targets)))
        else:
            longest = min(self.max_target_length or max_length, max_length)
            found = self._encoder(tokenizer).encode(
                sources, targets, self.decoder_start, max_length=max_length, max_target_length=longest
            )
        return text_pairs.with_left_out(found, left_out)

    # ---- loss ------------------------------------------------------------------------------------

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the cross-entropy summed over the tokens of the targets; over ``count_units`` it is torch's mean."""
        return losses.cross_entropy_sum(scores_UK, targets["labels"], None, self.label_smoothing)

    # ---- scores to answers and numbers -----------------------------------------------------------

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return perplexity and token accuracy of the targets, and of written answers their own metrics."""
        found: dict[str, FloatArray] = {}
        if "loss" in outputs:
            loss, right = outputs["loss"], outputs["right"]
            tokens_N = as_ragged(loss).lengths.astype(np.float64)
            no_bytes_N = np.zeros(len(tokens_N))
            measured = metrics.language_metrics(row_sums(loss), tokens_N, row_sums(right), no_bytes_N, weights_RN)
            found = {name: measured[name] for name in ("perplexity", "token_accuracy")}
        return found | answer_figures(outputs, weights_RN)

    def headline(self, measured: Collection[str]) -> str:
        """Return the metric of written answers that counts; the perplexity where none were written."""
        wanted = self.judged_by or "bleu"
        return wanted if wanted in measured else self.main_metric()

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return for each row the ``answer`` written, where any was, and the ``perplexity`` of its targets.

        Given ``columns``, also the source as the ``prompt`` and the first target as the ``reference``.
        """
        found = decoded(outputs)
        if columns is not None:
            for row, source in zip(found, columns[SOURCE], strict=True):
                row["prompt"] = source
            for row, texts in zip(found, columns.get(TARGET) or (), strict=False):
                row["reference"] = texts[0] if texts else None
        return found

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return how much was judged: ``num_tokens``, and ``num_answers`` where some were written."""
        found: dict[str, Any] = {"num_tokens": len(as_ragged(targets["labels"]).values)}
        if "answers" in outputs:
            found["num_answers"] = sum(answer is not None for answer in outputs["answers"])
        return found

    def footnotes(self, outputs: Outputs, columns: Columns) -> dict[str, Any]:
        """Return the ``signatures`` of the metrics of written answers, by which others' figures can be compared."""
        if "answers" not in outputs or TARGET not in columns:
            return {}
        pairs = zip(outputs["answers"], columns[TARGET], strict=True)
        return {"signatures": metrics.signatures([texts for answer, texts in pairs if answer is not None])}

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        """Copy the source (translation), or take the sentences of it that suit the training rows best (summaries)."""
        if self.judged_by == "bleu":
            name, answers = "copying the source", [source or "" for source in rows[SOURCE]]
        else:
            name, answers = rules_of_thumb.best_extract(train[SOURCE], train[TARGET], rows[SOURCE])
        return name, dict(self.judge_answers(answers, rows))

    # ---- generation ------------------------------------------------------------------------------

    @property
    def shares_room(self) -> bool:
        return self.via == "prompt"

    def encode_prompts(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise sources: what an encoder reads, or prompts up to where the answer begins."""
        sources = [self._read(source) for source in columns[SOURCE]]
        if self.via == "prompt":
            return self._chat.encode_prompts(conversations(sources, columns), tokenizer, max_length)
        return self._encoder(tokenizer).encode_sources(sources, max_length)

    def exchanges(self, columns: Columns) -> list[list[Mapping[str, Any]]] | None:
        if self.via != "prompt":
            return None
        rows = zip(columns[SOURCE], columns[TARGET], strict=True)
        return [list(conversation(self._read(source), texts[0])) if texts else [] for source, texts in rows]

    def stop_tokens(self, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
        if self.via == "prompt":
            return self._chat.stop_tokens(tokenizer)
        return self._encoder(tokenizer).ends()

    def search(self) -> Mapping[str, Any]:
        given = {
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            "no_repeat_ngram_size": self.no_repeat_ngram,
            "forced_bos_token_id": self.first_token,
            "decoder_start_token_id": None if self.decoder_start == "last" else self.decoder_start,
        }
        return {name: value for name, value in given.items() if value is not None}

    def judge_answers(self, answers: Sequence[str | None], columns: Columns) -> dict[str, Array]:
        """Return ``answers`` and, where there are targets, what ``measure`` needs of them; all targets count.

        Raises ``MissingExtraError`` where the packages that judge answers are not installed.
        """
        references = columns.get(TARGET) or [None] * len(answers)
        return answer_outputs(answers, answers, references)

    def as_answered(self, outputs: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
        return answered_like(outputs, like)

    # ---- said of the model -----------------------------------------------------------------------

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        if self.via == "prompt":
            return self._chat.card(inputs, tokenizer)
        is_summary = self.judged_by == "rouge_l"
        return TaskCard(
            purpose="sums a text up" if is_summary else "makes another text of a text",
            pipeline_tag="summarization" if is_summary else "translation",
            limits=("It writes what is likely after its training; that need not be true to the text.",),
            code=text_pairs.usage_code(self._prefix, self.source_language, self.target_language, self.search()),
            imports=(),
        )
