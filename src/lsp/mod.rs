//! The language server: what editors ask of `.cmae` files, answered by the compiler's own phases.
//!
//! Before: `elab` and `shape` note what stands where ([`crate::elab::Index`]), `format` lays out, `diag` says what mends. After:
//! `cmaec lsp` serves it over stdin and stdout.
//!
//! [`server`] takes messages in order and checks a text when nothing else waits; [`document`] holds texts and finds places in them;
//! [`analysis`] is what the compiler says of one; each thing that an editor asks is a file.
//!
//! **Invariant:** no message ends the server but `exit` and the end of its input: what is wrong in one is answered, or logged.

mod actions;
mod analysis;
mod completion;
mod context;
mod describe;
pub mod document;
mod hints;
mod hover;
mod library;
mod places;
mod problems;
mod protocol;
mod reach;
mod references;
mod rename;
mod server;
mod signature;
mod symbols;
mod uri;
mod wire;
mod words;
mod world;

pub use server::serve;
