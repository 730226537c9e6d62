"""Texts written anew by runs: into another language and back (Sennrich, Haddow and Birch 2016), or in other words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunesmith.run import Run
from tunesmith.run.written_answers import Writing
from tunesmith.types import InputError

Rewriter = Callable[[Sequence[str]], list[str]]
"""Returns a text for each text."""

BACK_TRANSLATION, PARAPHRASE = "back-translation", "paraphrase"
RUNS_OF = {BACK_TRANSLATION: 2, PARAPHRASE: 1}
_PROMPT = "Write this in other words, with the same meaning. Answer with the new text alone.\n\n"
MAX_NEW_TOKENS = 256


def rewriter_of(name: str, folders: Sequence[str], seed: int) -> Rewriter:
    """Return what writes texts anew through one run, or through two, one after the other.

    Raises ``InputError`` where there are not as many runs, or one of them writes no texts.
    """
    if len(folders) != RUNS_OF[name]:
        needed = {
            BACK_TRANSLATION: "two runs, there and back: --through RUN_A,RUN_B",
            PARAPHRASE: "one run: --through RUN",
        }
        raise InputError(
            f"--by {name} needs {needed[name]}; {len(folders)} given.",
            "Train translations on a file and on the same file the other way round (data.columns.source).",
        )
    runs = [Run.open(folder) for folder in folders]
    for run in runs:
        if run.task.writer is None:
            raise InputError(
                f"--through {run.folder}: it was trained for {run.task.title.lower()} and writes no texts.",
                "Give runs of the task seq2seq, or causal_lm for paraphrases.",
            )

    def rewrite(texts: Sequence[str]) -> list[str]:
        written = list(texts)
        for run in runs:
            written = _written(run, written, seed)
        return written

    return rewrite


def _written(run: Run, texts: Sequence[str], seed: int) -> list[str]:
    assert run.task.writer is not None
    asked = [f"{_PROMPT}{text}" for text in texts] if run.task.chats else list(texts)
    # An empty text is nothing to be answered.
    filled = [place for place, text in enumerate(texts) if text.strip()]
    written = [""] * len(texts)
    answers = (
        run.predict([asked[place] for place in filled], writing=Writing(MAX_NEW_TOKENS, seed=seed)) if filled else []
    )
    for place, answer in zip(filled, answers, strict=True):
        written[place] = str(answer[run.task.writer.answer_name]).strip()
    return written
