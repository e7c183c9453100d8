//! `cmae`: a declarative language for self-supervised vision training, its compiler and its runtime.

pub mod backend;
pub mod data;
pub mod diag;
pub mod elab;
pub mod eval;
pub mod graph;
pub mod op;
pub mod run;
pub mod shape;
pub mod source;
pub mod spec;
pub mod syntax;
pub mod train;
pub mod verify;
