"""Generated answers against references: exact match, ROUGE, chrF and BLEU over row-weighted replicates.

What a metric needs of a row is a handful of numbers (``answer_statistics``), and a replicate's score comes
from their weighted sums, so that a thousand replicates cost little more than one. ROUGE is the mean of
the rows' F scores as rouge-score counts them (Lin 2004); chrF (Popović 2015) and BLEU (Papineni et al. 2002) are
sacrebleu's corpus scores.

Shapes: N rows, R replicates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tunesmith.bounded.marks import in_order
from tunesmith.metrics.weighting import FloatArray, Metrics, over_replicates, ratio
from tunesmith.types import MissingExtraError
from tunesmith.version import version_of

Statistics = dict[str, npt.NDArray[Any]]

ROUGE = ("rouge_1", "rouge_2", "rouge_l")
_ROUGE_NAMES = ("rouge1", "rouge2", "rougeL")
_CHINESE_SHARE = 0.2
"""Texts with this share of Han characters and kana are cut into characters for BLEU."""

_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAN_CHARACTER = re.compile(f"[{_HAN}]")
_ROUGE_TOKEN = re.compile(f"[a-z0-9]+|[{_HAN}]")
_NUMBER = re.compile(r"(?<![\w)])[-+]?(?:\d[\d,]*\.?\d*|\.\d+)|\d[\d,]*\.?\d*", re.ASCII)
_ASIDE = str.maketrans(dict.fromkeys("$€£¥₹₩₽", "") | {"\u2212": "-"})
_BOXED = "\\boxed{"
_HASHES = "####"


Reference = str | Sequence[str] | None
"""What an answer is compared with: a text, or several that are equally right."""


def answer_statistics(answers: Sequence[str | None], references: Sequence[Reference]) -> Statistics:
    """Return what ``answer_metrics`` needs of each row; rows without answer or reference do not count.

    ``given`` bool [N]; ``exact`` float64 [N]; ``rouge`` float64 [N, 3]; ``chrf`` and ``bleu`` int64 [N, ...],
    sacrebleu's own sentence statistics. BLEU cuts Chinese and Japanese into characters (sacrebleu's ``zh``),
    ROUGE does so within any text. Of several references, ROUGE and the exact match take the one that is met best,
    BLEU and chrF all of them as sacrebleu does.

    Raises ``MissingExtraError`` where sacrebleu or rouge-score is not installed.
    """
    several = [_several(reference) for reference in references]
    chrf, bleu, rouge = _scorers([text for texts in several for text in texts])
    num_rows = len(answers)
    given = np.array([a is not None and bool(r) for a, r in zip(answers, several, strict=True)], dtype=np.bool_)
    found: Statistics = {
        "given": given,
        "exact": np.zeros(num_rows),
        "rouge": np.zeros((num_rows, len(ROUGE))),
    }
    rows = np.flatnonzero(given).tolist()
    pairs = [(cast("str", answers[row]), several[row]) for row in rows]
    for row, (answer, texts) in zip(rows, pairs, strict=True):
        found["exact"][row] = any(is_exact(answer, text) for text in texts)
        scores = rouge.score_multi(texts, answer)
        found["rouge"][row] = [scores[name].fmeasure for name in _ROUGE_NAMES]
    # A row of its own keeps the width known where no row has an answer.
    pairs.append(("", [""]))
    most = max(len(texts) for _, texts in pairs)
    streams = [[texts[number] if number < len(texts) else None for _, texts in pairs] for number in range(most)]
    for name, scorer in (("chrf", chrf), ("bleu", bleu)):
        rows_of = scorer._extract_corpus_statistics([a for a, _ in pairs], streams)
        found[name] = np.zeros((num_rows, len(rows_of[-1])), dtype=np.int64)
        found[name][rows] = np.array(rows_of, dtype=np.int64)[:-1]
    return found


def signatures(references: Sequence[Reference]) -> dict[str, str]:
    """Return how ``bleu``, ``chrf`` and ``rouge_l`` are computed for answers with these references, in one line each.

    Those of sacrebleu are its own signatures (Post 2018), by which figures of others can be compared.
    """
    several = [texts for texts in map(_several, references) if texts]
    chrf, bleu, _rouge = _scorers([text for texts in several for text in texts])
    counts = {len(texts) for texts in several} or {1}
    num_references = counts.pop() if len(counts) == 1 else "var"
    found = {}
    for name, scorer in (("bleu", bleu), ("chrf", chrf)):
        scorer.num_refs = num_references if isinstance(num_references, int) else -1
        found[name] = str(scorer.get_signature())
    unit = "words, Chinese and Japanese characters each for itself"
    found["rouge_l"] = f"nrefs:{num_references}|tok:{unit}|stemmer:no|rouge-score:{version_of('rouge-score')}"
    return found


def _several(reference: Reference) -> list[str]:
    return [reference] if isinstance(reference, str) else list(reference or ())


def answer_metrics(statistics: Statistics, weights_RN: npt.ArrayLike) -> Metrics:
    """Return ``exact_match``, ``rouge_1``, ``rouge_2``, ``rouge_l`` (0 to 1), ``chrf`` and ``bleu`` (0 to 100).

    [R] each; nan in a replicate without any judged row.
    """
    chrf, bleu, _ = _scorers([])
    given_N = statistics["given"].astype(np.float64)

    def compute(weights_NR: FloatArray) -> Metrics:
        judged_R = given_N @ weights_NR
        found = {"exact_match": ratio(statistics["exact"] @ weights_NR, judged_R, np.nan)}
        for index, name in enumerate(ROUGE):
            found[name] = ratio(statistics["rouge"][:, index] @ weights_NR, judged_R, np.nan)
        for name, scorer in (("chrf", chrf), ("bleu", bleu)):
            sums_RK = weights_NR.T @ statistics[name].astype(np.float64)
            scores = [scorer._compute_score_from_stats(_whole(sums)).score for sums in sums_RK]
            found[name] = np.where(judged_R > 0, np.array(scores, dtype=np.float64), np.nan)
        return found

    return over_replicates(compute, weights_RN, len(given_N))


def require_answer_metrics() -> None:
    """Raise ``MissingExtraError`` where what judges answers is not installed: better before a training than after."""
    _scorers([])


def _whole(sums: FloatArray) -> list[Any]:
    """Return sums as sacrebleu has them: whole numbers, where the weights are."""
    return [int(one) if one.is_integer() else float(one) for one in sums.tolist()]


def _scorers(references: Sequence[str]) -> tuple[Any, Any, Any]:
    """Return sacrebleu's chrF and BLEU and rouge-score's scorer."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise MissingExtraError("Judging answers by chrF and BLEU", "sacrebleu", "generation") from None
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingExtraError("Judging answers by ROUGE", "rouge-score", "generation") from None
    text = "".join(references)
    is_chinese = len(_HAN_CHARACTER.findall(text)) > _CHINESE_SHARE * max(len(text), 1)
    bleu = BLEU(tokenize="zh" if is_chinese else "13a", force=True)
    return CHRF(), bleu, RougeScorer(list(_ROUGE_NAMES), tokenizer=_RougeTokenizer())


