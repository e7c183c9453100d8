//! `cmaec study`: several pipelines over several seeds, each in a run of its own, and the table that they end in.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cmae::report;
use cmae::run::study::{Cell, Finished, Study, Table};
use cmae::run::tensor_file::write_atomically;
use cmae::run::{RunFolder, shell};

use super::output::{self, errln, outln};
use super::pipeline::AUTO;
use super::signals;
use super::sweep::aligned;

/// Where a study goes that is told no folder.
const STUDIES: &str = "runs/studies";
/// Between two looks at a run.
const LOOK: Duration = Duration::from_millis(50);

/// Compares several pipelines over several seeds: a run for each, and a table of means and deviations.
///
/// The file (RON) names pipelines, seeds, and what is fine-tuned with each encoder: `pipelines/studies/digits.ron` is one. Ctrl-C saves and
/// leaves; `--resume` goes on.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "STUDY.ron")]
    file: PathBuf,
    /// The study's folder, with a folder for each run. By default runs/studies/NAME.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Goes on with the study in the folder: runs that are done are not made again.
    #[arg(long)]
    resume: bool,
    /// Prints the command of each run and makes none: for several machines that share a disk.
    #[arg(long)]
    commands: bool,
    /// What runs the graphs: auto, cpu, xla, dfdx.
    #[arg(long, default_value = AUTO)]
    backend: String,
    /// Threads that compute, and as many that load images. By default one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

pub fn main(args: Args) -> Result<(), String> {
    let text = |error: cmae::run::study::StudyError| error.to_string();
    let study = Study::read(&args.file).map_err(text)?;
    let name = args.file.file_stem().map_or_else(|| "study".into(), |stem| stem.to_string_lossy().into_owned());
    let out = args.out.clone().unwrap_or_else(|| Path::new(STUDIES).join(name));
    let cells = study.cells();
    let job = Job { args: &args, out: &out };
    if args.commands {
        for cell in &cells {
            job.commands(cell).iter().for_each(|command| outln!("cmaec {}", line(command)));
        }
        return Ok(());
    }
    let mut finished = Finished::read(&out).map_err(text)?;
    if !finished.is_empty() && !args.resume {
        return Err(format!(
            "{} holds a study already\nhelp: go on with it by --resume, or name another folder with --out",
            out.display()
        ));
    }
    std::fs::create_dir_all(&out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::watch(stop.clone(), "")?;
    let mut failed = Vec::new();
    for (at, cell) in cells.iter().enumerate() {
        let commands = job.commands(cell);
        let whole = commands.iter().map(|command| line(command)).collect::<Vec<_>>().join(" && ");
        if finished.has(&out, &cell.folder, &whole).map_err(text)? {
            continue;
        }
        if cell.begins_with.as_ref().is_some_and(|(folder, _)| failed.contains(folder)) {
            failed.push(cell.folder.clone());
            continue;
        }
        errln!("run {} of {}: {}", at + 1, cells.len(), cell.folder);
        let mut is_made = true;
        for command in &commands {
            match job.make(command, &stop)? {
                Ended::Made => {}
                Ended::Stopped => return Err(format!("stopped; go on with: {}", job.again())),
                Ended::Failed => {
                    is_made = false;
                    break;
                }
            }
        }
        if is_made {
            finished.add(&out, &cell.folder, &whole).map_err(text)?;
        } else {
            failed.push(cell.folder.clone());
        }
    }
    tell(&study, &out, &cells)?;
    match failed[..] {
        [] => Ok(()),
        _ => Err(format!(
            "{} of {} runs failed: {}\nhelp: make them again by {}",
            failed.len(),
            cells.len(),
            failed.join(" "),
            job.again()
        )),
    }
}

/// Prints the table, and leaves it and a report in the study's folder.
fn tell(study: &Study, out: &Path, cells: &[Cell]) -> Result<(), String> {
    let table = Table::of(study, out);
    let seeds = study.seeds.len();
    let mut lines = vec![[String::new()].into_iter().chain(table.columns.iter().cloned()).collect::<Vec<_>>()];
    lines.extend(table.rows.iter().enumerate().map(|(row, name)| {
        let cells = (0..table.columns.len()).map(|column| table.cell(row, column, seeds));
        [name.clone()].into_iter().chain(cells).collect()
    }));
    output::offer(format_args!("{}\n", study.about));
    aligned(&lines).iter().for_each(|line| output::offer(format_args!("{line}\n")));
    let count = if seeds == 1 { "1 seed".to_owned() } else { format!("{seeds} seeds: mean ± deviation") };
    output::offer(format_args!("{count}; {}\n", out.display()));
    let page = format!("# {}\n\n{}\n{count}\n", study.about, table.markdown(seeds));
    let path = out.join("table.md");
    write_atomically(&path, page.as_bytes()).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let begun: Vec<PathBuf> =
        cells.iter().map(|cell| out.join(&cell.folder)).filter(|folder| RunFolder::open(folder).is_ok()).collect();
    if begun.len() > 1 {
        match report::compare(&begun, &out.join(report::FILE)) {
            Ok(written) => errln!("side by side: {}", written.path.display()),
            Err(error) => errln!("warning: no report of all: {error}"),
        }
    }
    Ok(())
}

enum Ended {
    Made,
    /// It was asked to, and has saved.
    Stopped,
    /// It has said why.
    Failed,
}

struct Job<'a> {
    args: &'a Args,
    out: &'a Path,
}

