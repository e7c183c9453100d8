//! Run folders: what a training run leaves on disk, and how it is taken up again.
//!
//! ```text
//! RUN/pipeline.cmae                  the pipeline's text as it was given
//! RUN/resolved.ron                   every setting and definition, after overrides and defaults
//! RUN/started.ron                    what the command decided: overrides, backend, threads
//! RUN/program.ron                    the compiled graphs: evaluation needs no other file
//! RUN/metrics.jsonl                  a line a logged step and an evaluation
//! RUN/features.json                  two-dimensional map of the features as last judged
//! RUN/features_tsne.json              the same by t-SNE: `cmaec show map` writes it
//! RUN/classified.json                confusion and reliability of the classes as last judged
//! RUN/segmented.json                 pixels of each class as last judged
//! RUN/segmented.png                  pictures with the classes of their pixels and what those are taken for, as last judged
//! RUN/neighbours.png                 pictures with those whose features are nearest, as last judged
//! RUN/patches.png                    features of patches as colours and where heads look, as the run ended
//! RUN/reconstructions/step-N.png
//! RUN/events/events.out.tfevents.*   the lines and the pictures, for TensorBoard
//! RUN/checkpoints/step-NNNNNNNN/     model.safetensors, optimizer.safetensors, state.ron
//! RUN/last                           name of the newest checkpoint
//! RUN/best                           name of the checkpoint with the best evaluation, which is kept
//! RUN/report.html                    all of this to look at: `report` writes it
//! RUN/lock                           held while a process trains
//! SWEEP/sweep.ron                    what a sweep's runs, which lie in folders below, were started with
//! SWEEP/report.html                  all of them side by side
//! SWEEP/lock                         held while a process trains one of them
//! STUDY/finished.ron, table.md       which of a study's runs, in folders below, are done, and what they came to
//! ```
//!
//! **Invariant:** what stands under its final name is whole: files and checkpoints are written beside, synced, and
//! renamed in. Metrics and events alone grow where they are, a whole line or record at a time; what a crash tore off is cut
//! away as the run goes on.

pub mod array_file;
pub mod changes;
pub mod checkpoint;
pub mod destination;
pub mod disk;
pub mod events;
pub mod figures;
pub mod folder;
pub mod inspect;
mod lock;
pub mod memory;
pub mod metrics;
pub mod numbered;
mod programs;
pub mod row_file;
mod saver;
pub mod settings;
pub mod shell;
mod source_lists;
pub mod started;
pub mod study;
pub mod sweep;
pub mod table_file;
pub mod tensor_file;

use std::io;
use std::path::{Path, PathBuf};

pub use checkpoint::Checkpoint;
pub use folder::RunFolder;
pub use metrics::Metrics;
pub use saver::Saver;
pub use started::Started;
pub use sweep::{Sweep, SweepFolder};

/// Why a run folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot {what} {}: {source}{}", path.display(), hint(source))]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(#[from] tensor_file::WriteError),
    #[error("{} holds a run already (help: continue it with --resume, or name another folder with --out)", path.display())]
    Occupied { path: PathBuf },
    #[error("{} holds a sweep already (help: continue it with --resume, or name another folder with --out)", path.display())]
    OccupiedBySweep { path: PathBuf },
    #[error("{} is a file, not a folder (help: name a folder with --out)", path.display())]
    NoFolder { path: PathBuf },
    #[error(
        "{} is no run's folder, and holds others, such as {other} (help: name a folder of the run's own: --out {})",
        path.display(),
        shell::path(&path.join("NAME"))
    )]
    OtherFolder { path: PathBuf, other: String },
    #[error("another process is training in {} (help: wait for it, or name another folder with --out)", path.display())]
    Locked { path: PathBuf },
    #[error("{} is not a run folder: it has no {missing}", path.display())]
    NotARun { path: PathBuf, missing: &'static str },
    #[error("{} has no checkpoint yet", path.display())]
    NoCheckpoint { path: PathBuf },
    #[error("no checkpoint of {} is whole; the newest: {reason}", path.display())]
    AllDamaged { path: PathBuf, reason: String },
    #[error("{} has no checkpoint `{name}` (help: it has {known})", path.display())]
    UnknownCheckpoint { path: PathBuf, name: String, known: String },
    #[error("cannot read {}: {message}", path.display())]
    Format { path: PathBuf, message: String },
    #[error(
        "{} is of another version of this program: {message} (help: go on with that version, or start another run with \
         --out)",
        path.display()
    )]
    OtherVersion { path: PathBuf, message: String },
    #[error(
        "{} was trained with other settings:\n{what}\n(help: leave out what was not set when it was started: --resume takes its settings up, go on with the \
         new ones by --accept-changes, or start another run with --out)",
        path.display()
    )]
    OtherSettings { path: PathBuf, what: String },
    #[error(
        "{} was trained with other pictures:\n{what}\n(help: put back what was there, go on with these by --accept-changes, or \
         start another run with --out)",
        path.display()
    )]
    OtherPictures { path: PathBuf, what: String },
    #[error("{} cannot go on with these settings: {what} (help: start another run with --out)", path.display())]
    OtherTensors { path: PathBuf, what: String },
}

/// What to do about an error of the disk, where that is known.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (help: free some space, then go on with --resume)"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            " (help: name a folder that can be written to with --out)"
        }
        _ => "",
    }
}

impl RunError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
        let path = path.to_owned();
        move |source| RunError::Io { what, path, source }
    }
}
