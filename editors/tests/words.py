"""The words of `grammar/cmae.pest`, and those that each editor's grammar knows."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EDITORS = ROOT / "editors"
WORD = re.compile(r"[A-Za-z_]+")


def rule(pest: str, name: str) -> list[str]:
    """The words between quotes in a rule of the definition."""
    body = re.search(rf"^{name}\s*=\s*[@$!_]?\{{(.*?)\}}$", pest, re.MULTILINE | re.DOTALL)
    if body is None:
        raise SystemExit(f"grammar/cmae.pest has no rule `{name}`: editors/tests/words.py is to follow it")
    return [word for word in re.findall(r'"([^"]*)"', body[1]) if WORD.fullmatch(word)]


def defined() -> dict[str, str]:
    """Each word of the definition, with the class of its characters: k keyword, l constant, u unit."""
    pest = (ROOT / "grammar/cmae.pest").read_text()
    names = re.findall(r"^(kw_[a-z_]+)\s*=", pest, re.MULTILINE)
    words = {word: "k" for name in [*names, "section_name", "keyword"] for word in rule(pest, name)}
    words |= {word: "l" for name in ["boolean", "none"] for word in rule(pest, name)}
    words |= {word: "u" for name in ["time_unit", "unit"] for word in rule(pest, name)}
    return words


def of_tree_sitter() -> set[str]:
    """Every word that is a token of its own in the generated grammar."""

    def strings(value):
        if isinstance(value, dict):
            if value.get("type") == "STRING":
                yield value["value"]
            for part in value.values():
                yield from strings(part)
        elif isinstance(value, list):
            for part in value:
                yield from strings(part)

    grammar = json.loads((EDITORS / "tree-sitter-cmae/src/grammar.json").read_text())
    return {word for word in strings(grammar["rules"]) if WORD.fullmatch(word)}


def of_emacs() -> set[str]:
    """The lists at the head of the mode."""
    mode = (EDITORS / "emacs/cmae-mode.el").read_text()
    lists = re.findall(r"^\(defconst cmae-\w+-words\n?\s*'\((.*?)\)", mode, re.MULTILINE | re.DOTALL)
    return {word for text in lists for word in re.findall(r'"([A-Za-z_]+)"', text)}
