//! Run folders: what a training run leaves on disk, and how it is taken up again.
//!
//! ```text
//! RUN/pipeline.cmae                  the pipeline's text as it was given
//! RUN/resolved.ron                   every setting, after overrides and defaults
//! RUN/program.ron                    the compiled graphs: evaluation needs no other file
//! RUN/metrics.jsonl                  a line a logged step and an evaluation
//! RUN/reconstructions/step-N.png
//! RUN/events/events.out.tfevents.*   the lines and the pictures, for TensorBoard
//! RUN/checkpoints/step-NNNNNNNN/     model.safetensors, optimizer.safetensors, state.ron
//! RUN/last                           name of the newest checkpoint
//! RUN/lock                           held while a process trains
//! ```
//!
//! **Invariant:** what stands under its final name is whole: files and checkpoints are written beside, synced, and
//! renamed in.

pub mod checkpoint;
pub mod events;
pub mod figures;
pub mod folder;
pub mod inspect;
pub mod memory;
pub mod metrics;
pub mod tensor_file;

use std::io;
use std::path::{Path, PathBuf};

pub use checkpoint::Checkpoint;
pub use folder::RunFolder;
pub use metrics::Metrics;

/// Why a run folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(#[from] tensor_file::WriteError),
    #[error("{} holds a run already (help: continue it with --resume, or name another folder with --out)", path.display())]
    Occupied { path: PathBuf },
    #[error("another process is training in {} (help: wait for it, or name another folder with --out)", path.display())]
    Locked { path: PathBuf },
    #[error("{} is not a run folder: it has no {missing}", path.display())]
    NotARun { path: PathBuf, missing: &'static str },
    #[error("{} has no checkpoint yet", path.display())]
    NoCheckpoint { path: PathBuf },
    #[error("no checkpoint of {} is whole; the newest: {reason}", path.display())]
    AllDamaged { path: PathBuf, reason: String },
    #[error("cannot read {}: {message}", path.display())]
    Format { path: PathBuf, message: String },
    #[error(
        "{} is of another version of this program: {message} (help: go on with that version, or start another run with \
         --out)",
        path.display()
    )]
    OtherVersion { path: PathBuf, message: String },
    #[error(
        "{} was trained with other settings: {what} (help: resume with the settings of its resolved.ron, or start \
         another run with --out)",
        path.display()
    )]
    OtherSettings { path: PathBuf, what: String },
}

impl RunError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
        let path = path.to_owned();
        move |source| RunError::Io { what, path, source }
    }
}
