r"""Units of answers: splits `10\text{ feet}` into the number and the unit.

A unit on one side of a comparison only is ignored, since the question often states it. Units on
both sides must agree if they are measures, that is, in the table below; they are not converted.
Other nouns ("18 eggs") are labels and never compared.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

PERCENT, DEGREE = "%", "°"

# Names of one measure. A plural `s` is understood.
_NAMES: Mapping[str, str] = {
    PERCENT: r"% \% percent percentage pct",
    DEGREE: "° degree deg",
    "°c": "°c celsius",
    "°f": "°f fahrenheit",
    "$": r"$ \$ dollar usd",
    "cent": "cent",
    "£": r"£ \pounds gbp",
    "€": r"€ \euro euro eur",
    "¥": "¥ yen jpy yuan cny",
    "₹": "₹ rupee inr",
    "mm": "mm millimeter millimetre",
    "cm": "cm centimeter centimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "mg": "mg milligram",
    "g": "g gram",
    "kg": "kg kilogram",
    "oz": "oz ounce",
    "lb": "lb pound",
    "ml": "ml milliliter millilitre",
    "l": "l liter litre",
    "gal": "gal gallon",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "yr year",
    "am": "am a.m.",
    "pm": "pm p.m.",
    "mph": "mph",
    "km/h": "km/h kmh kph",
    "radian": "rad radian",
    "acre": "acre",
    "hectare": "hectare",
}
_MEASURES = {name: unit for unit, names in _NAMES.items() for name in names.split()}
# Words that follow a number in mathematics without being its unit.
_NO_UNITS = (
    "alpha and beta cos cot csc delta factorial for gamma if inf infinity lambda ln log mod omega "
    "or phi pi rho sigma sin sqrt tan tau theta to where"
)
_NOT_UNITS = frozenset(_NO_UNITS.split())
_EXPONENTS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}

_CURRENCY = re.compile(r"^(-?)\s*(?:US)?(\\?\$|£|€|¥|₹|\\pounds\b|\\euro\b)\s*(?=[-\d.\\])")
# After a number, a closing bracket or pi: commands of text and signs, or plain words.
_DEGREE = r"(?:°|\^\{?\\circ\}?)(?:\s*(?:\\(?:text|mathrm)\s*\{\s*[CF]\s*\}|[CF]\b))?"
_SIGN = rf"\\?%|{_DEGREE}|\\?\$|[£€¥₹]"
_IN_TEXT = r"\\(?:text|mathrm|mbox|textrm|rm)\s*\{[^{}]*\}(?:\^\{?-?\d\}?)?"
_WORD = r"[A-Za-z][A-Za-z.]*(?:\^\{?\d\}?)?"
_UNIT = re.compile(
    rf"(?<=[\d)\]}}i!.])(?P<unit>\s*(?:{_SIGN})"
    rf"|(?:\s*(?:{_IN_TEXT}|(?<=\}})\s*(?:/|\\cdot)\s*(?=\\)))+"
    rf"|\s*{_WORD}(?:(?:\s*/\s*|[\s-]+){_WORD})*)\s*$"
)
_PLAIN_LETTER = re.compile(r"\s+[mgshlL]")


class Measured(NamedTuple):
    """A text without its unit; `unit` is "" for none, `label` for a noun that is no measure."""

    value: str
    unit: str = ""
    label: bool = False


def split_unit(text: str) -> Measured:
    """The text of an answer, and its unit."""
    if money := _CURRENCY.match(text):
        rest = split_unit(money[1] + text[money.end() :])
        return Measured(rest.value, _MEASURES[money[2]])
    found = _UNIT.search(text)
    if not found:
        return Measured(text)
    value, unit = text[: found.start()].rstrip(), found["unit"]
    name = _name(unit)
    if not _is_unit(unit, name):
        return Measured(text)
    measure = _measure(name)
    return Measured(value, measure or "", label=not measure)


def _is_unit(unit: str, name: str) -> bool:
    """Whether what follows a number is a unit, and neither a factor nor a connective."""
    words = re.findall(r"[a-z.]+", name)
    if words and words[0] in _NOT_UNITS:
        return False
    if "\\" in unit or not words:
        return True
    # Plain letters are variables, unless they are a measure or read like a word.
    if len(unit.strip()) == 1:
        return bool(_PLAIN_LETTER.fullmatch(unit))
    if _measure(name):
        return True
    return unit[0].isspace() and all(len(w) > 2 and re.search("[aeiouy]", w) for w in words[:1])


def _name(unit: str) -> str:
    r"""The unit without commands: `\text{ square feet}` is `square feet`."""
    plain = re.sub(r"\\(?:text|mathrm|mbox|textrm|rm)\s*\{([^{}]*)\}", r" \1 ", unit).lower()
    plain = re.sub(r"\^\{?\\circ\}?|\bdegrees?\b", "°", plain.replace(r"\cdot", " "))
    plain = re.sub(r"°\s*(?=[cf])", "°", re.sub(r"\s*\^\{?(-?\d)\}?", r"^\1", plain))
    return " ".join(re.sub(r"°(?=celsius|fahrenheit)", "", plain).split())


def _measure(name: str) -> str | None:
    """The canonical name of a measure, with exponents and quotients; None if it is none."""
    parts = []
    for quotient in re.split(r"\s*/\s*|\s+per\s+", name):
        words = quotient.split()
        exponent = "".join(_EXPONENTS.get(word, "") for word in words)
        names = [word for word in words if word not in _EXPONENTS]
        if len(names) != 1:
            return None
        word, mark, power = names[0].partition("^")
        measure = _MEASURES.get(word) or _MEASURES.get(word.removesuffix("s"))
        if measure is None:
            return None
        parts.append(measure + exponent + mark + power)
    return "/".join(parts)
