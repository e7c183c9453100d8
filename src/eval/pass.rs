//! Passes over pictures, as who waits for them sees them.
//!
//! Before: [`super::quality`] and `cmaec features` go over a source. After: the command line shows how far they are.

use std::ops::ControlFlow;

/// How far a pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass<'a> {
    /// What is made of the pictures: `features`, `raw pixels`.
    pub what: &'a str,
    pub done: usize,
    pub of: usize,
}

/// Hears of a pass after each batch, and of its end; who breaks ends it.
pub type Look<'l> = &'l mut dyn FnMut(Pass<'_>) -> ControlFlow<()>;
