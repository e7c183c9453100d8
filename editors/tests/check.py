#!/usr/bin/env python3
"""Holds the editors' grammars against `grammar/cmae.pest`, every file and page of the repository, and each other.

`.ci/editors` runs it, with what it needs in `target/editors`; the grammar's C is compiled into that folder.
"""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import texts
import treesitter
import words

ROOT = Path(__file__).resolve().parents[2]
GRAMMAR = treesitter.GRAMMAR
VSCODE = ROOT / "editors/vscode"

# Where tree-sitter reads what the compiler refuses for its syntax; `editors/README.md` says why.
LOOSER = {
    "src/diag/codes/syntax.md: brackets are nested more than 64 deep",
    "tests/lang/syntax_heads.md: `for` is a word of the language, and so no name",
}

problems: list[str] = []
passed = 0


def expect(holds: bool, problem: str) -> None:
    global passed
    passed += holds
    if not holds:
        problems.append(problem)


def generated() -> None:
    """`src/` is what `grammar.js` gives; `npm run generate` notes the digests of both."""
    noted = json.loads((GRAMMAR / "generated.json").read_text())
    for file, digest in noted["sha256"].items():
        found = hashlib.sha256((GRAMMAR / file).read_bytes()).hexdigest()
        how = "`npm run generate` in editors/tree-sitter-cmae"
        expect(found == digest, f"{file} was changed since the parser was generated: {how}")


def known_words() -> None:
    """Each word of the definition is one of tree-sitter and Emacs, and no other is. TextMate's are seen by what it colours."""
    defined = words.defined()
    grammars = {"tree-sitter-cmae/grammar.js": words.of_tree_sitter(), "emacs/cmae-mode.el": words.of_emacs()}
    for name, known in grammars.items():
        missing, more = sorted(defined.keys() - known), sorted(known - defined.keys())
        expect(not missing, f"editors/{name} does not know {', '.join(missing)}, which grammar/cmae.pest has")
        expect(not more, f"editors/{name} knows {', '.join(more)}, which grammar/cmae.pest has not")


def queries(highlights: treesitter.Highlights) -> None:
    """Every query names nodes and fields that the grammar has."""
    folders = (ROOT / "editors" / name for name in ("tree-sitter-cmae", "zed"))
    for file in sorted(path for folder in folders for path in folder.rglob("*.scm")):
        fault = highlights.fault_of(file)
        expect(not fault, f"{file.relative_to(ROOT)}: {fault}")


def corpus(highlights: treesitter.Highlights) -> None:
    """Texts with their trees, in the form that `tree-sitter test` reads."""
    case = re.compile(r"^=+\n([^\n]+)\n(:error\n)?=+\n(.*?)^-{3,}\n(.*?)(?=^={3,}\n|\Z)", re.MULTILINE | re.DOTALL)
    for file in sorted((GRAMMAR / "test/corpus").glob("*.txt")):
        cases = case.findall(file.read_text())
        expect(len(cases) > 0, f"{file.name} has no case")
        for name, error, text, tree in cases:
            node = highlights.parse(text)
            if error:
                expect(node.has_error, f"{file.name}: `{name}` is read without an error")
                continue
            found = re.sub(r"\b\w+: ", "", str(node))
            expect(found == " ".join(tree.split()), f"{file.name}: `{name}` is read as {found}")


def coloured(highlights: treesitter.Highlights) -> None:
    """Lines with the captures below them, in the form that `tree-sitter test` reads."""
    for file in sorted((GRAMMAR / "test/highlight").glob("*.cmae")):
        text = file.read_text()
        captures, at = highlights.captures(text), 0
        start = 0
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            said = re.match(r"\s*//\s*(<-|\^)\s*([\w.]+)\s*$", line)
            if said:
                column = line.index("//") if said[1] == "<-" else line.index("^")
                found = captures[start + column]
                expect(found == said[2], f"{file.name}:{number}: `{found}` where `{said[2]}` is expected")
            else:
                start = at
            at += len(line.encode())


