//! `docs/`: pages that are made from pipelines and standard library, and pages whose pipelines must compile.
//! `UPDATE_EXPECT=1` writes the former anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use cmae::diag::{Diagnostics, render};
use cmae::elab::{DATA_SETTINGS, OfView, TRAIN_SETTINGS, builtin_calls};
use cmae::source::{Sources, Span};
use cmae::syntax::ast::{Change, Entry, Expr, ExprKind, Item, Pipeline, SectionKind};
use cmae::syntax::parse_file;

use crate::command::{pipelines, root, updates_expected};

/// Compares a page with what it should hold, or writes it.
pub fn expect(path: &str, text: &str) {
    let path = root(path);
    if updates_expected() {
        fs::write(&path, text).expect("docs can be written");
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{} is not up to date: UPDATE_EXPECT=1 cargo test docs:: writes it anew", path.display());
}

/// On one line, as a table's cell holds it.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("").trim()).collect();
    words.join(" ").split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The calls within an expression, outermost last.
fn calls<'e>(expr: &'e Expr, found: &mut Vec<(&'e Expr, &'e [cmae::syntax::ast::Argument])>) {
    match &expr.kind {
        ExprKind::Call(callee, arguments) => {
            arguments.iter().for_each(|a| calls(&a.value, found));
            calls(callee, found);
            found.push((callee, arguments));
        }
        ExprKind::Field(a, _) | ExprKind::Unary(_, a) => calls(a, found),
        ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Range(a, b) | ExprKind::Pipe(a, b) => {
            calls(a, found);
            calls(b, found);
        }
        ExprKind::Tuple(items) | ExprKind::List(items) => items.iter().for_each(|e| calls(e, found)),
        ExprKind::Record(fields) => fields.iter().for_each(|(_, e)| calls(e, found)),
        ExprKind::Comprehension { item, .. } => calls(item, found),
        ExprKind::If { condition, then, otherwise } => {
            [condition, then, otherwise].iter().for_each(|e| calls(e, found))
        }
        _ => {}
    }
}

/// Where each mask function is defined.
const MASKS: [&str; 6] = ["random_mask", "grid_mask", "block_mask", "exact_block_mask", "patch_drop", "multi_block"];
/// Arguments that route tokens.
const ROUTING: [&str; 5] = ["keep", "blank", "restore", "ask", "known"];

/// One pipeline's choices on the axes, as its file writes them.
fn axes(pipeline: &Pipeline, sources: &Sources) -> BTreeMap<&'static str, Vec<String>> {
    let slice = |span: Span| cell(sources.slice(span));
    let mut row: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut add = |axis: &'static str, text: String| {
        let list = row.entry(axis).or_default();
        if !list.contains(&text) {
            list.push(text);
        }
    };
    for section in &pipeline.sections {
        for entry in &section.entries {
            let Entry::Binding(binding) = entry else { continue };
            let (name, value) = (&binding.name.text, &binding.value);
            match &section.kind {
                SectionKind::Views if &**name != "eval" => {
                    let times =
                        binding.repeat.as_ref().map_or(String::new(), |r| format!(" × {}", slice(r.count.span)));
                    add("views", format!("`{name}`{times}"));
                }
                SectionKind::Model => match &value.kind {
                    ExprKind::Call(callee, _) if slice(callee.span) == "ema" => {
                        add("update", format!("`{}`", slice(value.span)))
                    }
                    ExprKind::Call(callee, _) => add("networks", format!("`{name}`: {}", slice(callee.span))),
                    _ => {}
                },
                SectionKind::Branch(..) => {
                    let mut found = Vec::new();
                    calls(value, &mut found);
                    for (callee, arguments) in found {
                        if MASKS.contains(&&*slice(callee.span)) {
                            add("mask", format!("`{}`", slice(value.span)));
                        }
                        for argument in arguments.iter().filter_map(|a| a.name.as_ref()) {
                            if ROUTING.contains(&&*argument.text) {
                                add("routing", argument.text.to_string());
                            }
                        }
                    }
                }
                SectionKind::Losses => add("loss", format!("`{}`", slice(value.span))),
                SectionKind::Train if &**name == "optimizer" => add("optimizer", format!("`{}`", slice(value.span))),
                _ => {}
            }
        }
    }
    row
}

