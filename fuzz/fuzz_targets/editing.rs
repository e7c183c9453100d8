//! Edits of a document as an editor sends them: no panic, the server's text is the one that a simple model gives, and every question
//! about it is answered.
//!
//! `cargo +nightly fuzz run editing fuzz/corpus/editing -- -max_len=400 -timeout=60`, from the repository.
#![no_main]

#[path = "../../tests/edits.rs"]
mod edits;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    edits::agree("α = 1\r\nβ = 𝜆\rγ\n", bytes);
    edits::serve(include_str!("../../pipelines/quickstart.cmae"), bytes);
});
