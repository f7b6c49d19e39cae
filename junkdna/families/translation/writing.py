"""In which script a language is written, and whether a text is in it."""

from __future__ import annotations

import re
import unicodedata

SCRIPTS = {
    "Latn": (
        ("LATIN",),
        """en eng de deu ger fr fra fre cs ces cze es spa it ita pt por nl nld dut da dan sv swe no nor nb nob nn nno fi
        fin et est lv lav lt lit pl pol sk slk slo sl slv hr hrv bs bos hu hun ro ron rum sq sqi alb tr tur az aze azj
        vi vie id ind ms msa may zsm jv jav su sun tl tgl fil ceb ilo mg mlg plt mt mlt cy cym wel ga gle gd gla br bre
        eu eus baq ca cat gl glg oc oci is isl ice lb ltz af afr fy fry sw swa swh so som ha hau ig ibo yo yor zu zul
        xh xho st sot tn tsn ts tso wo wol ff ful ln lin lg lug rw kin om orm gaz ht hat eo epo la lat uz uzb uzn
        tk tuk""",
    ),
    "Cyrl": (
        ("CYRILLIC",),
        "ru rus uk ukr be bel bg bul mk mkd mac kk kaz ky kir tg tgk tt tat ba bak mn mon khk cv chv",
    ),
    "Grek": (("GREEK",), "el ell gre"),
    "Armn": (("ARMENIAN",), "hy hye arm"),
    "Geor": (("GEORGIAN",), "ka kat geo"),
    "Hebr": (("HEBREW",), "he heb iw yi yid ydd"),
    "Arab": (("ARABIC",), "ar ara arb fa fas per pes ps pus pbt ur urd ug uig sd snd ckb prs"),
    "Deva": (("DEVANAGARI",), "hi hin mr mar ne nep npi sa san mai bho awa"),
    "Beng": (("BENGALI",), "bn ben as asm"),
    "Gujr": (("GUJARATI",), "gu guj"),
    "Guru": (("GURMUKHI",), "pa pan"),
    "Orya": (("ORIYA",), "or ori ory"),
    "Taml": (("TAMIL",), "ta tam"),
    "Telu": (("TELUGU",), "te tel"),
    "Knda": (("KANNADA",), "kn kan"),
    "Mlym": (("MALAYALAM",), "ml mal"),
    "Sinh": (("SINHALA",), "si sin"),
    "Ethi": (("ETHIOPIC",), "am amh ti tir"),
    "Hang": (("HANGUL",), "ko kor"),
    "Mymr": (("MYANMAR",), "my mya bur shn mnw"),
    "Thai": (("THAI",), "th tha"),
    "Laoo": (("LAO",), "lo lao"),
    "Khmr": (("KHMER",), "km khm"),
    "Tibt": (("TIBETAN",), "bo bod tib dz dzo"),
    "Hani": (("CJK", "IDEOGRAPHIC"), "zh zho chi cmn yue wuu hak gan"),
    "Jpan": (("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA"), "ja jpn"),
}
"""By ISO 15924's name: what the Unicode names of a script's letters begin with, and languages that have it alone or
nearly so. Serbian and others with two scripts are known by a code that says which (``srp_Cyrl``).
"""

SAME = {"Hans": "Hani", "Hant": "Hani", "Kore": "Hang", "Hira": "Jpan", "Kana": "Jpan"}
"""Other names of some of them."""

OF_LANGUAGE = {code: script for script, (_, codes) in SCRIPTS.items() for code in codes.split()}


def script_of(language: str) -> str | None:
    """Return the script of a language, None where it is not known.

    ``language`` is a code of two or three letters, alone ("my") or in a model's own spelling ("my_MM", "mya_Mymr",
    "__my__", ">>mya<<"). A script that it names goes before the table.
    """
    named = re.search(r"[_-]([A-Z][a-z]{3})(?![A-Za-z])", language)
    if named and (script := SAME.get(named[1], named[1])) in SCRIPTS:
        return script
    code = re.search(r"[A-Za-z]+", language)
    return OF_LANGUAGE.get(code[0].lower()) if code else None


def in_script(text: str, language: str) -> bool | None:
    """Whether most letters of a text are of a language's script; None where that is not known.

    Vowel signs count as letters. A text without letters is not in the script. Languages of one script are not told
    apart: English is in German's.
    """
    script = script_of(language)
    if script is None:
        return None
    letters = [name for character in text if (name := _letter(character))]
    return 2 * sum(name.startswith(SCRIPTS[script][0]) for name in letters) > len(letters)


def _letter(character: str) -> str:
    """The Unicode name of a letter, or of a mark that belongs to one script; else ""."""
    name = unicodedata.name(character, "") if unicodedata.category(character)[0] in "LM" else ""
    return "" if name.startswith("COMBINING") else name