#[test]
fn the_table_of_methods_is_that_of_the_pipelines() {
    let mut text = String::from(
        "# Methods\n\nEvery pipeline in [`pipelines/`](../pipelines), by the choices that its file makes on each axis; the text is the \
         file's own, and the tests keep this page up to date. What a method is held against stands in \
         [`tests/golden/generate`](../tests/golden/generate/README.md); what is from memory of a paper is said in the file. How to write \
         another: [Your own method](your_own_method.md).\n\n\
         | pipeline | views | mask | routing | networks | loss | update | optimizer |\n|---|---|---|---|---|---|---|---|\n",
    );
    let mut variants = String::new();
    for path in pipelines() {
        let name = path.rsplit('/').next().unwrap_or_default();
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let id = sources.load(&root(&format!("pipelines/{path}.cmae"))).expect("it can be read");
        let file = parse_file(&sources, id, &mut diagnostics).unwrap_or_else(|_| panic!("{name} does not parse"));
        for item in &file.items {
            match item {
                Item::Pipeline(pipeline) => {
                    let row = axes(pipeline, &sources);
                    let axis = |axis: &str| row.get(axis).map_or_else(|| "–".to_owned(), |list| list.join("<br>"));
                    let cells = ["views", "mask", "routing", "networks", "loss", "update", "optimizer"].map(axis);
                    let _ = writeln!(text, "| [{name}](../pipelines/{path}.cmae) | {} |", cells.join(" | "));
                }
                Item::Variant(variant) => {
                    let changes: Vec<String> = variant
                        .overrides
                        .iter()
                        .map(|change| {
                            let path: Vec<&str> = change.path.iter().map(|n| &*n.text).collect();
                            let path = path.join(".");
                            match (&change.change, change.value()) {
                                (_, Some(value)) => format!("`{path} = {}`", cell(sources.slice(value.span))),
                                (Change::Remove, _) => format!("`remove {path}`"),
                                (_, None) => format!("`{path} {{ … }}`"),
                            }
                        })
                        .collect();
                    let changes = if changes.is_empty() { "its imports".to_owned() } else { changes.join("<br>") };
                    let base = &variant.base.text;
                    let _ = writeln!(variants, "| [{name}](../pipelines/{path}.cmae) | {base} | {changes} |");
                }
                Item::Block(_) | Item::Function(_) => {}
            }
        }
    }
    let _ = write!(text, "\n## Variants\n\n| pipeline | of | what changes |\n|---|---|---|\n{variants}");
    expect("docs/methods.md", &text);
}

/// `block mlp(dim: int, hidden: int) forward(x: [.., dim]) -> [.., dim]` of the item that `text` begins with.
fn signature(text: &str) -> String {
    let head = |text: &str| -> String {
        // Up to the brace that opens a body: those of record types stand within parentheses or behind the arrow.
        let mut depth = 0;
        let end = text.char_indices().find_map(|(at, c)| {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '{' if depth == 0 && !text[..at].trim_end().ends_with("->") => return Some(at),
                _ => {}
            }
            None
        });
        let head = cell(&text[..end.unwrap_or(text.len())]);
        head.replace("( ", "(").replace(" )", ")")
    };
    let body = text.find("\n}").map_or(text, |end| &text[..end]);
    let first = head(text);
    match (first.starts_with("block"), body.find("\n  forward(")) {
        (true, Some(forward)) => format!("{first} {}", head(&body[forward + 3..])),
        _ => first,
    }
}

#[test]
fn the_page_of_the_standard_library_is_that_of_its_files() {
    let mut text = String::from(
        "# Standard library\n\nBlocks and functions of [`stdlib/`](../stdlib), written in the language itself; `use std::FILE::NAME` brings \
         one in. The tests keep this page up to date.\n",
    );
    let entries = fs::read_dir(root("stdlib")).expect("it is in the repository");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    for path in files {
        let module = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        let source = fs::read_to_string(&path).expect("it can be read");
        let about = source.lines().next().unwrap_or_default().trim_start_matches("//").trim();
        let _ = write!(text, "\n## {module}\n\n{about}\n\n");
        let mut doc: Vec<&str> = Vec::new();
        let mut start = 0;
        for line in source.split_inclusive('\n') {
            let here = start;
            start += line.len();
            if let Some(comment) = line.strip_prefix("///") {
                doc.push(comment.trim());
                continue;
            }
            let is_item = ["block ", "fn "].iter().any(|word| line.starts_with(word));
            if is_item && !doc.is_empty() {
                let _ = writeln!(text, "- `{}`  \n  {}", signature(&source[here..]), doc.join(" "));
            }
            doc.clear();
        }
    }
    expect("docs/stdlib.md", &text);
}