class _RougeTokenizer:
    """rouge-score's own words, and each character of Chinese and Japanese, which it would leave out."""

    def tokenize(self, text: str) -> list[str]:
        return _ROUGE_TOKEN.findall(text.lower())


def normalised(text: str) -> str:
    """Return a text without what does not matter to an exact match: case, kinds of white space, forms of characters."""
    return " ".join(unicodedata.normalize("NFKC", in_order(text, "NFKC")).casefold().split())


def is_exact(answer: str, reference: str) -> bool:
    r"""Say whether an answer is the reference.

    A reference with a last line ``#### 42`` (as GSM8K has, Cobbe et al. 2021) stands for that number: the answer's
    number is what follows ``####``, else what stands in ``\boxed{}``, else its last number; thousands separators and
    currency signs do not matter. Any other reference is compared as text, ``normalised``.
    """
    if _HASHES in reference:
        wanted = _number(reference.rsplit(_HASHES, 1)[1])
        if wanted is not None:
            return answered_number(answer) == wanted
    return normalised(answer) == normalised(reference)


def answered_number(answer: str) -> Decimal | None:
    """Return the number that an answer comes to, or None."""
    if _HASHES in answer:
        return _number(answer.rsplit(_HASHES, 1)[1])
    boxed = _boxed(answer)
    if boxed is not None:
        return _number(boxed)
    found = _numbers(answer)
    return _decimal(found[-1]) if found else None


def _boxed(answer: str) -> str | None:
    r"""Return what the last ``\boxed{}`` holds."""
    start = answer.rfind(_BOXED)
    if start < 0:
        return None
    depth, first = 1, start + len(_BOXED)
    for position in range(first, len(answer)):
        depth += {"{": 1, "}": -1}.get(answer[position], 0)
        if not depth:
            return answer[first:position]
    return answer[first:]


def _number(text: str) -> Decimal | None:
    """Return the first number of a text."""
    found = _numbers(text)
    return _decimal(found[0]) if found else None


def _numbers(text: str) -> list[str]:
    return _NUMBER.findall(text.translate(_ASIDE).replace("{,}", ","))


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "").rstrip("."))
    except InvalidOperation:
        return None
