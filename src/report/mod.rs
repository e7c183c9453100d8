//! Reports: what a run, or several side by side, did, as one HTML file that needs nothing else.
//!
//! Before: [`crate::run`] keeps a run folder. After: a browser. [`read`] takes what is on disk, [`charts`] says what is drawn,
//! [`chart`], [`scatter`] and [`classes`] draw it, [`page`] and [`compare`] put the page together.
//!
//! **Invariant:** a page loads nothing: style, script and pictures are in it, and it can be read without the script.
//! **Invariant:** of a run nothing is changed but its `report.html`, which is whole at any time.

mod axis;
mod chart;
mod charts;
mod classes;
mod compare;
mod curve;
mod data;
pub mod diagram;
mod html;
mod log;
pub mod mermaid;
mod names;
mod page;
mod pictures;
mod read;
mod scatter;
mod segments;
mod tables;

use std::path::{Path, PathBuf};

use crate::run::RunError;
use crate::run::destination::{DestinationError, Kind, destination};
use crate::run::tensor_file::write_atomically;
use read::Run;

/// Name of the file, in a run's folder or where several are compared.
pub const FILE: &str = "report.html";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("there is no {} (help: name the folder of a run, such as runs/quickstart)", path.display())]
    NotThere { path: PathBuf },
    #[error(
        "{} holds no line of a step yet{} (help: wait for the first logged step; `cmaec run` starts a run)",
        path.display(),
        if *damaged > 0 { format!(", and {damaged} that cannot be read") } else { String::new() }
    )]
    NoMetrics { path: PathBuf, damaged: usize },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error("cannot write {}: {source} (help: name a file in a folder that is there with -o)", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// A report on disk.
#[derive(Debug)]
pub struct Written {
    pub path: PathBuf,
    /// What could not be read and is left out.
    pub warnings: Vec<String>,
}

/// Writes the report of the run in `folder` to `output`, or else into the folder.
pub fn write(folder: &Path, output: Option<&Path>) -> Result<Written, ReportError> {
    let run = Run::read(folder)?;
    let path = output.map_or_else(|| folder.join(FILE), Path::to_owned);
    let real = destination(&path, Kind::Page, Some(folder))?;
    let warnings = run.warnings.clone();
    save(path, &real, &page::html((name_of(folder), run)), warnings)
}

/// Writes a report of several runs side by side to `output`.
pub fn compare(folders: &[PathBuf], output: &Path) -> Result<Written, ReportError> {
    let real = destination(output, Kind::Page, None)?;
    let names = names(folders);
    let runs = folders.iter().zip(names).map(|(folder, name)| Ok((name, Run::read(folder)?)));
    let runs = runs.collect::<Result<Vec<(String, Run)>, ReportError>>()?;
    let warnings = runs.iter().flat_map(|(_, run)| run.warnings.clone()).collect();
    save(output.to_owned(), &real, &compare::html(&runs), warnings)
}

/// Writes to `real`, which is what the user's `path` means.
fn save(path: PathBuf, real: &Path, html: &str, warnings: Vec<String>) -> Result<Written, ReportError> {
    match write_atomically(real, html.as_bytes()) {
        Ok(()) => Ok(Written { path, warnings }),
        Err(source) => Err(ReportError::Write { path, source }),
    }
}

/// The folder's own name: `.` and `..` have one too.
fn name_of(folder: &Path) -> String {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    real.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Names that tell the runs apart: the folders' own, or else their paths as given.
fn names(folders: &[PathBuf]) -> Vec<String> {
    let own: Vec<String> = folders.iter().map(|folder| name_of(folder)).collect();
    let clash = |at: usize| own.iter().enumerate().any(|(other, name)| other != at && *name == own[at]);
    let name = |at: usize| if clash(at) { folders[at].display().to_string() } else { own[at].clone() };
    (0..folders.len()).map(name).collect()
}
