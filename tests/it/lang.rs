//! The language: pages of pipelines with what the compiler says of them.

use std::path::Path;

use cmae::diag::{Diagnostics, render};
use cmae::source::Sources;

use crate::command::root;
use crate::pages::Page;

const PAGES: [&str; 7] = ["wrong", "evaluate", "ranges", "masks", "library", "copies", "limits"];

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
