//! The standard library's names, which need no `use`: what is nearer goes by a name first.

use std::fs;

use cmae::diag::{Diagnostics, render};
use cmae::graph::Program;
use cmae::source::Sources;

use crate::command::root;

/// What becomes of the quickstart with `head` before it, and `changes` of its text.
fn quickstart(head: &str, changes: &[(&str, &str)]) -> Result<Program, String> {
    let mut text = fs::read_to_string(root("pipelines/quickstart.cmae")).expect("it is in the repository");
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let path = root("pipelines/example.cmae");
    sources.add_file(&path, format!("{head}\n{text}"));
    let compiled = cmae::compile(&mut sources, &mut diagnostics, &path, &[]);
    compiled.map(|compiled| compiled.program).map_err(|_| render(diagnostics.list(), &sources, false))
}

#[test]
fn a_use_brings_nothing_but_clarity() {
    let plain = quickstart("", &[]).unwrap_or_else(|error| panic!("{error}"));
    let used = quickstart("use std::{vit::vit, pooling::mean_tokens, losses::info_nce}", &[]);
    assert!(plain.train == used.unwrap_or_else(|error| panic!("{error}")).train);
}

#[test]
fn what_is_nearer_goes_by_the_name_first() {
    let plain = quickstart("", &[]).unwrap_or_else(|error| panic!("{error}"));
    // A function of the file, in the place of the library's.
    let own = quickstart("fn mean_tokens(x: [B, N, D]) -> [B, D] { op::mean(x, axis: 1) * 2.0 }", &[]);
    assert!(plain.train != own.unwrap_or_else(|error| panic!("{error}")).train);
    // A parameter of the pipeline, which is no function.
    let param = [("  param patch_size ", "  param mean_tokens = 3\n  param patch_size ")];
    let error = quickstart("", &param).expect_err("a number cannot be called");
    assert!(error.contains("mean_tokens"), "{error}");
}

#[test]
fn a_misspelt_name_is_told_with_the_librarys() {
    let error = quickstart("", &[("random_mask(", "random_masks(")]).expect_err("nobody has it");
    assert!(error.contains("random_masks") && error.contains("random_mask`"), "{error}");
}
