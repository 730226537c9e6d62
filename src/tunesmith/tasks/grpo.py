"""Reinforcement by rewards that can be checked: a model learns from its own answers, the better ones of a group.

Shapes: N rows, B questions of a step, G answers to each, A = B G, U tokens read in a micro-batch, R replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, field_validator

from tunesmith import metrics
from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.prompt_rows import PROMPT_ROLES, Prompts, prompt_roles
from tunesmith.tasks import prompt_encoding as encoding
from tunesmith.tasks.answer_rewards import (
    KINDS,
    RewardPart,
    has_number,
    is_right,
    names_of,
    require_parts,
    score_answers,
)
from tunesmith.tasks.asked_question import Question
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets
from tunesmith.tasks.causal_lm import CausalLM
from tunesmith.tasks.columns import places
from tunesmith.tasks.objective import Drawing, Following, Lesson, Objective, Written
from tunesmith.tasks.objectives import group_relative as objectives
from tunesmith.tasks.objectives.group_relative import ADVANTAGE, BEFORE, WEIGHT
from tunesmith.tasks.objectives.preference import REFERENCE, TokenLogProbabilities
from tunesmith.tasks.token_scores import row_means
from tunesmith.types import ColumnProfile, InputError, Problem, Role

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

FEWEST_TOKENS = 16
"""Room for a question, at least."""


class GRPO(CausalLM):
    """Answer such that a reward is earned: group relative policy optimisation (Shao et al. 2024)."""

    name: Literal["grpo"] = "grpo"  # type: ignore[assignment]

    title: ClassVar[str] = "Reinforcement by rewards"

    rewards: tuple[RewardPart, ...] = ()
    """What an answer is worth, the weighted sum of parts: `number` (the reference's number), `text`, `regex:PATTERN`,
    `length:TOKENS`, `FILE.py:FUNCTION`, `run:FOLDER` (a reward model), or mappings with `by`, `weight` and more."""
    group_size: Annotated[int, Field(ge=2, le=1024)] = 8
    """Answers to each question, which are held against each other."""
    max_new_tokens: PositiveInt = 256
    """The longest answer, in tokens."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Scores are divided by it before a token of an answer is drawn: the higher, the more answers differ."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw only from the likeliest tokens that together have this probability."""
    scale: bool = True
    """Divide advantages by the standard deviation of their group; without, as in Dr. GRPO (Liu et al. 2025)."""
    per: Literal["token", "answer"] = "token"
    """What the loss is a mean over: all tokens of a step (Yu et al. 2025), or answers, each the mean of its tokens
    (as in DeepSeekMath)."""
    beta: Annotated[float, Field(ge=0)] = 0.04
    """Weight of the KL divergence from the model as it was before training; at 0 that is neither loaded nor asked."""
    corrects_kl: bool = False
    """Weigh the KL divergence of a token by the ratio of its probabilities, so that its gradient is that of the reverse
    divergence (DeepSeek-AI 2025, DeepSeek-V3.2, section 3.1)."""
    reuse: Annotated[int, Field(ge=1, le=64)] = 1
    """Steps that are learned from the same answers. At 1 a step's answers are its own model's, and nothing is ever
    clipped."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far below 1 the ratio of a token's new and old probability counts, where answers are used again."""
    clip_high: Annotated[float, Field(gt=0)] = 0.2
    """The same above 1; 0.28 in DAPO."""
    learns_cut: bool = True
    """Whether answers that reached the longest length without an end are learned from; without, they only count in
    their group."""
    give_up_after: PositiveInt | None = 20
    """First steps, in none of which any group has answers of different worth, after which training ends."""
    train_on: Literal["assistant"] = "assistant"
    """What is learned: the answers."""

    roles: ClassVar[tuple[Role, ...]] = PROMPT_ROLES
    truths: ClassVar[tuple[str, ...]] = ()
    joins_lines: ClassVar[bool] = False
    found_by_name: ClassVar[bool] = True
    plain_cross_entropy: ClassVar[bool] = False
    reduces: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    not_encoded: ClassVar[frozenset[str]] = frozenset(
        (
            *("rewards", "group_size", "temperature", "top_p", "scale", "per", "beta", "corrects_kl", "reuse"),
            *("clip_low", "clip_high", "learns_cut", "give_up_after"),
        )
    )
    most_epochs: ClassVar[int] = 3
    rate_factor: ClassVar[float] = 0.1
    answer_metrics: ClassVar[frozenset[str]] = frozenset()
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "reward": True,
        "accuracy": True,
        **dict.fromkeys((f"reward_{kind}" for kind in KINDS), True),
        "answer_length": False,
        "kl": False,
    }

    def wanted_steps(self, longer: int = 1) -> int:
        return longer * 200  # each is learned from many answers, which take their time to be written

    # ---- configuration and rows ------------------------------------------------------------------

    @field_validator("rewards", mode="before")
    @classmethod
    def _as_list(cls, given: Any) -> Any:
        return [given] if isinstance(given, (str, Mapping, RewardPart)) else given

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return Prompts

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        """Ask for conversations, or for prompts, with a right answer or without."""
        return prompt_roles(profiles, overrides)

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        return 0.0, "only when asked for by name"

    def bind(self, columns: Columns) -> Self:
        """Find the functions of rewards. Raises ``InputError`` where there are no rewards, or no such functions."""
        require_parts(self.rewards)
        return super().bind(columns).changed(rewards=tuple(part.settled() for part in self.rewards))

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Warn of rows without what the rewards compare answers with."""
        questions = encoding.questions_of(self.complete(columns), self.system)
        kinds = {part.by for part in self.rewards}
        found = []
        for kind, what in (("number", "number"), ("text", "text")):
            missing = [row for row, one in enumerate(questions) if kind in kinds and not _has(kind, one)]
            if missing:
                are_all = len(missing) == len(questions)
                message = f"{len(missing)} of {len(questions)} {split} rows have no right answer with a {what}: the "
                message += f"reward '{kind}' is always 0 there."
                fix = "Name the column of right answers (data.columns.completion COLUMN), or use another reward."
                shown = places(split, columns, missing)
                severity: Literal["error", "warning"] = "error" if are_all and kinds == {kind} else "warning"
                found.append(Problem(severity, message, fix, len(missing), shown))
        return found

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise what is asked, with room for an answer behind it.

        Raises ``InputError`` for conversations that the chat template refuses, and where there is no room.
        """
        columns = self.complete(columns)
        longest = max_length - self.max_new_tokens
        if longest < FEWEST_TOKENS:
            raise InputError(
                f"task.max_new_tokens: answers of {self.max_new_tokens} tokens leave no room for questions: the model "
                f"reads {max_length}.",
                "Lower --task.max_new_tokens, or raise --model.max_length if the model allows it.",
            )
        prompts = self.encode_prompts(columns, tokenizer, longest)
        questions = encoding.questions_of(columns, self.system)
        return encoding.with_room(prompts, questions, self.max_new_tokens, tokenizer.pad_token_id or 0)

    @property
    def shortening(self) -> str:
        return "are shortened: of their oldest exchanges first, then of the middle of long messages"

    def on_texts(self) -> CausalLM:  # type: ignore[override]
        return CausalLM(form="text")

    # ---- answers -----------------------------------------------------------------------------------

    def drawing(self, *, is_learned: bool) -> Drawing:
        """Return how answers are written: drawn to learn from, the likeliest tokens to be judged by."""
        if not is_learned:
            return Drawing(1, self.max_new_tokens)
        return Drawing(self.group_size, self.max_new_tokens, self.temperature, self.top_p)

    @property
    def steps_per_drawing(self) -> int:
        return self.reuse

    @property
    def at_drawing(self) -> Objective:
        return TokenLogProbabilities(BEFORE, self.temperature)

    @property
    def most_idle_steps(self) -> int | None:
        return self.give_up_after

    @property
    def judges(self) -> Mapping[str, str]:
        named = zip(names_of(self.rewards), self.rewards, strict=True)
        return {name: part.run for name, part in named if part.run is not None}

    def prompts(self, data: Encoded, samples: encoding.IntArray) -> Ragged:
        return encoding.without_room(data, samples, self.max_new_tokens)

    def asked(self, data: Encoded, samples: encoding.IntArray) -> Sequence[Sequence[Mapping[str, Any]]]:
        return [question.messages for question in encoding.read_questions(data, samples)]

    def lesson(self, data: Encoded, samples: encoding.IntArray, written: Written, *, is_learned: bool) -> Lesson:
        """Return the answers with their advantages, to learn from; or with what they are worth, to be judged by."""
        copies = len(written.tokens) // len(samples)
        questions = [one for one in encoding.read_questions(data, samples) for _ in range(copies)]
        lengths = [len(tokens) for tokens in written.tokens]
        parts_AP = score_answers(self.rewards, written.texts, lengths, questions, written.judged)
        worth = self._worth(parts_AP, written.texts, lengths, questions)
        prompts = self.prompts(data, samples)
        if not is_learned:
            found = encoding.with_answers(prompts, copies, written.tokens, np.zeros(len(lengths)))
            texts = np.array([*written.texts, None], dtype=np.object_)[:-1]
            return Lesson(replace(found, beside={"answers": texts, **worth}))
        weights_A = np.array([0.0 if cut and not self.learns_cut else 1.0 for cut in written.are_cut])
        if self.per == "answer":
            weights_A /= np.maximum(lengths, 1)
        found = encoding.with_answers(prompts, copies, written.tokens, weights_A)
        rewards_BG = worth["reward"].reshape(len(samples), copies)
        advantages_A = objectives.advantages(rewards_BG, scale=self.scale).ravel()
        differ_B = objectives.differ(rewards_BG)
        measured = self._measured(worth, parts_AP) | {
            "cut": float(np.mean(written.are_cut)),
            "without_difference": float(1 - differ_B.mean()),
        }
        data = found.with_targets({ADVANTAGE: encoding.of_answers(advantages_A, found)})
        return Lesson(data, measured, "" if differ_B.any() else _idle(rewards_BG))

    def _measured(self, worth: Mapping[str, FloatArray], parts_AP: FloatArray) -> dict[str, float]:
        """Return the figures of a step: mean reward, each of its parts by name, share of right answers, length."""
        parts = zip(names_of(self.rewards), parts_AP.mean(axis=0).tolist(), strict=True)
        found = {"reward": float(worth["reward"].mean()), **{f"reward/{name}": mean for name, mean in parts}}
        has_reference_A = ~np.isnan(worth["accuracy"])
        if has_reference_A.any():
            found["accuracy"] = float(worth["accuracy"][has_reference_A].mean())
        return found | {"answer_length": float(worth["answer_length"].mean())}

    def _worth(
        self, parts_AP: FloatArray, answers: Sequence[str], lengths: Sequence[int], questions: Sequence[Question]
    ) -> dict[str, FloatArray]:
        """Return [A] each: ``reward``, all kinds of its parts, ``accuracy`` (nan without reference), ``answer_length``.

        Parts of one kind are added up, with their weights only in ``reward``.
        """
        weights_P = np.array([part.weight for part in self.rewards])
        kinds = [part.by for part in self.rewards]
        of_kinds = {
            f"reward_{kind}": parts_AP[:, [one == kind for one in kinds]].sum(axis=1) for kind in dict.fromkeys(kinds)
        }
        pairs = zip(answers, questions, strict=True)
        return {
            "reward": np.nan_to_num(parts_AP) @ weights_P,
            "accuracy": np.array([is_right(answer, one.reference) for answer, one in pairs], dtype=np.float64),
            **of_kinds,
            "answer_length": np.array(lengths, dtype=np.float64),
        }

    # ---- loss --------------------------------------------------------------------------------------

    @property
    def reference(self) -> Objective | None:
        return TokenLogProbabilities(REFERENCE, self.temperature) if self.beta else None

    @property
    def followed(self) -> Following | None:
        return None

    def reduce(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return [U, 1]: the log-probability of the token that comes next, at the temperature of the sampling."""
        return TokenLogProbabilities(BEFORE, self.temperature).reduce(scores_UK, targets)

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the weighted sum of the tokens' losses; of room for answers (a probe) that of ``-log p``."""
        log_p_U = scores_UK[:, 0]
        weight_U = targets[WEIGHT].to(log_p_U.dtype)
        if ADVANTAGE not in targets:
            return -(log_p_U * weight_U).sum()
        losses_U = objectives.policy_losses(
            log_p_U,
            targets,
            low=self.clip_low,
            high=self.clip_high,
            beta=self.beta,
            corrects_kl=self.corrects_kl,
        )
        return (losses_U * weight_U).sum()

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of tokens or, with ``per`` answer, of answers that are learned from."""
        return float(targets[WEIGHT].double().sum())

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep each token's ``log_probability`` and, where it counts, that of the ``reference``: float32 [U].

        A model that has not been trained is its own.
        """
        log_probability_U = scores_UK[:, 0].detach().float()
        kept = {"log_probability": log_probability_U}
        return kept | {REFERENCE: targets.get(REFERENCE, log_probability_U)} if self.beta else kept

    # ---- judgement ---------------------------------------------------------------------------------

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return the mean reward and its parts, the share of right answers, their length, and the KL divergence."""
        values = {
            name: np.asarray(outputs[name], dtype=np.float64) for name in self.higher_is_better if name in outputs
        }
        if "accuracy" in values and np.isnan(values["accuracy"]).all():
            del values["accuracy"]  # no row has a right answer
        found = {name: metrics.weighted_mean(of_rows, weights_RN) for name, of_rows in values.items()}
        if "log_probability" in outputs and REFERENCE in outputs:
            log_p, log_q = (as_ragged(outputs[name]) for name in ("log_probability", REFERENCE))
            apart = log_q.values.astype(np.float64) - log_p.values.astype(np.float64)
            found["kl"] = metrics.weighted_mean(row_means(Ragged(np.expm1(apart) - apart, log_p.offsets)), weights_RN)
        return found

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return for each row the ``answer`` and what it earned, its ``score``.

        Given ``columns``, also the ``prompt`` and the ``reference`` (None without).
        """
        num_rows = len(next(iter(outputs.values())))
        answers = outputs.get("answers", [None] * num_rows)
        found = super().decode({"answers": answers}, columns)
        for row, score in zip(found, outputs.get("reward", [np.nan] * num_rows), strict=True):
            row["score"] = float(score) if np.isfinite(score) else None
        return found

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: how much less each row's answer earned than the best one."""
        if "reward" not in outputs:
            return np.zeros(len(as_ragged(targets["labels"])))
        earned = np.nan_to_num(np.asarray(outputs["reward"], dtype=np.float64))
        return np.asarray(earned.max() - earned, dtype=np.float64)

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return how much was judged, and the parts of the reward with their weights."""
        named = zip(names_of(self.rewards), self.rewards, strict=True)
        return {
            "num_answers": sum(answer is not None for answer in outputs.get("answers", ())),
            "rewards": [{"name": name, "by": part.by, "weight": part.weight} for name, part in named],
        }

    def footnotes(self, outputs: Outputs, columns: Columns) -> dict[str, Any]:
        return {"written": f"the likeliest token each time, at most {self.max_new_tokens}"}

    def judge_answers(self, answers: Sequence[str | None], columns: Columns) -> dict[str, Array]:
        """Return ``answers`` and what each is worth, as far as no model has to say; nan where none was written.

        Their length is counted in words.
        """
        questions = encoding.questions_of(self.complete(columns), self.system)
        texts = [answer or "" for answer in answers]
        lengths = [len(text.split()) for text in texts]
        parts_NP = score_answers(self.rewards, texts, lengths, questions, {})
        worth = self._worth(parts_NP, texts, lengths, questions)
        given_N = np.array([answer is not None for answer in answers])
        found: dict[str, Array] = {"answers": np.array([*answers, None], dtype=np.object_)[:-1]}
        return found | {name: np.where(given_N, values, np.nan) for name, values in worth.items()}


def _has(kind: str, question: Question) -> bool:
    if kind == "text":
        return question.reference is not None
    return question.reference is not None and has_number(question.reference, question.reference)


def _idle(rewards_BG: FloatArray) -> str:
    """Say that no group tells anything, and what may be done."""
    low, high = float(rewards_BG.min()), float(rewards_BG.max())
    earned = f"{low:g}" if low == high else f"from {low:g} to {high:g}"
    return (
        f"all answers to a question were worth the same (rewards: {earned}), so that none was better than the others.\n"
        "  → Give a reward with a part that the model can earn now and then (a format, a share of the whole), easier "
        "questions, a longer --task.max_new_tokens, more answers (--task.group_size), or a higher --task.temperature."
    )
