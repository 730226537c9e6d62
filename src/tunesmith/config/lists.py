"""Lists in one text, as a flag holds them."""

from __future__ import annotations


def split_values(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes; parts may be empty."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
