"""Explanations as one HTML page, made with the report's templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.evaluate import IntervalDict
from tunesmith.readable import MISSING, number
from tunesmith.report.rendering import render_page
from tunesmith.trust.explained_rows import ExplainedRows
from tunesmith.trust.explanation import Explanation

STRONGEST = 0.65
"""How much of its colour the word with the largest score of a text gets."""
_FIGURES = ("comprehensiveness", "random_comprehensiveness", "sufficiency", "random_sufficiency")


def explanation_page(explained: ExplainedRows, title: str) -> str:
    """Return the page as HTML text."""
    first = explained.rows[0]
    view = {
        "title": title,
        "subtitle": f"{len(explained.rows)} texts, by {first.method}",
        "unit": "log-odds" if first.unit == "log-odds" else "the units of the value",
        "faithfulness": [
            {"method": name, "cells": [_cell(figures[one]) for one in _FIGURES]}
            for name, figures in explained.faithfulness.items()
        ],
        "words": [(label, _words(words)) for label, words in explained.words.items() if words],
        "texts": [_text(one) for one in explained.rows],
    }
    return render_page("explanations.html", styles=["report.css"], scripts=["report.js"], view=view)


def strengths(scores: Sequence[float]) -> list[float]:
    """Return from -1 to 1 how strongly each word is coloured: its score beside the largest of the text."""
    largest = max(map(abs, scores), default=0.0)
    return [score / largest if largest else 0.0 for score in scores]


def answer_text(prediction: Mapping[str, Any]) -> str:
    """Return in one line what was answered."""
    for name in ("label", "answer", "value"):
        if name in prediction:
            value = prediction[name]
            return number(value) if isinstance(value, float) else str(value)
    if "entities" in prediction:
        return "; ".join(f"{one['text']} ({one['label']})" for one in prediction["entities"]) or "no entities"
    return MISSING


def _text(one: Explanation) -> dict[str, Any]:
    words = zip(one.tokens, one.scores, one.spaces, strengths(one.scores), strict=True)
    return {
        "row": one.row,
        "answer": answer_text(one.prediction),
        "target": one.target,
        "words": [
            {
                "text": token,
                "space": space,
                "score": number(score),
                "colour": "--hit" if score >= 0 else "--miss",
                "strength": f"{abs(strength) * STRONGEST:.2f}",
            }
            for token, score, space, strength in words
        ],
    }


def _words(words: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**word, "score": number(word["score"])} for word in words]


def _cell(figure: IntervalDict) -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return number(value) if low is None else f"{number(value)} [{number(low)}, {number(high)}]"