#[test]
fn the_page_of_the_operations_is_that_of_the_table() {
    let mut text = String::from(
        "# Operations\n\nWhat `op::NAME(…)` computes; a `?` ends parameters that may be left out. Beside them tensors know \
         `+ - * /` and all comparisons (`< <= > >= == !=`: 1 where they hold, else 0), indexing of their first axis (`x[0]`), and \
         `stop_gradient(x)`. Where shapes differ, axes are aligned from the \
         right and those of size 1 repeated. [`tests/ops`](../tests/ops) explains each with examples and holds it against finite \
         differences. The tests keep this page up to date.\n\n",
    );
    let mut names = cmae::shape::op_names();
    names.extend(OfView::ALL.map(OfView::name));
    names.sort_unstable();
    for name in names {
        let of_view = OfView::named(name);
        let parameters = of_view.map(OfView::parameters).or_else(|| cmae::shape::op_signature(name));
        let parameters = parameters.expect("each has some or none").join(", ");
        let about =
            of_view.map(OfView::about).or_else(|| cmae::shape::op_about(name)).expect("each has a row or says it");
        let _ = writeln!(text, "- `op::{name}({parameters})` {about}");
    }
    expect("docs/ops.md", &text);
}

/// The page's tables against what the compiler knows: settings by their names, and every call with its arguments.
#[test]
fn the_page_of_the_language_is_that_of_the_compiler() {
    let page = fs::read_to_string(root("docs/language.md")).expect("the page is there");
    let section = |title: &str| {
        let (_, rest) = page.split_once(&format!("\n{title}\n")).unwrap_or_else(|| panic!("no section {title}"));
        rest.split("\n#").next().unwrap_or_default()
    };
    for (title, settings) in [("### `train`", &TRAIN_SETTINGS[..]), ("### `data`", &DATA_SETTINGS[..])] {
        let rows = section(title).lines().filter(|line| line.starts_with("| `"));
        let cells = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(','));
        let named: BTreeSet<&str> = cells.map(|name| name.trim().trim_matches('`')).collect();
        let missing: Vec<&&str> = settings.iter().filter(|name| !named.contains(**name)).collect();
        assert!(missing.is_empty(), "{title} lacks {missing:?}");
        let others = named.iter().filter(|name| !settings.contains(*name)).copied().collect::<Vec<_>>();
        assert!(matches!(others[..], ["parameters { … }"] | ["others", "train"]), "{title}: {others:?}");
    }
    let mut rows = String::from("| | |\n|---|---|\n");
    for (what, calls) in builtin_calls() {
        let signatures: Vec<String> = calls.map(|(name, params)| format!("`{name}({})`", params.join(", "))).collect();
        let _ = writeln!(rows, "| {what} | {} |", signatures.join(", "));
    }
    let (head, _) = page.split_once("\n## Every call\n").expect("the section is there");
    let about = section("## Every call").split("\n| | |").next().unwrap_or_default();
    expect("docs/language.md", &format!("{head}\n## Every call\n{about}\n{rows}"));
}

#[test]
fn pipelines_in_the_docs_compile() {
    // Beside which pipelines, and how many.
    for (page, folder, expected) in [
        ("your_own_method", "docs", 3),
        ("language", "docs", 3),
        ("evaluation", "pipelines", 2),
        ("finetuning", "docs", 3),
        ("weights", "docs", 1),
    ] {
        let text = fs::read_to_string(root(&format!("docs/{page}.md"))).expect("it is in the repository");
        let mut compiled = 0;
        let mut sources = Sources::new();
        for block in text.split("```cmae\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            let pipeline = text.lines().find_map(|line| line.strip_prefix("pipeline "));
            let pipeline = pipeline.expect("each block has a pipeline");
            let name = pipeline.split([' ', '{']).next().unwrap_or_default();
            let path = format!("{folder}/{name}.cmae");
            sources.add_file(&path, text);
            let mut diagnostics = Diagnostics::default();
            if cmae::compile(&mut sources, &mut diagnostics, path.as_ref(), &[]).is_err() {
                panic!("{name}:\n{}", render(diagnostics.list(), &sources, false));
            }
            compiled += 1;
        }
        assert_eq!(compiled, expected, "pipelines of {page}");
    }
}
