"""Answers in JSON as OpenAI's API gives them: whole, or piece by piece."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from tunesmith.serve.tool_calls import CallWatch, read_answer
from tunesmith.serve.writing import Token, WritingRun


class Form:
    """How an answer is put into JSON."""

    kind: str
    chunk: str

    def __init__(self, run: WritingRun, num_alternatives: int | None) -> None:
        """``num_alternatives`` is how many likely tokens are told with each; None tells no probabilities at all."""
        self.run = run
        self._num_alternatives = num_alternatives
        self._id, self._created = uuid.uuid4().hex, int(time.time())

    @property
    def tells_probabilities(self) -> bool:
        """Whether the log-probabilities of tokens are told."""
        return self._num_alternatives is not None

    def head(self) -> dict[str, Any]:
        """Return what begins an answer, or a piece of one."""
        return {"id": f"{self.kind}-{self._id}", "created": self._created, "model": self.run.name}

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return the piece before all others, if there is one."""
        del index
        return None

    def piece(self, index: int, token: Token) -> dict[str, Any] | None:
        """Return what a token adds to an answer; None where that is nothing."""
        raise NotImplementedError

    def whole(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        """Return an answer."""
        raise NotImplementedError

    def says_nothing(self, token: Token, text: str) -> bool:
        """Say whether a token, of which ``text`` is shown, is nothing to tell of."""
        return not (text or token.ended or self.tells_probabilities)

    def spelt(self, token_id: int) -> str:
        """Return a token as text."""
        return str(self.run.run.network.tokenizer.decode([token_id]))


class ChatForm(Form):
    """Of a conversation."""

    kind, chunk = "chat.completion", "chat.completion.chunk"

    def __init__(self, run: WritingRun, num_alternatives: int | None, tools: Collection[str]) -> None:
        """``tools`` are the names of those that an answer may call."""
        super().__init__(run, num_alternatives)
        self._tools = frozenset(tools)
        self._watches: dict[int, CallWatch] = {}

    def opening(self, index: int) -> dict[str, Any]:
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def piece(self, index: int, token: Token) -> dict[str, Any] | None:
        text, calls, reason = token.text, list[dict[str, Any]](), token.ended
        if self._tools:
            watch = self._watches.setdefault(index, CallWatch(self._tools))
            text = watch.add(text)
            if token.ended:
                rest, calls = watch.rest()
                text += rest
        if self.says_nothing(token, text):
            return None
        delta: dict[str, Any] = {"content": text} if text else {}
        if calls:
            delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
        noted = {"logprobs": self._probabilities([token])} if self.tells_probabilities else {}
        return {"index": index, "delta": delta, "finish_reason": _reason(reason, calls), **noted}

    def whole(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        text, calls = "".join(token.text for token in tokens), list[dict[str, Any]]()
        if self._tools:
            text, calls = read_answer(text, self._tools)
        noted = {"logprobs": self._probabilities(tokens)} if self.tells_probabilities else {"logprobs": None}
        message: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text}
        if calls:
            message["tool_calls"] = calls
        return {"index": index, "message": message, "finish_reason": _reason(tokens[-1].ended, calls), **noted}

    def _probabilities(self, tokens: Sequence[Token]) -> dict[str, Any]:
        return {
            "content": [
                {
                    **self._one(token.id, token.log_probability),
                    "top_logprobs": [self._one(*one) for one in token.alternatives[: self._num_alternatives or 0]],
                }
                for token in tokens
                if token.id is not None and token.log_probability is not None
            ]
        }

    def _one(self, token_id: int, log_probability: float) -> dict[str, Any]:
        text = self.spelt(token_id)
        return {"token": text, "logprob": log_probability, "bytes": list(text.encode())}


class CompletionForm(Form):
    """Of a text that is gone on with."""

    kind, chunk = "text_completion", "text_completion"

    def piece(self, index: int, token: Token) -> dict[str, Any] | None:
        if self.says_nothing(token, token.text):
            return None
        return {
            "index": index,
            "text": token.text,
            "finish_reason": token.ended,
            "logprobs": self._probabilities([token]),
        }

    def whole(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        text = "".join(token.text for token in tokens)
        return {
            "index": index,
            "text": text,
            "finish_reason": tokens[-1].ended,
            "logprobs": self._probabilities(tokens),
        }

    def _probabilities(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        known = [token for token in tokens if token.id is not None and token.log_probability is not None]
        if not self.tells_probabilities:
            return None
        most = self._num_alternatives or 0
        return {
            "tokens": [self.spelt(token.id) for token in known if token.id is not None],
            "token_logprobs": [token.log_probability for token in known],
            "top_logprobs": [{self.spelt(one): value for one, value in token.alternatives[:most]} for token in known],
        }


def event(content: Any) -> str:
    """Return one event of a stream."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _reason(ended: str | None, calls: Sequence[Any]) -> str | None:
    """Return why an answer ended, in the words of the API."""
    return "tool_calls" if calls and ended == "stop" else ended
