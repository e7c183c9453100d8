//! Training: drives a backend through a pipeline's steps.
//!
//! Before: a [`crate::graph::Program`], a backend, batches. After: `run` keeps what [`session`] makes. [`init`] fills
//! the tensors, [`trainer`] drives a session of the backend step by step.
//!
//! **Invariant:** the same program, seed and batches give the same bytes for any number of threads.

mod agreement;
pub mod bench;
mod evaluate;
mod figures;
pub mod fit;
mod idle;
pub mod imports;
pub mod init;
pub mod kmeans;
mod options;
pub mod reconstruct;
mod records;
mod resume;
pub mod session;
mod sources;
mod standing;
pub mod trainer;
mod watch;

pub use imports::ImportedRun;
pub use options::SessionOptions;
pub use session::Ended;
pub use trainer::{StepReport, Trainer};
pub use watch::{SessionError, StepLine, Watch};
