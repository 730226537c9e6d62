"""Encodings of one byte a letter, and the wider ones that Windows adds to standards."""

from __future__ import annotations

import pytest

from tunesmith.data.alphabets import likeliest

TEXTS = {
    ("cp1252", "French"): "Le garçon a été très déçu par cette soirée, où l’hôtel était fermé à Noël",
    ("cp1252", "Danish"): "Børnene så på æblerne og løb gennem den grønne skov til åen",
    ("cp1252", "Icelandic"): "Það er gott að búa í þessu húsi við ána, sagði maðurinn þá og fór út",
    (
        "cp1250",
        "Polish",
    ): "Wczoraj wieczorem źle się czułem, więc poszedłem spać wcześniej niż zwykle, a sąsiedzi hałasowali",
    ("cp1250", "Hungarian"): "A szállás nagyon jó volt, a vendéglátók kedvesek, az erdő közel, és a hűtő is működött",
    ("cp1250", "Croatian"): "Sljedeće godine ćemo opet doći, šuma je blizu i sve što želiš možeš naći u gradiću",
    ("iso8859-2", "Slovak"): "Ešte dnes večer pôjdeme k babičke, lebo má rada koláče, ťažko však nájdeme ľahšiu cestu",
    (
        "iso8859-2",
        "Polish",
    ): "Wczoraj wieczorem źle się czułem, więc poszedłem spać wcześniej niż zwykle, a sąsiedzi hałasowali",
    ("cp1254", "Turkish"): "Dün akşam çok geç kaldık, çünkü yağmur yağıyordu ve otobüs bozulmuştu, şoför özür diledi",
    (
        "cp1257",
        "Lithuanian",
    ): "Šiandien aš važiuoju į miestą, nes noriu nusipirkti naują knygą ir gerti kavą su drauge, žinoma",
    ("cp866", "Russian"): "Вчера вечером мы долго ждали автобус, потому что водитель заболел",
    ("iso8859-5", "Russian"): "Вчера вечером мы долго ждали автобус, потому что водитель заболел",
    ("koi8-r", "Russian capitals"): "ВЧЕРА ВЕЧЕРОМ МЫ ДОЛГО ЖДАЛИ АВТОБУС",
    ("iso8859-7", "Greek"): "Χθες το βράδυ περιμέναμε πολλή ώρα το λεωφορείο, γιατί ο οδηγός ήταν άρρωστος",
    ("cp1255", "Hebrew"): "אתמול בערב חיכינו הרבה זמן לאוטובוס כי הנהג היה חולה",
    ("cp1256", "Arabic"): "انتظرنا الحافلة وقتا طويلا مساء أمس لأن السائق كان مريضا",
    ("cp874", "Thai"): "เมื่อวานตอนเย็นเรารอรถเมล์นานมากเพราะคนขับป่วย",
    (
        "mac-roman",
        "German",
    ): "Gestern Abend warteten wir lange, weil der Fahrer plötzlich krank geworden wäre, größer als für möglich",
    ("cp850", "Spanish"): "Mañana será otro día, dijo el señor después de esperar el autobús más de una hora, ¿verdad?",
}


@pytest.mark.parametrize(("encoding", "text"), [(one, text) for (one, _), text in TEXTS.items()],
                         ids=[" ".join(pair) for pair in TEXTS])  # fmt: skip
def test_letters_of_one_language_tell_the_encoding(encoding: str, text: str) -> None:
    found, _ = likeliest(text.encode(encoding))
    assert text.encode(encoding).decode(found) == text


def test_bytes_of_no_language_convince_nobody() -> None:
    assert likeliest(bytes(range(128, 256)) * 4) == ("", [])
    assert likeliest(b"plain words") == ("", [])


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp949", "어제 저녁에 버스를 오래 기다렸습니다. 운전사가 아팠기 때문입니다. 펲시 콜라를 마셨다"),
        ("cp932", "昨日の夜はバスを長いあいだ待ちました。運転手が病気だったからです。㈱山田①"),
    ],
)
def test_characters_that_windows_added_are_read(read_bytes, encoding: str, text: str) -> None:
    content = "text,label\n" + "".join(f"{text} {row},{'ab'[row % 2]}\n" for row in range(20))
    raw = read_bytes("x.csv", content.encode(encoding))
    assert raw.splits["train"]["text"][0] == f"{text} 0"
    assert not raw.rejected
