"""The tree-sitter grammar as a library: trees of texts, and the class of every character by its highlights."""

import ctypes
import subprocess
from pathlib import Path

import tree_sitter

GRAMMAR = Path(__file__).resolve().parents[1] / "tree-sitter-cmae"

# By the beginning of a capture's name; the first that fits.
CLASSES = [
    ("comment", "c"),
    ("string", "s"),
    ("number.unit", "u"),
    ("number", "n"),
    ("boolean", "l"),
    ("constant.builtin", "l"),
    ("keyword", "k"),
    ("operator", "o"),
]


def load(folder: Path) -> tree_sitter.Language:
    """The grammar's C, compiled into `folder`."""
    library = folder / "cmae.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-std=c11", "-Wall", "-Wextra", "-Wno-unused", "-I", GRAMMAR / "src"]
    subprocess.run([*command, "-o", library, GRAMMAR / "src/parser.c"], check=True)
    entry = ctypes.CDLL(str(library)).tree_sitter_cmae
    entry.restype = ctypes.c_void_p
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype = ctypes.py_object
    capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return tree_sitter.Language(capsule(entry(), b"tree_sitter.Language", None))


class Highlights:
    def __init__(self, language: tree_sitter.Language):
        self.language = language
        self.parser = tree_sitter.Parser(language)
        self.query = tree_sitter.Query(language, (GRAMMAR / "queries/highlights.scm").read_text())

    def fault_of(self, query: Path) -> str:
        """What a query says that the grammar does not have."""
        try:
            tree_sitter.Query(self.language, query.read_text())
        except tree_sitter.QueryError as error:
            return str(error)
        return ""

    def parse(self, text: str) -> tree_sitter.Node:
        return self.parser.parse(text.encode()).root_node

    def captures(self, text: str) -> list[str]:
        """Of each byte the name of the capture that colours it: the innermost node's, of that the last pattern's."""
        names = [""] * len(text.encode())
        found = []
        for pattern, captured in tree_sitter.QueryCursor(self.query).matches(self.parse(text)):
            for name, nodes in captured.items():
                found += [(node.start_byte, -node.end_byte, pattern, name) for node in nodes]
        for start, end, _, name in sorted(found):
            names[start:-end] = [name] * (-end - start)
        return names

    def classes(self, text: str) -> str:
        """A letter for each character, as `textmate.mjs` writes them."""
        names = self.captures(text)
        letter = {name: next((c for start, c in CLASSES if name.startswith(start)), ".") for name in set(names)}
        at, result = 0, []
        for character in text:
            result.append("\n" if character == "\n" else letter[names[at]])
            at += len(character.encode())
        return "".join(result)


def errors(node: tree_sitter.Node) -> list[tree_sitter.Node]:
    """What could not be read, and what was missing."""
    if not node.has_error:
        return []
    own = [node] if node.is_error or node.is_missing else []
    return own + [error for child in node.children for error in errors(child)]
