//! The language: pages of pipelines with what the compiler says of them, and pipelines torn apart at random.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use cmae::data::rng::Key;
use cmae::data::view::Draw;
use cmae::diag::{Diagnostics, render};
use cmae::source::Sources;

use crate::command::root;
use crate::pages::Page;

const PAGES: [&str; 6] = ["wrong", "evaluate", "ranges", "masks", "library", "copies"];

/// What the compiler says of `text`, as a file beside the shipped pipelines; `None` where it compiles.
fn compile(text: &str) -> Option<String> {
    let mut sources = Sources::new();
    let mut diagnostics = Diagnostics::default();
    sources.add_file("pipelines/example.cmae", text);
    let result = cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines/example.cmae"), &[]);
    // An error without a message would leave its user with nothing.
    assert_eq!(result.is_err(), diagnostics.has_errors(), "{text}");
    // Whoever reads it finds a place in a file of his own first.
    for diagnostic in diagnostics.list() {
        let first = diagnostic.labels.first().map(|(span, _)| sources.get(span.source));
        assert!(first.is_none_or(|source| !source.library), "{}", render(diagnostics.list(), &sources, false));
    }
    result.is_err().then(|| render(diagnostics.list(), &sources, false))
}

#[test]
fn pages_of_wrong_pipelines() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let mut problems = Vec::new();
    for name in PAGES {
        let mut page = Page::read(root(&format!("tests/lang/{name}.md")));
        assert!(page.fences.iter().any(|fence| fence.info == "cmae"), "{name} shows no pipeline");
        for index in 0..page.fences.len() {
            if page.fences[index].info != "cmae" {
                continue;
            }
            match compile(&page.fences[index].text) {
                Some(drawn) => problems.extend(page.expect(index + 1, drawn.trim_end()).err()),
                None => problems.push(format!("{name}: `{}` compiles", page.fences[index].heading)),
            }
        }
        page.finish();
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// A piece of text: a word, a number, a run of blanks, or one sign.
fn pieces(text: &str) -> Vec<&str> {
    let class = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            1
        } else if c.is_whitespace() {
            2
        } else {
            0
        }
    };
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, c) in text.char_indices() {
        let now = class(c);
        if at > start && (now == 0 || last != Some(now)) {
            pieces.push(&text[start..at]);
            start = at;
        }
        last = Some(now);
    }
    pieces.push(&text[start..]);
    pieces
}

/// Text with one piece left out, doubled, or put in another's place.
fn torn(pieces: &[&str], draw: &mut dyn Draw) -> String {
    let mut pick = || draw.below(pieces.len() as u64) as usize;
    let (at, other) = (pick(), pick());
    let mut changed = pieces.to_vec();
    match draw.below(4) {
        0 => drop(changed.remove(at)),
        1 => changed.insert(at, pieces[at]),
        2 => changed[at] = pieces[other],
        _ => changed.swap(at, other),
    }
    changed.concat()
}

#[test]
fn no_text_makes_the_compiler_panic() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    for name in ["quickstart", "mae_vitb", "cmae_vitb_paper"] {
        let text = fs::read_to_string(root(&format!("pipelines/{name}.cmae"))).expect("it is in the repository");
        let pieces = pieces(&text);
        assert_eq!(pieces.concat(), text);
        let mut draw = Key { seed: 1, epoch: 0, sample: 0 }.stream(name);
        for _ in 0..150 {
            let text = torn(&pieces, &mut draw);
            assert!(catch_unwind(AssertUnwindSafe(|| compile(&text))).is_ok(), "the compiler panics at\n{text}");
        }
    }
}
