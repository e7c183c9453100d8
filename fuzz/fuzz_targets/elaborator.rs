//! Text → program: no pipeline makes the compiler panic, overflow its stack, or go on for ever. The text stands beside the
//! shipped pipelines and uses them and the standard library.
//!
//! `cargo +nightly fuzz run elaborator fuzz/corpus/elaborator pipelines -- -max_len=20000 -timeout=60`, from the repository.
#![no_main]

use std::path::Path;

use cmae::diag::{Diagnostics, render};
use cmae::source::Sources;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let path = Path::new("pipelines/example.cmae");
    sources.add_file(path, bytes);
    let compiled = cmae::compile(&mut sources, &mut diagnostics, path, &[]);
    assert_eq!(compiled.is_err(), diagnostics.has_errors());
    render(diagnostics.list(), &sources, false);
});
