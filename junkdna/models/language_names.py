"""Languages by their codes: ISO 639-1, ISO 639-3 (with the members of a macrolanguage that models name), English name.

A small table: what the translation models of the Hub know, as far as ISO 639-1 has a code for it.
"""

from __future__ import annotations

_TABLE = """
af afr Afrikaans; am amh Amharic; ar ara arb Arabic; as asm Assamese; ay aym ayr Aymara; az aze azj Azerbaijani;
ba bak Bashkir; be bel Belarusian; bg bul Bulgarian; bm bam Bambara; bn ben Bengali; bo bod Tibetan; br bre Breton;
bs bos Bosnian; ca cat Catalan; cs ces Czech; cy cym Welsh; da dan Danish; de deu German; dz dzo Dzongkha;
ee ewe Ewe; el ell Greek; en eng English; eo epo Esperanto; es spa Spanish; et est ekk Estonian; eu eus Basque;
fa fas pes Persian; ff ful fuv Fulah; fi fin Finnish; fj fij Fijian; fo fao Faroese; fr fra French;
fy fry Western Frisian; ga gle Irish; gd gla Scottish Gaelic; gl glg Galician; gn grn Guarani; gu guj Gujarati;
ha hau Hausa; he heb Hebrew; hi hin Hindi; hr hrv Croatian; ht hat Haitian Creole; hu hun Hungarian; hy hye Armenian;
id ind Indonesian; ig ibo Igbo; is isl Icelandic; it ita Italian; ja jpn Japanese; jv jav Javanese; ka kat Georgian;
kg kon Kongo; ki kik Kikuyu; kk kaz Kazakh; km khm Khmer; kn kan Kannada; ko kor Korean; kr kau knc Kanuri;
ks kas Kashmiri; ku kur kmr Kurdish; ky kir Kyrgyz; lb ltz Luxembourgish; lg lug Ganda; li lim Limburgish;
ln lin Lingala; lo lao Lao; lt lit Lithuanian; lv lav lvs Latvian; mg mlg plt Malagasy; mi mri Maori;
mk mkd Macedonian; ml mal Malayalam; mn mon khk Mongolian; mr mar Marathi; ms msa zsm Malay; mt mlt Maltese;
my mya Burmese; nb nob Norwegian Bokmål; ne nep npi Nepali; nl nld Dutch; nn nno Norwegian Nynorsk;
no nor Norwegian; ny nya Chichewa; oc oci Occitan; om orm gaz Oromo; or ori ory Oriya; pa pan Punjabi;
pl pol Polish; ps pus pbt Pashto; pt por Portuguese; qu que quy Quechua; rn run Rundi; ro ron Romanian;
ru rus Russian; rw kin Kinyarwanda; sa san Sanskrit; sc srd Sardinian; sd snd Sindhi; sg sag Sango; si sin Sinhala;
sk slk Slovak; sl slv Slovenian; sm smo Samoan; sn sna Shona; so som Somali; sq sqi als Albanian; sr srp Serbian;
ss ssw Swati; st sot Southern Sotho; su sun Sundanese; sv swe Swedish; sw swa swh Swahili; ta tam Tamil; te tel Telugu;
tg tgk Tajik; th tha Thai; ti tir Tigrinya; tk tuk Turkmen; tl tgl Tagalog; tn tsn Tswana; tr tur Turkish;
ts tso Tsonga; tt tat Tatar; ug uig Uyghur; uk ukr Ukrainian; ur urd Urdu; uz uzb uzn Uzbek; vi vie Vietnamese;
wo wol Wolof; xh xho Xhosa; yi yid ydd Yiddish; yo yor Yoruba; zh zho cmn Chinese; zu zul Zulu
"""


def _read() -> dict[str, tuple[tuple[str, ...], str]]:
    """The table as ISO 639-1 -> (all of the language's codes, English name)."""
    found = {}
    for entry in _TABLE.split(";"):
        words = entry.split()
        codes = tuple(word for word in words if word.islower())
        found[codes[0]] = codes, " ".join(words[len(codes) :])
    return found


LANGUAGES = _read()
"""ISO 639-1 -> (its codes, the name in English)."""

_BASES = {code: base for base, (codes, _) in LANGUAGES.items() for code in codes}


def base(word: str) -> str:
    """The language of a code of any spelling: "de" of "de", "deu", "de_DE" and "deu_Latn"; "ao" of "ao_AO".

    The two-letter code where the table has one, else what stands before the first underscore.
    """
    first = word.split("_")[0]
    return _BASES.get(first, first)


def spellings(word: str) -> tuple[str, ...]:
    """All codes of the language that a code without underscore means, itself among them."""
    return LANGUAGES[base(word)][0] if base(word) in LANGUAGES else (word,)


def english(word: str) -> str | None:
    """The language's name in English; None if the table does not have it."""
    return LANGUAGES[base(word)][1] if base(word) in LANGUAGES else None
