//! Bytes → text → tree: no file makes the parser panic, overflow its stack, or go on for ever.
//!
//! `cargo +nightly fuzz run parser fuzz/corpus/parser pipelines stdlib -- -max_len=20000 -timeout=10`
#![no_main]

use std::path::Path;

use cmae::diag::{Diagnostics, render};
use cmae::source::Sources;
use cmae::syntax::parse_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    sources.add_file("example.cmae", bytes);
    let id = sources.load(Path::new("example.cmae")).expect("it is in memory");
    let parsed = parse_file(&sources, id, &mut diagnostics);
    // A file with errors has a tree all the same, where anything of it can be read.
    assert!(parsed.is_ok() || diagnostics.has_errors());
    render(diagnostics.list(), &sources, false);
});
