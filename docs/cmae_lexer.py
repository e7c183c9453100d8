"""Colours for `.cmae` on the site: a lexer for Pygments whose reserved words are those of `grammar/cmae.pest`."""

import re
from pathlib import Path

from pygments.lexer import RegexLexer, bygroups
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

PEST = (Path(__file__).resolve().parents[1] / "grammar/cmae.pest").read_text()
NAME = r"[A-Za-z_][A-Za-z0-9_]*"


def words(rule: str) -> set[str]:
    body = re.search(rf"^{rule}\s*=\s*@\{{(.*?)\}}$", PEST, re.MULTILINE | re.DOTALL)
    return set(re.findall(r'"([a-z_]+)"', body[1]))


def one_of(found: set[str]) -> str:
    return rf"(?:{'|'.join(sorted(found, key=len, reverse=True))})\b"


CONSTANTS = words("boolean") | words("none")
SECTIONS = words("section_name") | {"evaluate", "train", "parameters"}
RESERVED = words("keyword") - CONSTANTS
UNIT = rf"(?:%|px\b|\s*{one_of(words('time_unit'))})?"


class CmaeLexer(RegexLexer):
    name = "cmae"
    aliases = ["cmae"]
    filenames = ["*.cmae"]

    tokens = {
        "root": [
            (r"\s+", Text.Whitespace),
            (r"//.*", Comment.Single),
            (r'"(?:\\"|[^"\n])*"', String),
            (rf"\b[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?{UNIT}", Number),
            (r"\.\.", Operator),
            (rf"(\.)({NAME})", bygroups(Punctuation, Name)),
            # Words at one place, and names everywhere else.
            (rf"(for)(\s+)({NAME})(\s+)(in)\b", bygroups(Keyword, Text, Name, Text, Keyword)),
            (rf"(,)(\s*)({NAME})(\s+)(in)\b", bygroups(Punctuation, Text, Name, Text, Keyword)),
            (rf"(role|path|init|add|remove|as)([ \t]+)(?!{one_of(RESERVED)})(?=[A-Za-z_\"])", bygroups(Keyword, Text)),
            (r"add\b(?=\s+(?:branch\s+[A-Za-z_]|parameters\s*\{))", Keyword),
            (r"export\b(?=\s*=(?!=))", Keyword),
            (r"frozen\b(?=\s*(?:$|//|when\b|role\b))", Keyword),
            (rf"({NAME})(\s*)(:)(?!:)", bygroups(Name, Text, Punctuation)),
            (rf"{one_of(SECTIONS)}(?=\s*\{{)", Keyword),
            (rf"(block|branch|fn|pipeline)(\s+)({NAME})", bygroups(Keyword, Text, Name.Function)),
            (one_of(CONSTANTS), Keyword.Constant),
            (one_of(RESERVED), Keyword),
            (rf"({NAME})(::)", bygroups(Name, Punctuation)),
            (rf"{NAME}(?=\()", Name.Function),
            (NAME, Name),
            (r"\|>|->|[<>=!]=|[-+*/%<>=?|]", Operator),
            (r"[()\[\]{},:.]", Punctuation),
            # Pages of mistakes show letters that the language does not know.
            (r".", Text),
        ]
    }
