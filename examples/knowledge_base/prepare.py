"""Make training rows of questions and passages: pairs to search by, and questions with passages to answer from.

    python examples/knowledge_base/prepare.py passages.jsonl FOLDER

Every question names a few words of the passage that answers it. FOLDER gets `pairs.jsonl` for the search and
`answers.jsonl` for the model that answers.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

QUESTIONS = Path(__file__).with_name("questions.jsonl")
NUM_PASSAGES = 2
"""Passages that a question is answered from."""


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompt_of(question: str, passages: Sequence[str]) -> str:
    """Return what the model that answers is asked."""
    given = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(passages, 1))
    return f"Answer briefly, from these passages alone.\n\n{given}\n\nQuestion: {question}"


def main() -> None:
    texts = [passage["text"] for passage in read(Path(sys.argv[1]))]
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)  # noqa: S311
    pairs, answers = [], []
    for row in read(QUESTIONS):
        evidence = " ".join(row["evidence"].split())
        right = next((text for text in texts if evidence in " ".join(text.split())), None)
        if right is None:
            sys.exit(f"No passage holds {row['evidence']!r}: make the documents first (make_documents.py).")
        pairs.append({"question": row["question"], "passage": right})
        shown = [right, *generator.sample([text for text in texts if text != right], NUM_PASSAGES - 1)]
        generator.shuffle(shown)
        answers.append({"prompt": prompt_of(row["question"], shown), "completion": row["answer"]})
    for name, rows in (("pairs.jsonl", pairs), ("answers.jsonl", answers)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(lines, encoding="utf-8")
        print(f"{folder / name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
