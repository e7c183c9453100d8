"""The texts that the grammars are held against: shipped files, pipelines of the docs, and pages of mistakes."""

import re
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """Every `.cmae` file of the repository, by its path."""
    folders = ["pipelines", "stdlib", "tests", "editors"]
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.cmae") if "node_modules" not in path.parts]
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(paths)}


def edited(edit: str) -> str:
    """The quickstart with lines of it replaced, as `tests/it/lang.rs` does it."""
    old, new = ("\n".join(line[1:] for line in edit.splitlines() if line.startswith(sign)) for sign in "-+")
    quickstart = (ROOT / "tests/lang/quickstart.cmae").read_text()
    assert old in quickstart, edit
    return quickstart.replace(old, new, 1)


def pages() -> Iterator[tuple[str, str, str]]:
    """Name, text, and what the compiler says of it: blocks of the docs and of pages of mistakes."""
    folders = [ROOT / "docs", ROOT / "src/diag/codes", ROOT / "tests/lang"]
    for path in sorted(path for folder in folders for path in folder.glob("*.md")):
        fences = FENCE.findall(path.read_text())
        for number, (info, text) in enumerate(fences):
            if info not in ("cmae", "edit"):
                continue
            said = fences[number + 1][1] if number + 1 < len(fences) and fences[number + 1][0] == "text" else ""
            yield f"{path.relative_to(ROOT)}#{number}", edited(text) if info == "edit" else text, said
