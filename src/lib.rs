//! `cmae`: a declarative language for self-supervised vision training, its compiler and its runtime.
//!
//! # Steps
//! - [`syntax`]: text → AST, by the grammar in `grammar/cmae.pest`.
//! - [`format`](mod@format): a text as it should stand, for `cmaec fmt`; [`lsp`]: what editors ask of one, by the phases up to [`graph`].
//! - [`elab`]: AST → bound pipeline: names, parameters, units, overrides; blocks expanded to modules with paths.
//! - [`shape`]: bound → typed: branches, losses and evaluation evaluated, every value with its shape.
//! - [`graph`]: typed → [`graph::Program`]: a graph for each mode and one layout for all tensors.
//! - [`graph::grad`] and [`plan`]: for a backend without a tape of its own, a graph with its gradients and one static step.
//! - [`graph::spread`] and [`ranks`]: where several processes or devices share a batch, the graph of one of them, and what moves values.
//! - [`backend`] opens a session that holds the tensors and makes steps; [`data`] fills its inputs, [`tensor`]s of the host; [`train`]
//!   drives both; [`eval`] and [`verify`] look at the result; [`run`] keeps it, [`report`] shows it, and [`export`] writes it for others, whose
//!   [`weights`] modules may begin with.
//!
//! ```text
//! text ──syntax──▶ AST ──elab──▶ bound pipeline ──shape──▶ typed ──graph──▶ Program ──▶ backend
//!         pest            names, params,            every value       forward, SSA      dfdx: ops and its tape
//!         grammar         units, blocks expanded    has a shape                         cpu: grad ─▶ plan ─▶ static step
//!                                                                                       xla: grad ─▶ one program of the whole step
//! ```
//! The pipeline's `data`, `train` and `evaluate` sections become a [`spec::Spec`]: plain data for the run time.
//!
//! Imports go down only; a test holds the table. Dims, everywhere: `B` batch, `N` tokens, `D` width, `P` patch,
//! `C` channels, `H` height, `W` width.

#[expect(
    clippy::disallowed_methods,
    reason = "tensors are the same on machines of one kind: the platform's functions will do"
)]
pub mod backend;
pub mod data;
pub mod decl;
pub mod diag;
pub mod elab;
pub mod eval;
pub mod export;
pub mod format;
pub mod graph;
pub mod lsp;
pub mod op;
pub mod pattern;
pub mod plan;
pub mod ranks;
pub mod report;
pub mod run;
pub mod shape;
pub mod source;
pub mod spec;
pub mod syntax;
pub mod tensor;
pub mod train;
pub mod verify;
pub mod weights;
pub mod wide;

use std::path::Path;

pub use graph::build::Compiled;

/// Compiles the pipeline in the file at `path` with the overrides `sets`, in order.
///
/// Errors lie in `diagnostics`, whose spans point into `sources`.
pub fn compile(
    sources: &mut source::Sources,
    diagnostics: &mut diag::Diagnostics,
    path: &Path,
    sets: &[elab::Set],
) -> Result<Compiled, diag::Reported> {
    let bound = elab::elaborate(sources, diagnostics, path, sets)?;
    let typed = shape::check(bound)?;
    graph::build::build(typed, diagnostics)
}
