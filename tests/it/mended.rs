//! Help lines, taken at their word: what a line says to type is typed, and the mistake is gone.
//!
//! **Invariant:** a help that repeats the fault, or makes another of it, fails here: every page of mistakes is mended by what it
//! shows, wherever the line says what stands for what.

use std::path::Path;

use cmae::diag::{Change, Diagnostic, Diagnostics, Edit, changes};
use cmae::source::Sources;

use crate::command::root;
use crate::pages::Page;

/// Pages whose help lines are tried.
const PAGES: [&str; 14] = [
    "tests/lang/wrong.md",
    "tests/lang/evaluate.md",
    "tests/lang/ranges.md",
    "tests/lang/masks.md",
    "tests/lang/library.md",
    "tests/lang/copies.md",
    "tests/lang/limits.md",
    "tests/lang/newcomers.md",
    "src/diag/codes/name.md",
    "src/diag/codes/unit.md",
    "src/diag/codes/shape.md",
    "src/diag/codes/view.md",
    "src/diag/codes/graph.md",
    "src/diag/codes/warning.md",
];

/// What the compiler says of `text` as a file beside the shipped pipelines.
fn told(text: &str) -> (Sources, Vec<Diagnostic>) {
    let mut sources = Sources::new();
    let mut diagnostics = Diagnostics::default();
    sources.add_file("pipelines/example.cmae", text);
    let found = match cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines/example.cmae"), &[]) {
        Ok(compiled) => compiled.warnings(None),
        Err(_) => diagnostics.list().to_vec(),
    };
    (sources, found)
}

/// The example with a change made, where all of it is the example's.
fn changed(text: &str, mut edits: Vec<Edit>, sources: &Sources) -> Option<String> {
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.span));
    let mut text = text.to_owned();
    for Edit { span, text: typed } in edits {
        if !sources.get(span.source).name.ends_with("example.cmae") {
            return None;
        }
        text.replace_range(span.start as usize..span.end as usize, &typed);
    }
    Some(text)
}

#[test]
fn what_a_help_line_says_to_type_mends_the_file() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let (mut problems, mut mended) = (Vec::new(), 0);
    for name in PAGES {
        let page = Page::read(root(name));
        for fence in page.fences.iter().filter(|fence| fence.info == "cmae") {
            let (sources, found) = told(&fence.text);
            // What does not follow the grammar has tests of its own: `recovery`.
            for diagnostic in found.iter().filter(|diagnostic| !diagnostic.code.is_syntax()) {
                for Change { title, edits } in changes(diagnostic, &sources) {
                    let Some(text) = changed(&fence.text, edits, &sources) else { continue };
                    let (_, left) = told(&text);
                    mended += 1;
                    let same =
                        |other: &&Diagnostic| other.code == diagnostic.code && other.message == diagnostic.message;
                    if let Some(same) = left.iter().find(same) {
                        problems.push(format!("{name}, `{}`: {title} does not mend\n{}", fence.heading, same.message));
                    } else if let Some(worse) = left.iter().find(|other| other.code.is_syntax()) {
                        problems.push(format!(
                            "{name}, `{}`: {title} is no text of this language\n{}",
                            fence.heading, worse.message
                        ));
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    assert!(mended >= 60, "{mended} help lines say what to type");
}
