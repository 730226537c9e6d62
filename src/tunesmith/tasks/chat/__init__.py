"""Chat: templates rendered safely, which tokens are trained, rows that fit, and what is shown of them."""

from tunesmith.tasks.chat.shown import shown_pieces
from tunesmith.tasks.chat.template import CHATML, ChatFormat, resolve_template

__all__ = ["CHATML", "ChatFormat", "resolve_template", "shown_pieces"]
