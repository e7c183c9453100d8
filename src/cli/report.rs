//! `cmaec report`: what a run did, or several side by side, as a page for a browser.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cmae::report::{self, ReportError, Written};
use cmae::run::RunError;

use super::output::outln;

/// Share of a run's time that its report may take while it trains: writing it holds the steps up.
const SHARE: f64 = 0.02;

/// Writes an HTML page of a run, or of several side by side, that opens offline.
///
/// It shows what is on disk: the run may still be training, or have been killed.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// By default RUN/report.html, or report.html here for several runs.
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
}

pub fn main(args: Args) -> Result<(), String> {
    let output = args.output.as_deref();
    let written = match &args.runs[..] {
        [run] => report::write(run, output),
        runs => report::compare(runs, output.unwrap_or(Path::new(report::FILE))),
    };
    let Written { path, warnings } = written.map_err(|error| error.to_string())?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    outln!("{}", path.display());
    Ok(())
}

/// The report of a run that goes on.
pub struct LiveReport {
    /// No report before this time.
    next: Instant,
    /// A first failure is told, no further one: the run matters more.
    failed: bool,
}

impl LiveReport {
    pub fn new() -> LiveReport {
        LiveReport { next: Instant::now(), failed: false }
    }

    /// Writes the report unless the last one was a moment ago; gives what to tell of it.
    pub fn update(&mut self, run: &Path) -> Option<String> {
        if Instant::now() < self.next {
            return None;
        }
        let start = Instant::now();
        let said = self.write(run);
        self.next = Instant::now() + Duration::from_secs_f64(start.elapsed().as_secs_f64() / SHARE);
        said
    }

    /// Writes the report now.
    pub fn write(&mut self, run: &Path) -> Option<String> {
        match report::write(run, None) {
            // Nothing was logged yet, or the run never started.
            Ok(_) | Err(ReportError::NoMetrics { .. } | ReportError::Run(RunError::NotARun { .. })) => None,
            Err(_) if self.failed => None,
            Err(error) => {
                self.failed = true;
                Some(format!("warning: no report: {error}"))
            }
        }
    }
}
