"""Answers that a model writes itself, to be learned from in a step or judged by: for tasks that ``draw``.

What is drawn follows from the weights, the step's seed and the step's rows alone, whatever micro-batches it is learned
in: a resumed training draws the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import IntArray
from tunesmith.engine.generate import generate
from tunesmith.engine.sampling import Sampling
from tunesmith.models.wrapping import inner
from tunesmith.tasks.objective import Lesson, Objective, Written

if TYPE_CHECKING:
    from tunesmith.engine.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Drawn:
    """Answers that serve for several steps."""

    first_step: int
    """The index of the first of them, from 0."""
    lesson: Lesson


def draw(
    scorer: Scorer,
    task: Objective,
    data: Encoded,
    samples: IntArray,
    seed: int | None,
    *,
    check: Callable[[], None] = lambda: None,
) -> Lesson:
    """Return what a model's answers to these samples give.

    Args:
        scorer: Its model writes as it is now, without dropout; its ``answering`` says what else it takes.
        task: Says how answers are written and what they are worth.
        data: What is asked.
        samples: Which of it.
        seed: Of what is drawn to learn from; None for answers that the model is judged by, which are not random.
        check: Called between answers; may raise.
    """
    answering, is_learned = scorer.answering, seed is not None
    assert answering is not None, "tasks that draw are given what it takes"
    drawing = task.drawing(is_learned=is_learned)
    copies = np.repeat(np.arange(len(samples)), drawing.copies)
    sampling = Sampling(
        max_new_tokens=drawing.max_new_tokens,
        stop_tokens=answering.stop_tokens,
        pad_token_id=answering.pad_token_id,
        temperature=drawing.temperature,
        top_p=drawing.top_p,
        seed=seed or 0,
        keeps_end=True,
    )
    prompts = task.prompts(data, samples).select(copies)
    tokens = generate(scorer.model, prompts, sampling, check=lambda _: check())
    stops = sampling.stops(inner(scorer.model))
    written = Written(tokens, answering.decode(tokens), [not answer or answer[-1] not in stops for answer in tokens])
    if answering.judges:
        asked = task.asked(data, samples)
        read = [asked[index] for index in copies.tolist()]
        judged = {name: judge(read, written.texts) for name, judge in answering.judges.items()}
        written = replace(written, judged=judged)
    lesson = task.lesson(data, samples, written, is_learned=is_learned)
    if answering.refer is None:
        return lesson
    said = answering.refer(replace(lesson.data, beside={}))
    return replace(lesson, data=lesson.data.with_targets(said))
