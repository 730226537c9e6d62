"""``tunesmith chat``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.terminal import say
from tunesmith.cli.writing import text_flags, text_input, writing_options
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.run import Run, Writing

HELP = "/reset starts anew, /system TEXT sets the system message, /quit (or Ctrl-D) ends, Ctrl-C stops an answer."
SEEING = "/image PATH shows an image with the next message."


@click.command(short_help="Talk with a run that answers in conversations.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--message", metavar="TEXT", help="Say this one thing, print the answer and end.")
@click.option("--system", metavar="TEXT", help="The system message.")
@click.option(
    "--image", "images", metavar="PATH", multiple=True, help="An image shown with the first message; may be repeated."
)
@writing_options
def chat_command(run: Path, message: str | None, system: str | None, images: tuple[str, ...], **options: Any) -> None:
    """Talk with the run in folder RUN; answers appear as they are written.

    Where the input is no terminal, every line of it is a message.
    """
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.run import Writing
    from tunesmith.tasks import chatting

    opened = OpenedRun.open(run)
    if not opened.task.chats:
        texts = text_flags(opened.inputs)
        raise InputError(
            f"The run in {run} was trained for {opened.task.title.lower()}: it writes no answers.",
            f"Use: tunesmith predict {quote(str(run))} {texts}. To chat, train with --task {chatting()}.",
        )
    conversation = Conversation(opened, Writing(**options), system)
    for path in images:
        conversation.show(path)
    conversation.warm_up()
    if message is not None:
        conversation.say(message)
    elif sys.stdin.isatty():
        converse(conversation)
    else:
        with text_input():
            for line in sys.stdin:
                if line.strip():
                    conversation.say(line.strip())


class Conversation:
    """What was said so far, and the run that answers."""

    def __init__(self, run: Run, writing: Writing, system: str | None) -> None:
        self._run = run
        self._writing = writing
        self._system = system
        self._messages: list[dict[str, Any]] = []
        self._images: list[str] = []
        self.sees = run.task.head().reads_images

    def show(self, path: str) -> None:
        """Show an image with the next message; ``InputError`` where the run sees none, or it cannot be opened."""
        if not self.sees:
            raise InputError(
                f"The run in {self._run.folder} reads texts alone: it is shown no images.",
                "Train with --task image_chat and a model that sees.",
            )
        from tunesmith.data.image_chat_rows import read_conversation

        read_conversation([{"role": "user", "content": [{"type": "image", "image": path}]}])
        self._images.append(path)

    def warm_up(self) -> None:
        """Load the model, so that what is wrong shows before the first message is typed."""
        _ = self._run.network

    def reset(self, system: str | None = None) -> None:
        """Forget what was said; keep the system message unless a new one is given."""
        self._system = self._system if system is None else system
        self._messages, self._images = [], []

    def say(self, text: str) -> None:
        """Send a message and write the answer to stdout as it comes; Ctrl-C keeps what was written so far."""
        shown = [{"type": "image", "image": path} for path in self._images]
        content = [*shown, {"type": "text", "text": text}] if shown else text
        asked = [*self._messages, {"role": "user", "content": content}]
        self._images = []
        pieces: list[str] = []
        answer = self._answer(asked)
        try:
            for piece in answer:
                pieces.append(piece)
                say(piece, end="")
                sys.stdout.flush()
        except KeyboardInterrupt:
            say(" [stopped]", end="")
        finally:
            say()
        self._messages = [*asked, {"role": "assistant", "content": "".join(pieces).strip()}]

    def _answer(self, messages: list[dict[str, Any]]) -> Iterator[str]:
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        return self._run.chat([*system, *messages], self._writing)


def converse(conversation: Conversation) -> None:
    """Talk with somebody who types, until they end it."""
    known = f"{HELP} {SEEING}" if conversation.sees else HELP
    say(known, dim=True)
    while True:
        try:
            text = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            say()
            return
        command, _, rest = text.partition(" ")
        if command in ("/quit", "/exit"):
            return
        if command == "/reset":
            conversation.reset()
        elif command == "/system":
            conversation.reset(rest.strip())
        elif command == "/image" and conversation.sees:
            _try(conversation.show, rest.strip())
        elif command.startswith("/"):
            say(f"There is no {command}. {known}", dim=True)
        elif text:
            _try(conversation.say, text)


def _try(what: Callable[[str], None], given: str) -> None:
    """Do something that is typed; where it cannot be done, say why, and the conversation goes on as it was."""
    try:
        what(given)
    except InputError as error:
        say(error, err=True)
