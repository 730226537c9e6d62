"""The code on the model card that answers a question as the run does, with nothing but torch and transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.tasks.encoding import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BEFORE = (
    'question, context = "Who wrote it?", "It was written by Ada Lovelace in 1843."',
    'room = tokenizer.model_max_length - len(tokenizer(question, "").input_ids)',
)
_SCORED = (
    'offsets = windows.pop("offset_mapping").tolist()',
    'windows.pop("overflow_to_sample_mapping")',
    "with torch.no_grad():",
    "    scores = model(**windows)",
    "found, none = {}, []",
    "for w, (first, last) in enumerate(zip(scores.start_logits, scores.end_logits)):",
)
_SPANS = (
    "    none.append(torch.stack([first[place], last[place]]))",
    "    inside = [i for i, text in enumerate(windows.sequence_ids(w)) if text == 1]",
    "    for i in inside:",
    "        for j in [j for j in inside if j >= i]:",
    "            start, end = offsets[w][i][0], offsets[w][j][1]",
    "            start += len(context[start:end]) - len(context[start:end].lstrip())",
)
_BEST = (
    "spans = {span: torch.stack(several).logsumexp(0) for span, several in found.items()}",
    "best = max(spans, key=spans.get)",
    "everything = list(spans.values())",
    'answer = {"answer": context[best[0]:best[1]], "start": best[0], "end": best[1]}',
    "score = spans[best]",
)


def answering_code(
    *, longest: int, threshold: float | None, stride: int, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[str, ...]:
    """Return the lines that print the answer to one question, whatever the length of its context.

    ``threshold`` is that of the log-odds of no answer; None where there always is one.
    """
    saying_none = () if threshold is None else (
        "none = torch.stack(none).logsumexp(0).sum()",
        "everything.append(none)",
        f"if none - score > {threshold!r}:",
        '    answer, score = {"answer": "", "start": None, "end": None}, none',
    )  # fmt: skip
    return (
        *_BEFORE,
        f'cut = {{"truncation": "only_second", "stride": min({stride}, room // 2), "return_overflowing_tokens": True}}',
        'windows = tokenizer(question, context, **cut, return_offsets_mapping=True, padding=True, return_tensors="pt")',
        *_SCORED,
        f"    place = {_place_of_none(tokenizer)}",
        *_SPANS,
        f"            if i == j or end - start <= {longest}:",
        "                found.setdefault((start, end), []).append(first[i] + last[j])",
        *_BEST,
        *saying_none,
        'answer["score"] = float((score - torch.stack(everything).logsumexp(0)).exp())',
        "print(answer)",
    )


def _place_of_none(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Return the expression of which token of window ``w`` stands for no answer, as ``question_encoding`` says it."""
    if tokenizer is None or tokenizer.cls_token_id is not None:
        return "windows.input_ids[w].tolist().index(tokenizer.cls_token_id)"
    return "int(windows.attention_mask[w].sum()) - 1" if special_tokens(tokenizer)[1] else "0"
