//! Help lines, taken at their word: what a line says to type is typed, and the mistake is gone.
//!
//! **Invariant:** a help that repeats the fault, or makes another of it, fails here: every page of mistakes is mended by what it
//! shows, wherever the line says what stands for what.

use std::path::Path;

use cmae::diag::{Diagnostic, Diagnostics};
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

/// The change that a diagnostic's help asks for, where it says so in full: a range of the example's text, and what to type there.
fn change(diagnostic: &Diagnostic, sources: &Sources, text: &str) -> Option<(std::ops::Range<usize>, String)> {
    let help = diagnostic.help.as_deref()?;
    // `write …` gives the text of what is labelled, `did you mean …` the name of it.
    let rest = help.strip_prefix("write `").or_else(|| help.strip_prefix("did you mean `"))?;
    let (typed, after) = rest.split_once('`')?;
    // What is to stand beside something, in another section or file, or holds a gap, is for people.
    let whole = ["", "?", ", ", " or ", "; ", ": "]
        .iter()
        .any(|end| after == *end || !end.is_empty() && after.starts_with(end));
    if !whole || typed.contains('…') || after.contains(" in `data`") || after.contains("`use ") {
        return None;
    }
    let (span, _) =
        diagnostic.labels.iter().find(|(span, _)| sources.get(span.source).name.ends_with("example.cmae"))?;
    let mut range = span.start as usize..span.end as usize;
    let labelled = &text[range.clone()];
    // Of a whole line a part is meant.
    if labelled.starts_with("use ") {
        return None;
    }
    let named = [": ", " = "].iter().find_map(|sign| {
        let (name, value) = typed.split_once(sign)?;
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some((name, value, sign.trim()))
    });
    let mut typed = typed.to_owned();
    if let Some((name, value, sign)) = named
        && !labelled.contains(sign)
    {
        let before = text[..range.start].trim_end();
        let own = before.strip_suffix(sign).map(str::trim_end).is_some_and(|before| before.ends_with(name));
        if !own {
            return None;
        }
        typed = value.to_owned();
    }
    // An operation that is written out takes the place of the call, not of its name alone.
    if typed.ends_with(')') && text[range.end..].starts_with('(') {
        let mut depth = 0_i32;
        let close = text[range.end..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0
        });
        range.end += close?.0 + 1;
    }
    Some((range, typed))
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
            for diagnostic in found.iter().filter(|diagnostic| !diagnostic.code.as_str().starts_with("syntax::")) {
                let Some((range, typed)) = change(diagnostic, &sources, &fence.text) else { continue };
                let mut text = fence.text.clone();
                text.replace_range(range, &typed);
                let (_, left) = told(&text);
                mended += 1;
                let same = |other: &&Diagnostic| other.code == diagnostic.code && other.message == diagnostic.message;
                if let Some(same) = left.iter().find(same) {
                    problems.push(format!("{name}, `{}`: `{typed}` does not mend\n{}", fence.heading, same.message));
                } else if let Some(worse) = left.iter().find(|other| other.code.as_str().starts_with("syntax::")) {
                    problems.push(format!(
                        "{name}, `{}`: `{typed}` is no text of this language\n{}",
                        fence.heading, worse.message
                    ));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    assert!(mended >= 60, "{mended} help lines say what to type");
}
