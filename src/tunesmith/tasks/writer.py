"""The fourth contract, of tasks whose model writes: prompts, where answers end, and how they are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.data.encoded import Array, Encoded
from tunesmith.tasks.rows import Columns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


EXAMPLES = "examples"
"""The canonical column of messages that a prompt shows before a row's own; nothing of them is learned or judged."""


class Writer:
    """What generation asks of a task."""

    answer_name: ClassVar[str] = "answer"
    """What a prediction calls what was written."""
    usual_answers: ClassVar[int] = 0
    """How many of the judged rows answers are written to, where nobody says."""

    @property
    def shares_room(self) -> bool:
        """Whether prompt and answer are one sequence, so that a long answer leaves less room for its prompt."""
        return True

    def search(self) -> Mapping[str, Any]:
        """Return how an answer is searched for, as settings of ``GenerationConfig`` of ``transformers``.

        They are added to those of the model itself; without any, that is one token after the other.
        """
        return {}

    def encode_prompts(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise what is to be answered: inputs only, one sequence a row, ready for the model to go on from."""
        raise NotImplementedError

    def exchanges(self, columns: Columns) -> list[list[Mapping[str, Any]]] | None:
        """Return rows as messages that prompts can show before other rows (``EXAMPLES``), in their order.

        Empty for a row that has no answer; None where the model is not prompted by messages.
        """
        del columns
        return None

    def conversation(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> Columns:
        """Return the canonical columns of the one row that an answer to ``messages`` is to be written to.

        ``tools`` are those that the answer may call, as JSON schemas. Only where ``written_call`` has something.
        """
        raise NotImplementedError

    def written_call(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """Return an answer that calls a tool, as the model is told to write it; None where it is told of no tools."""
        del tokenizer
        return None

    def stop_tokens(self, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
        """Return the ids that end an answer."""
        raise NotImplementedError

    def as_answered(self, outputs: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
        """Return a rival's outputs with answers to those rows alone that the outputs ``like`` have answers to."""
        del like
        return dict(outputs)

    def judge_answers(self, answers: Sequence[str | None], columns: Columns) -> dict[str, Array]:
        """Return what ``Judge.measure`` needs of generated answers, to be added to the outputs: arrays [N, ...].

        ``answers`` are in row order; None for rows that none was generated for. The entry
        ``answers`` holds the texts themselves.
        """
        raise NotImplementedError