impl Job<'_> {
    /// What makes the run of `cell`: one command, and one before it that exports what it begins with.
    fn commands(&self, cell: &Cell) -> Vec<Vec<String>> {
        let folder = |name: &str| self.out.join(name).display().to_string();
        let mut commands = Vec::new();
        let mut begins_with = Vec::new();
        if let Some((from, module)) = &cell.begins_with {
            let file = format!("{}.safetensors", folder(from));
            commands.push(["export", &folder(from), "-o", &file].map(str::to_owned).to_vec());
            begins_with.extend(["--weights".to_owned(), format!("{module}={file}")]);
        }
        let pipeline = match cell.pipeline.starts_with("std::") {
            true => cell.pipeline.clone(),
            false => {
                let beside = self.args.file.parent().unwrap_or(Path::new(""));
                beside.join(&cell.pipeline).display().to_string()
            }
        };
        let mut run = ["run", &pipeline, "--out", &folder(&cell.folder), "--resume"].map(str::to_owned).to_vec();
        cell.sets.iter().for_each(|set| run.extend(["--set".to_owned(), set.clone()]));
        run.extend(begins_with);
        if self.args.backend != AUTO {
            run.extend(["--backend".to_owned(), self.args.backend.clone()]);
        }
        if let Some(threads) = self.args.threads {
            run.extend(["--threads".to_owned(), threads.to_string()]);
        }
        commands.push(run);
        commands
    }

    /// A process of its own for each run: one that dies takes no other with it.
    fn make(&self, command: &[String], stop: &AtomicBool) -> Result<Ended, String> {
        let own = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
        let child = Command::new(own).args(command).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = Ending(child.map_err(|error| format!("cannot start a run: {error}"))?);
        let mut passed_on = false;
        loop {
            if let Some(status) = child.0.try_wait().map_err(|error| format!("a run cannot be waited for: {error}"))? {
                return Ok(match (status.success(), stop.load(Ordering::Relaxed)) {
                    (_, true) => Ended::Stopped,
                    (true, false) => Ended::Made,
                    (false, false) => Ended::Failed,
                });
            }
            // A terminal has sent it to both already; twice of the same would make it leave without saving.
            if stop.load(Ordering::Relaxed) && !std::mem::replace(&mut passed_on, true) {
                signals::pass_on(child.0.id());
            }
            thread::sleep(LOOK);
        }
    }

    /// What to type to go on.
    fn again(&self) -> String {
        let mut line = format!("cmaec study {} --out {} --resume", shell::path(&self.args.file), shell::path(self.out));
        if self.args.backend != AUTO {
            line += &format!(" --backend {}", shell::word(&self.args.backend));
        }
        if let Some(threads) = self.args.threads {
            line += &format!(" --threads {threads}");
        }
        line
    }
}

/// Killed when this is dropped: no run outlives its study.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn line(command: &[String]) -> String {
    command.iter().map(|word| shell::word(word)).collect::<Vec<_>>().join(" ")
}
