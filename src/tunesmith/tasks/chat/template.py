"""Which chat template is used, and conversations as the text that the model reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.tasks.chat.controls import Controls
from tunesmith.tasks.chat.sandbox import ChatTemplate, Rendered, compiled, packed
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]
"""``{"role": ..., "content": ...}`` with what else the data gave: the canonical message."""

CHATML_NAME = "chatml"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The plainest of the common formats. Tool calls have no place in it."""
_CHATML_END = "'<|im_end|>'"

NAMES_TAKEN = frozenset({"messages", "tools", "add_generation_prompt"})
"""Variables of a template that the data fills."""
MAX_FILE = 1_000_000
MAX_PREPARED = 16_000_000
"""Bytes of conversations that are rendered ahead."""

_OURS = frozenset({"train", "images", "pictures"})
"""What messages hold for us alone."""
_REASONING = ("reasoning_content", "thinking", "reasoning")


def resolve_template(given: str | None) -> str | None:
    """Return what ``task.template`` stands for: Jinja text, ``chatml``, or None (the model's own).

    Raises ``InputError`` for a file that is not there, is no text, or holds no template.
    """
    if given is None or given == CHATML_NAME:
        return given
    source = given
    if "{%" not in given and "{{" not in given:
        source = _read(given)
    compiled(source)
    return source


def _read(name: str) -> str:
    fix = "Give a Jinja file, Jinja text, or 'chatml'; leave task.template out for the model's own."
    path = Path(name)
    try:
        if not path.is_file():
            raise InputError(f"task.template is neither a file nor Jinja: {name[:200]!r}.", fix)
        if path.stat().st_size > MAX_FILE:
            raise InputError(f"The chat template {path} is larger than {MAX_FILE} bytes.", fix)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The chat template {name[:200]!r} cannot be read: {error}.", fix) from None
    if "{%" not in text and "{{" not in text:
        raise InputError(f"The file {path} holds no Jinja template: there is neither {{% nor {{{{ in it.", fix)
    return text


def chatml_for(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return ChatML; a tokenizer that has no token ``<|im_end|>`` ends messages with its own end token.

    So an answer always ends with one token that the model can be stopped at.
    """
    has_end = "<|im_end|>" in getattr(tokenizer, "added_tokens_encoder", {})
    return CHATML if has_end or tokenizer.eos_token is None else CHATML.replace(_CHATML_END, "eos_token")


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A model's way of writing conversations."""

    template: ChatTemplate
    tool_template: ChatTemplate
    """Used where there are tools; mostly the same."""
    variables: Mapping[str, Any]
    """Special tokens by name, and the task's own arguments."""
    controls: Controls | None = None
    """Control tokens that stay text where they stand in a message; None where they are tokens there, too."""
    parts: Callable[[str], list[dict[str, str]]] | None = None
    """Makes a list of parts of a content, for templates that are given such lists."""

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any], *, keeps_text: bool = True
    ) -> ChatFormat:
        """Return the format of a tokenizer that has a chat template (see ``CausalLM.adapt``).

        With ``keeps_text`` what looks like a control token in a message is marked as text (``controls``).
        Raises ``InputError`` when it has none, or one that cannot be read.
        """
        sources = tokenizer.chat_template
        if isinstance(sources, str):
            sources = {"default": sources}
        if not sources or "default" not in sources:
            message = "The tokenizer has no chat template." if not sources else "No chat template is named 'default'."
            raise InputError(message, "Give task.template, such as chatml.")
        template = compiled(sources["default"])
        tool_template = compiled(sources["tool_use"]) if "tool_use" in sources else template
        controls = Controls.of(tokenizer) if keeps_text else None
        return cls(template, tool_template, {**tokenizer.special_tokens_map, **arguments}, controls)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, add_generation_prompt: bool = False
    ) -> Rendered:
        """Return the text of ``messages``; with ``add_generation_prompt`` ready for the model's answer.

        Raises ``RefusedError`` or ``InputError`` as ``ChatTemplate.render`` does.
        """
        template = self.template if tools is None else self.tool_template
        return template.render(self._variables(messages, tools, add_generation_prompt))

    def prepare(self, wanted: Iterable[tuple[Sequence[Message], Sequence[Any] | None, bool]]) -> None:
        """Render what ``render`` will be asked for (its three arguments) all at once, which is much quicker.

        Only the texts of the last call are kept, and of very long conversations not all.
        """
        requests: dict[ChatTemplate, list[bytes]] = {self.template: [], self.tool_template: []}
        num_bytes = 0
        for messages, tools, prompt in wanted:
            request = packed(self._variables(messages, tools, prompt))
            num_bytes += len(request)
            if num_bytes > MAX_PREPARED:
                break
            requests[self.template if tools is None else self.tool_template].append(request)
        for template, several in requests.items():
            template.prepare(several)

    def _variables(self, messages: Sequence[Message], tools: Sequence[Any] | None, prompt: bool) -> dict[str, Any]:
        return {
            "documents": None,
            **self.variables,
            "messages": self._kept([self._in_parts(_given(message)) for message in messages]),
            "tools": self._kept(tools),
            "add_generation_prompt": prompt,
        }

    def _in_parts(self, message: Message) -> Message:
        return message if self.parts is None else {**message, "content": self.parts(message["content"])}

    def _kept(self, values: Any) -> Any:
        return values if self.controls is None or values is None else self.controls.marked(list(values))


def _given(message: Message) -> Message:
    """Return a message as templates get it: no marks of ours, nothing that is None, thoughts under every usual name."""
    given = {name: value for name, value in message.items() if value is not None and name not in _OURS}
    thoughts = next((given[name] for name in _REASONING if name in given), None)
    return given if thoughts is None else {"thinking": thoughts, **given, "reasoning_content": thoughts}
