"""What the model card says of labels of texts, and the code that gives them in plain ``transformers``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith.tasks.card import TaskCard, pipeline_of, scores_of

_TAG = "text-classification"
_LIMIT = "Every text gets its answer from the labels above, whether one fits or not."


def card_of(
    labels: tuple[str, ...], inputs: Sequence[str], threshold: float | None, thresholds: Mapping[str, float]
) -> TaskCard:
    """Return the task's part of the card.

    ``threshold`` is the probability above which a label is predicted that has none of its own among ``thresholds``;
    None where labels exclude each other.
    """
    lines = (f"labels = {list(labels)!r}", *scores_of(inputs))
    if threshold is None:
        return TaskCard(
            purpose="gives a text one label",
            labels=labels,
            pipeline_tag=_TAG,
            limits=(_LIMIT,),
            code=(*lines, "print(dict(zip(labels, scores.softmax(-1)[0].tolist())))"),
            pipeline=pipeline_of(_TAG, inputs, ', function_to_apply="softmax"'),
        )
    several = "zip(labels, scores.sigmoid()[0].tolist())"
    return TaskCard(
        purpose="gives a text any number of labels",
        labels=labels,
        pipeline_tag=_TAG,
        limits=(_LIMIT,),
        code=(
            f"thresholds = {dict.fromkeys(labels, threshold) | dict(thresholds)!r}",
            *lines,
            f"print([label for label, p in {several} if p > thresholds[label]])",
        ),
        pipeline=pipeline_of(_TAG, inputs, ', function_to_apply="sigmoid", top_k=None'),
        pipeline_note=f"Labels with a score above {thresholds or threshold} are predicted.",
    )
