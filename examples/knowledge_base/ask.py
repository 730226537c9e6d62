"""Ask the documents: passages are found by one run, another one answers from them, with its sources.

python examples/knowledge_base/ask.py "Are you open on Sunday?" [--folder runs/knowledge_base]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from prepare import NUM_PASSAGES, prompt_of, read
from tunesmith import Run
from tunesmith.run import Writing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--folder", type=Path, default=Path("runs/knowledge_base"))
    arguments = parser.parse_args()
    folder = arguments.folder
    passages = read(folder / "passages.jsonl")
    vectors = np.load(folder / "passages.npy")
    asked = Run.open(folder / "search").embed([arguments.question])[0]
    best = np.argsort(-(vectors @ asked), kind="stable")[:NUM_PASSAGES]
    prompt = prompt_of(arguments.question, [passages[place]["text"] for place in best])
    answer = Run.open(folder / "answer").predict([prompt], writing=Writing(max_new_tokens=40))[0]["answer"]
    print(answer)
    for number, place in enumerate(best.tolist(), 1):
        found = passages[place]
        page = f", page {found['page']}" if found["page"] else ""
        headings = f" ({found['headings']})" if found["headings"] else ""
        print(f"[{number}] {found['source']}{page}{headings}")


if __name__ == "__main__":
    main()
