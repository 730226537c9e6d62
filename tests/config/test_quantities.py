"""Durations and sizes as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.config.quantities import parse_duration, parse_size
from tunesmith.types import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),
        ("10 Minutes", 600),
        ("1.5h", 5400),
        (".5h", 1800),
        ("2 days and 1 hour", 176400),
        ("1h, 5m", 3900),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, "--within") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "leaves nothing"),
        ("10 minutes?", "no duration"),
        ("soon", "no duration"),
        ("-5m", "no duration"),
        ("30", "of what is not said"),
        ("1h30", "of what is not said"),
        ("3 fortnights", "no unit of time"),
        ("5m5m", "same unit twice"),
        ("0s", "leaves nothing"),
        ("1" * 400 + "s", "leaves nothing"),
    ],
)
def test_what_is_no_duration_is_said_with_what_would_be(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        parse_duration(text, "--within")
    assert "--within 1h30m" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("8GB", 8e9), ("8 gb", 8e9), ("8g", 8e9), ("512MB", 512e6), ("16GiB", 16 * 2**30), ("1.5T", 1.5e12), ("64B", 64)],
)
def test_sizes(text: str, num_bytes: float) -> None:
    assert parse_size(text, "--memory") == num_bytes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lots", "no amount"),
        ("", "no amount"),
        ("GB", "no amount"),
        ("8", "of what"),
        ("0GB", "nothing"),
        ("8XB", "no amount"),
    ],
)
def test_what_is_no_size_is_said_with_what_would_be(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        parse_size(text, "--memory")
    assert "--memory 8GB" in str(raised.value)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with suppress(InputError):
            assert parse(text, "--key") > 0
