"""The documentation as a site: `.ci/docs` builds it into `target/site`.

Pages are the repository's own Markdown files where they lie, so that links between them are the same here and on a
forge; pipelines and the standard library are pages too.
"""

import re
import shutil
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.parsers import Parser

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cmae_lexer import CmaeLexer  # noqa: E402

CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]

project = "cmae"
author = "the cmae authors"
version = release = CARGO["version"]
html_title = f"cmae {version}"
language = "en"

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "src/diag/codes/*.md",
    "src/data/source/digits/CREDITS.md",
    "tests/golden/generate/README.md",
    "tests/exchange/README.md",
    "editors/README.md",
    "grammar/cmae.pest",
    "pipelines/**.cmae",
    "stdlib/**.cmae",
]
# What is built, which is not walked through.
exclude_patterns = ["target", "runs", "editors/vscode/node_modules", ".*"]
source_suffix = {".md": "markdown", ".cmae": "cmae", ".pest": "cmae"}

myst_heading_anchors = 4
myst_links_external_new_tab = True
highlight_language = "text"
nitpicky = True

html_theme = "furo"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path = ["site"]
html_css_files = ["site.css"]

PAGES = [
    (
        "Use",
        [
            "docs/language",
            "docs/your_own_method",
            "docs/methods",
            "docs/data",
            "docs/weights",
            "docs/shapes",
            "docs/evaluation",
            "docs/finetuning",
            "docs/troubles",
            "docs/editors",
        ],
    ),
    ("Machines", ["docs/accelerators", "docs/scale"]),
    ("Reference", ["docs/stdlib", "docs/ops", "grammar/cmae"]),
    ("Errors", [f"src/diag/codes/{name}" for name in "syntax name unit shape view data weights graph export warning".split()]),
    ("Project", ["CONTRIBUTING", "CHANGELOG", "editors/README"]),
]
# Pages that list a folder's files: a link to the folder leads there, and its files stand below them.
FOLDERS = {"pipelines": "docs/methods", "stdlib": "docs/stdlib"}
# Pages that others link to, and that no list holds.
LONE = ["src/data/source/digits/CREDITS", "tests/golden/generate/README", "tests/exchange/README"]


class FileParser(Parser):
    """A file of the language, as its text."""

    supported = ("cmae",)

    def parse(self, text, document):
        path = Path(document["source"]).relative_to(ROOT)
        self.setup_parse(text, document)
        section = nodes.section(ids=["file"])
        section += nodes.title(text="/".join(path.with_suffix("").parts[1:]) if path.suffix == ".cmae" else f"The grammar, {path.name}")
        section += nodes.literal_block(text, text, language="cmae" if path.suffix == ".cmae" else "text")
        document += section
        self.finish_parse()


def toctree(pages: list[str], caption: str = "") -> str:
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "```{toctree}", *options, "", *(f"/{page}" for page in pages), "```", ""])


def adapted(app, docname, source):
    """What a page of the repository needs to be one of the site."""
    page = ROOT / app.env.doc2path(docname, base=False)
    if page.suffix != ".md":
        return
    text = source[0]

    def link(found: re.Match) -> str:
        """A link to a folder: to the page that lists it, or to the forge, which Cargo.toml may name."""
        words, path = found[1], (page.parent / found[2]).resolve()
        if not path.is_dir():
            return found[0]
        target = str(path.relative_to(ROOT))
        if FOLDERS.get(target, docname) != docname:
            return f"[{words}](/{FOLDERS[target]}.md)"
        return f"[{words}]({CARGO['repository']}/tree/main/{target})" if "repository" in CARGO else words

    text = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)\)", link, text)
    if docname == root_doc:
        text += "".join(toctree(pages, caption) for caption, pages in PAGES)
    for name, listing in FOLDERS.items():
        if docname == listing:
            text += toctree([str(path.relative_to(ROOT).with_suffix("")) for path in sorted((ROOT / name).rglob("*.cmae"))])
    if docname in LONE:
        text = f"---\norphan: true\n---\n{text}"
    source[0] = text


def index(app, failed):
    """The first page has the name that a server looks for."""
    if not failed and app.builder.name == "html":
        shutil.copyfile(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app):
    app.add_lexer("cmae", CmaeLexer)
    app.add_source_parser(FileParser)
    app.connect("source-read", adapted)
    app.connect("build-finished", index)
    return {"parallel_read_safe": True}
