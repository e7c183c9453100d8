//! `cmaec report`: what a run did, or several side by side, as a page for a browser.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cmae::eval::Pass;
use cmae::report::{self, ReportError, Written};
use cmae::run::{RunError, RunFolder};
use cmae::train::{StepLine, Watch};
use serde_json::Value;

use super::output::{errln, outln};

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
    /// A plain file; one that is there is written over. By default RUN/report.html, or report.html here for several runs.
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
    warnings.iter().for_each(|warning| errln!("warning: {warning}"));
    outln!("{}", path.display());
    Ok(())
}

/// Shows a run by another view, and keeps its report up to date beside.
pub struct Reporting<'a> {
    view: Box<dyn Watch>,
    /// What is to be told of a run on so many pictures.
    warn: Box<dyn Fn(usize) -> Option<String> + 'a>,
    /// No report before this time.
    next: Instant,
    /// A first failure is told, no further one: the run matters more.
    failed: bool,
}

impl<'a> Reporting<'a> {
    pub fn new(view: Box<dyn Watch>, warn: impl Fn(usize) -> Option<String> + 'a) -> Reporting<'a> {
        Reporting { view, warn: Box::new(warn), next: Instant::now(), failed: false }
    }

    /// Writes the report once more, however the run ended.
    pub fn last(&mut self, run: &Path) {
        match report::write(run, None) {
            // Nothing was logged yet, or the run never started and its folder is gone.
            Ok(_)
            | Err(
                ReportError::NoMetrics { .. }
                | ReportError::NotThere { .. }
                | ReportError::Run(RunError::NotARun { .. }),
            ) => {}
            Err(_) if self.failed => {}
            Err(error) => {
                self.failed = true;
                self.view.say(&format!("warning: no report: {error}"));
            }
        }
    }
}

impl Watch for Reporting<'_> {
    fn begin(&mut self, step: u64, total_steps: u64, batch_size: usize) {
        self.view.begin(step, total_steps, batch_size);
    }

    fn step(&mut self, step: &StepLine<'_>) {
        self.view.step(step);
    }

    fn logged(&mut self, line: &Value) {
        self.view.logged(line);
    }

    fn counted(&mut self, pictures: usize) {
        self.view.counted(pictures);
        if let Some(warnings) = (self.warn)(pictures) {
            self.view.say(&warnings);
        }
    }

    fn pass(&mut self, pass: &Pass<'_>) {
        self.view.pass(pass);
    }

    fn say(&mut self, line: &str) {
        self.view.say(line);
    }

    fn say_own(&mut self, line: &str) {
        self.view.say_own(line);
    }

    fn asked_to_stop(&self) -> bool {
        self.view.asked_to_stop()
    }

    fn end(&mut self) {
        self.view.end();
    }

    fn kept(&mut self, folder: &RunFolder) {
        if Instant::now() >= self.next {
            let start = Instant::now();
            self.last(folder.path());
            self.next = Instant::now() + Duration::from_secs_f64(start.elapsed().as_secs_f64() / SHARE);
        }
    }
}