def mistakes(highlights: treesitter.Highlights) -> None:
    """What the compiler refuses for its syntax is an error of tree-sitter's too, and nothing else is."""
    looser = set()
    for name, text, said in texts.pages():
        wrong = "syntax::" in said
        found = treesitter.errors(highlights.parse(text))
        if wrong and not found:
            message = re.search(r"× (.*)", said)
            looser.add(f"{name.split('#')[0]}: {message[1] if message else said}")
        else:
            expect(wrong or not found, f"{name} is not read: {[error.start_point for error in found]}")
    expect(looser == LOOSER, f"tree-sitter reads other mistakes than are noted: {sorted(looser ^ LOOSER)}")


def classes(highlights: treesitter.Highlights) -> None:
    """Both grammars see the same comments, strings, numbers, words and operators, character by character."""
    read = texts.files()
    for name, text in read.items():
        errors = treesitter.errors(highlights.parse(text))
        expect(not errors, f"{name}:{errors and errors[0].start_point.row + 1}: tree-sitter does not read it")
    read |= {name: text for name, text, said in texts.pages() if "syntax::" not in said}
    command = ["node", ROOT / "editors/tests/textmate.mjs"]
    run = subprocess.run(command, input=json.dumps(read), stdout=subprocess.PIPE, text=True, check=True)
    textmate = json.loads(run.stdout)

    defined = words.defined()
    shown = {word: set() for word in defined}
    for name, text in read.items():
        ours = highlights.classes(text)
        lines = zip(text.split("\n"), ours.split("\n"), textmate[name].split("\n"), strict=True)
        differ = [
            f"\n  line {number}     {line}\n  tree-sitter {a}\n  TextMate    {b}"
            for number, (line, a, b) in enumerate(lines, 1)
            if a != b
        ]
        expect(not differ, f"{name}: the grammars differ{''.join(differ[:3])}")
        for found in re.finditer(r"\b[A-Za-z_][A-Za-z0-9_]*|(?<=[0-9])[a-z]+\b", text):
            if found[0] in shown:
                shown[found[0]].add(ours[found.start()])
    how = "teach them, and add a line to editors/tests/every_word.cmae"
    for word, letter in defined.items():
        expect(letter in shown[word], f"no file shows `{word}` as a word to both grammars: {how}")


def extension(file: Path) -> None:
    """What the packed extension holds, and that its data are data."""
    with zipfile.ZipFile(file) as packed:
        names = set(packed.namelist())
        manifest = json.loads(packed.read("extension/package.json"))
        contributes = manifest["contributes"]
        parts = [manifest["main"], *(entry["configuration"] for entry in contributes["languages"])]
        parts += [entry["path"] for kind in ("grammars", "snippets") for entry in contributes[kind]]
        for part in parts:
            inside = "extension/" + part.removeprefix("./")
            expect(inside in names, f"{file.name} lacks {part}")
            if inside.endswith(".json"):
                json.loads(packed.read(inside))
        script = packed.read("extension/" + manifest["main"].removeprefix("./")).decode()
        expect("vscode-languageclient" not in re.findall(r'require\("([^"]+)"\)', script), "the client is not bundled")
        expect("textDocument/publishDiagnostics" in script, "the client is not bundled")
        for licence in ("LICENSE-MIT.txt", "LICENSE-APACHE.txt", "LICENCES-OF-PARTS.txt"):
            expect(f"extension/dist/{licence}" in names, f"{file.name} lacks {licence}")
        expect(not [name for name in names if "node_modules" in name], f"{file.name} holds node_modules")
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
        expect(manifest["version"] == version[1], f"the extension is {manifest['version']}, the program {version[1]}")


def main() -> None:
    folder = ROOT / "target/editors"
    generated()
    known_words()
    highlights = treesitter.Highlights(treesitter.load(folder))
    queries(highlights)
    corpus(highlights)
    coloured(highlights)
    mistakes(highlights)
    classes(highlights)
    extension(folder / "cmae.vsix")
    for problem in problems:
        print(f"editors: {problem}", file=sys.stderr)
    print(f"editors: {passed} passed, {len(problems)} failed")
    sys.exit(bool(problems))


main()
