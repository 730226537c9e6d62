"""Typing noise: letters swapped, left out, doubled, or the neighbour's on the keyboard; homophones in Chinese."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from tunesmith.data.augmentation.edits import Edit, Place, chosen, is_free

_WORD = re.compile(r"[A-Za-z]{4,}")
_HAN = re.compile("[\u4e00-\u9fff]")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

_HOMOPHONES = (
    "的地得 在再 做作坐座 他她它 以已 那哪 像象向 即及既极 需须 和合何河 是事市式世试 时实十识食石 有又友右 "
    "会汇惠 为位未味 这着 进近尽 知只之支 子字自 新心欣 生声升 分份纷 气起期其齐 清轻青情请 店点电 好号 "
    "买卖 服福附 住主注祝 房方防 里理力利历 间见件建简 面免 到道倒 真珍 过果国 员园原元圆 反饭返 早找 "
    "给几 常长场 身深神 书数树 名明 话画化 行形型 同通 前钱千 高告 手首受收 机鸡积 快块 意义易已亿 工公功 "
    "全权 成程城 天添 张章 望忘 包报抱 感干敢 总种中 重众 安按暗 价家加假"
)
HOMOPHONES = tuple(_HOMOPHONES.split())
"""Characters that sound alike (tones put aside), in groups: usual mistakes of those who type by pinyin."""


def _neighbours() -> dict[str, str]:
    found: dict[str, str] = {}
    for number, keys in enumerate(_ROWS):
        for place, key in enumerate(keys):
            beside = keys[max(place - 1, 0) : place] + keys[place + 1 : place + 2]
            for other in (number - 1, number + 1):
                if 0 <= other < len(_ROWS):
                    beside += _ROWS[other][max(place - (other > number), 0) : place + 1]
            found[key] = beside
    return found


_NEIGHBOURS = _neighbours()
_SOUNDS = {one: group.replace(one, "") for group in HOMOPHONES if group for one in group}


class Noise:
    """Mistypes a share of the words; of Chinese texts, of the characters that have homophones."""

    def __init__(self, share: float) -> None:
        self._share = share

    def __call__(self, text: str, kept: Sequence[Place], random: Random) -> list[Edit]:
        words = [found for found in _WORD.finditer(text) if is_free(*found.span(), kept)]
        letters = [found for found in _HAN.finditer(text) if is_free(*found.span(), kept)]
        sounding = [found for found in letters if found[0] in _SOUNDS]
        edits = [Edit(found.start(), found.end(), _mistyped(found[0], random)) for found in words]
        edits += [Edit(found.start(), found.end(), random.choice(_SOUNDS[found[0]])) for found in sounding]
        edits = [edit for edit in edits if edit.text != text[edit.start : edit.end]]
        return chosen(edits, len(words) + len(letters), self._share, random) if edits else []


def _mistyped(word: str, random: Random) -> str:
    """Return a word with one mistake in it; its first letter stays."""
    place = random.randrange(1, len(word) - 1)
    match random.choice(("swap", "drop", "double", "neighbour")):
        case "swap":
            return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        case "drop":
            return word[:place] + word[place + 1 :]
        case "double":
            return word[:place] + word[place] + word[place:]
    letter = word[place]
    wrong = random.choice(_NEIGHBOURS[letter.lower()])
    return word[:place] + (wrong.upper() if letter.isupper() else wrong) + word[place + 1 :]
