"""Training texts drawn out of a language model: it is given the beginning of a row, and writes the rest or does not.

Extractable with k tokens of context, in the words of Carlini et al. 2023 ("Quantifying Memorization"), section 3.1: the
likeliest continuation is the row's own, token by token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.data.encoded import Encoded, Ragged, as_ragged
from tunesmith.engine.generate import generate
from tunesmith.run.written_answers import Writing, sampling_for

if TYPE_CHECKING:
    import numpy.typing as npt

    from tunesmith.run import Run


@dataclass(frozen=True)
class Begun:
    """Beginnings of sequences, and how each goes on."""

    prompts: Ragged
    continuations: list[list[int]]


def begun(encoded: Encoded, prefix: int, continuation: int) -> Begun:
    """Return the sequences that are long enough, cut after ``prefix`` tokens of what was learned of them.

    What is not learned, such as the question before an answer, stands before that. Sequences of which something in the
    middle is not learned are left out.
    """
    ids, reads = as_ragged(encoded.inputs["input_ids"]), encoded.reads
    assert reads is not None, "asked of language models"
    length = prefix + continuation
    prompts, continuations = [], []
    for row in range(len(encoded)):
        places, tokens = reads[row], ids[row]
        if len(places) < length or int(places[length - 1]) - int(places[0]) != length - 1:
            continue
        start = int(places[0]) + 1 + prefix  # the token at a place is scored by the one before it
        if start + continuation > len(tokens):
            continue
        prompts.append(tokens[:start])
        continuations.append(tokens[start : start + continuation].tolist())
    return Begun(Ragged.from_rows(prompts), continuations)


def are_extracted(run: Run, some: Begun) -> npt.NDArray[np.float64]:
    """Return [N], 1 or 0: whether the run's model goes on with each beginning as the row did."""
    if not some.continuations:
        return np.zeros(0)
    network = run.network
    length = len(some.continuations[0])
    written = generate(network.model, some.prompts, sampling_for(network, run.task, Writing(max_new_tokens=length)))
    pairs = zip(written, some.continuations, strict=True)
    return np.array([list(found) == expected for found, expected in pairs], dtype=np.float64)
