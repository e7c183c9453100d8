//! `cmaec check`: compiles pipelines and says what is wrong with them, and what is hardly meant.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ValueEnum;
use cmae::diag::{Code, Diagnostic, Diagnostics, Sarif, Severity, render_github, render_json};
use cmae::source::Sources;

use super::files::below;
use super::output::{errln, out, outln};
use super::pipeline::{Options, draw, pictures_here};

/// Checks pipelines: names, units, the shape of every value. Reads no data, and counts the pictures that are here.
///
/// All mistakes of all files are told, each once. Exit codes: 0 where nothing is wrong, 1 where something is, or is warned of with
/// `--deny warnings`.
#[derive(clap::Args)]
pub struct Args {
    /// The files to check; a folder stands for all `.cmae` files in it and below it, by name.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// How errors and warnings are told. All but text go to stdout.
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: Format,
    /// Short for `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Fails for warnings too: `--deny warnings`.
    #[arg(long, value_name = "WHAT", value_parser = ["warnings"])]
    deny: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Drawn for people, on stderr, with a line for each file that is right on stdout.
    Text,
    /// One object a line: severity, code, message, help, labels.
    Json,
    /// One log of SARIF 2.1.0, for code scanning.
    Sarif,
    /// Commands of GitHub's workflows, which mark the lines of a change.
    Github,
}

pub fn main(args: Args) -> Result<(), String> {
    let format = if args.json { Format::Json } else { args.format };
    let mut check = Check { told: BTreeSet::new(), sarif: Sarif::default(), format, count: Count::default() };
    for file in files(&args.paths)? {
        check.file(&file, &args.options);
    }
    if format == Format::Sarif {
        out!("{}", check.sarif.text());
    }
    let Count { files, errors, warnings } = check.count;
    let fails = errors > 0 || args.deny.is_some() && warnings > 0;
    if format == Format::Text {
        let right: Vec<&Checked> = files.iter().filter(|file| file.is_right(args.deny.is_some())).collect();
        right.iter().for_each(|file| outln!("{}: ok", file.name));
        if files.len() > 1 {
            outln!("{}", summary(files.len(), right.len(), errors, warnings));
        }
    }
    if fails { Err(String::new()) } else { Ok(()) }
}

/// `24 files: 22 are ok, 3 errors, 1 warning`
fn summary(files: usize, right: usize, errors: usize, warnings: usize) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let of = match right {
        _ if right == files => "all are ok".to_owned(),
        1 => "1 is ok".to_owned(),
        right => format!("{right} are ok"),
    };
    format!("{}: {of}, {}, {}", counted(files, "file"), counted(errors, "error"), counted(warnings, "warning"))
}

#[derive(Default)]
struct Count {
    files: Vec<Checked>,
    errors: usize,
    warnings: usize,
}

struct Checked {
    name: String,
    errors: bool,
    warnings: bool,
}

impl Checked {
    fn is_right(&self, denies_warnings: bool) -> bool {
        !(self.errors || self.warnings && denies_warnings)
    }
}

struct Check {
    /// What was told, with its places: two pipelines that use one file share its mistakes.
    told: BTreeSet<String>,
    sarif: Sarif,
    format: Format,
    count: Count,
}

impl Check {
    fn file(&mut self, file: &File, options: &Options) {
        let mut sources = options.sources();
        let mut diagnostics = Diagnostics::default();
        let result = cmae::compile(&mut sources, &mut diagnostics, &file.path, &options.sets());
        let mut found: Vec<Diagnostic> = match result {
            Ok(compiled) => compiled.warnings(pictures_here(&compiled.program)),
            Err(_) => diagnostics.list().to_vec(),
        };
        // What others use stands in a folder too: blocks and functions alone.
        found.retain(|diagnostic| {
            !(file.of_folder && diagnostic.code == Code::NoPipeline && is_empty_of_pipelines(diagnostic))
        });
        let has = |severity: Severity| found.iter().any(|diagnostic| diagnostic.severity() == severity);
        let name = file.path.display().to_string();
        self.count.files.push(Checked { name, errors: has(Severity::Error), warnings: has(Severity::Warning) });
        let new: Vec<Diagnostic> = found.into_iter().filter(|diagnostic| self.is_new(diagnostic, &sources)).collect();
        let count = |severity: Severity| new.iter().filter(|diagnostic| diagnostic.severity() == severity).count();
        self.count.errors += count(Severity::Error);
        self.count.warnings += count(Severity::Warning);
        match self.format {
            Format::Text if new.is_empty() => {}
            Format::Text => errln!("{}\n", draw(&new, &sources)),
            Format::Json => out!("{}", render_json(&new, &sources)),
            Format::Github => out!("{}", render_github(&new, &sources)),
            Format::Sarif => self.sarif.add(&new, &sources),
        }
    }

    fn is_new(&mut self, diagnostic: &Diagnostic, sources: &Sources) -> bool {
        self.told.insert(render_json(std::slice::from_ref(diagnostic), sources))
    }
}

/// Whether a file holds no pipeline at all, as against several of which none is meant.
fn is_empty_of_pipelines(diagnostic: &Diagnostic) -> bool {
    diagnostic.message.ends_with("holds no pipeline")
}

struct File {
    path: PathBuf,
    of_folder: bool,
}

/// The files that `paths` name, each once: of a folder those below it, in the order of their names.
fn files(paths: &[PathBuf]) -> Result<Vec<File>, String> {
    let mut files: Vec<File> = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let (found, of_folder) = match path.is_dir() {
            true => (below(path)?, true),
            false => (vec![path.clone()], false),
        };
        for path in found {
            let key = path.canonicalize().unwrap_or_else(|_| path.clone());
            if seen.insert(key) {
                files.push(File { path, of_folder });
            }
        }
    }
    Ok(files)
}
