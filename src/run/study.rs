//! A study: several pipelines at one budget and over several seeds, what its runs are, and what they came to.
//!
//! Before: a file of the user's. After: `cmaec study` makes each run, and prints the table.
//!
//! **Invariant:** a cell is a run of its own, in a folder whose name hangs on the study's words alone: a study that was stopped is gone
//! on with, and a run of it is a run as any other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RunError;
use super::folder::{from_ron, to_ron};
use super::metrics;
use super::tensor_file::write_atomically;
use crate::spec::evaluate;

/// What is compared, as its file says it (RON).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// What it asks, in a line.
    pub about: String,
    pub seeds: Vec<u64>,
    /// `NAME=VALUE` for every pipeline but that of `finetune`, before its own.
    #[serde(default)]
    pub set: Vec<String>,
    pub ways: Vec<Way>,
    #[serde(default)]
    pub finetune: Option<Finetune>,
}

/// One way to pretrain.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// What its row is called.
    pub name: String,
    /// A file, from the study's folder on, or `std::NAME`.
    pub pipeline: String,
    #[serde(default)]
    pub set: Vec<String>,
}

/// What each encoder is fine-tuned by, and a fresh one too.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    pub pipeline: String,
    /// The module of its pipeline that begins with what was exported.
    pub module: String,
    #[serde(default)]
    pub set: Vec<String>,
}

/// A run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The way that it belongs to; `None` for what is trained from scratch.
    pub way: Option<usize>,
    pub seed: u64,
    /// Below the study's folder.
    pub folder: String,
    pub pipeline: String,
    pub sets: Vec<String>,
    /// Fine-tuning begins with the encoder of this folder, in this module.
    pub begins_with: Option<(String, String)>,
    pub is_finetuned: bool,
}

/// Why a study cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{}: {what}\nhelp: {help}", path.display())]
    Wrong { path: PathBuf, what: String, help: String },
    #[error(
        "{}: `{folder}` was made by another command\n  before: {before}\n  now:    {now}\nhelp: name another folder with --out",
        path.display()
    )]
    Changed { path: PathBuf, folder: String, before: String, now: String },
}

impl Study {
    pub fn read(path: &Path) -> Result<Study, StudyError> {
        let text = std::fs::read_to_string(path).map_err(RunError::io("read", path))?;
        let study: Study = from_ron(path, &text)?;
        study.check(path)?;
        Ok(study)
    }

    fn check(&self, path: &Path) -> Result<(), StudyError> {
        let wrong = |what: &str, help: &str| {
            Err(StudyError::Wrong { path: path.to_owned(), what: what.to_owned(), help: help.to_owned() })
        };
        if self.seeds.is_empty() {
            return wrong("it has no seed", "write `seeds: [0, 1, 2]`");
        }
        if self.ways.is_empty() {
            return wrong("it compares nothing", "write `ways: [(name: \"MAE\", pipeline: \"std::mae_vitb\")]`");
        }
        let mut folders: BTreeMap<String, &str> = BTreeMap::from([(SCRATCH.to_owned(), "from scratch")]);
        for way in &self.ways {
            let folder = folder_name(&way.name);
            if folder.is_empty() {
                return wrong(&format!("`{}` is no name", way.name), "give it letters or digits");
            }
            if let Some(other) = folders.insert(folder.clone(), &way.name) {
                let what = format!("`{}` and `{other}` would go to one folder, `{folder}`", way.name);
                return wrong(&what, "give one of them another name");
            }
        }
        for (at, seed) in self.seeds.iter().enumerate() {
            if self.seeds[..at].contains(seed) {
                return wrong(&format!("the seed {seed} stands twice"), "leave one of them out");
            }
        }
        Ok(())
    }

    /// All runs, each behind what it begins with: seed by seed, so that a study that is stopped early has whole rows.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &seed in &self.seeds {
            let of_seed = |sets: &mut Vec<String>| sets.push(format!("train.seed={seed}"));
            let finetuned = |way: Option<usize>, name: &str, begins_with: Option<String>| {
                let finetune = self.finetune.as_ref()?;
                let mut sets = finetune.set.clone();
                of_seed(&mut sets);
                if begins_with.is_none() {
                    sets.push(format!("model.{}.weights=none", finetune.module));
                }
                Some(Cell {
                    way,
                    seed,
                    folder: format!("{name}-finetuned-{seed}"),
                    pipeline: finetune.pipeline.clone(),
                    sets,
                    begins_with: begins_with.map(|folder| (folder, finetune.module.clone())),
                    is_finetuned: true,
                })
            };
            for (way, Way { name, pipeline, set }) in self.ways.iter().enumerate() {
                let mut sets = [&self.set[..], set].concat();
                of_seed(&mut sets);
                let name = folder_name(name);
                let folder = format!("{name}-{seed}");
                let pipeline = pipeline.clone();
                let begun = Some(folder.clone());
                cells.push(Cell {
                    way: Some(way),
                    seed,
                    folder,
                    pipeline,
                    sets,
                    begins_with: None,
                    is_finetuned: false,
                });
                cells.extend(finetuned(Some(way), &name, begun));
            }
            cells.extend(finetuned(None, SCRATCH, None));
        }
        cells
    }
}

const SCRATCH: &str = "scratch";

/// Small letters and digits, other signs as a hyphen.
fn folder_name(name: &str) -> String {
    let mut folder = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => folder.push(c.to_ascii_lowercase()),
            _ if folder.is_empty() || folder.ends_with('-') => {}
            _ => folder.push('-'),
        }
    }
    folder.trim_end_matches('-').to_owned()
}

/// What was done of a study, `finished.ron` in its folder: for each run that came to its end, its command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Finished(BTreeMap<String, String>);

impl Finished {
    const FILE: &str = "finished.ron";

    pub fn read(folder: &Path) -> Result<Finished, StudyError> {
        let path = folder.join(Self::FILE);
        if !path.is_file() {
            return Ok(Finished::default());
        }
        let text = std::fs::read_to_string(&path).map_err(RunError::io("read", &path))?;
        Ok(from_ron(&path, &text)?)
    }

    /// Whether the run in `cell` has come to its end by `command`.
    pub fn has(&self, folder: &Path, cell: &str, command: &str) -> Result<bool, StudyError> {
        match self.0.get(cell) {
            None => Ok(false),
            Some(before) if before == command => Ok(true),
            Some(before) => Err(StudyError::Changed {
                path: folder.to_owned(),
                folder: cell.to_owned(),
                before: before.clone(),
                now: command.to_owned(),
            }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes that the run in `cell` has come to its end.
    pub fn add(&mut self, folder: &Path, cell: &str, command: &str) -> Result<(), StudyError> {
        self.0.insert(cell.to_owned(), command.to_owned());
        let path = folder.join(Self::FILE);
        let text = to_ron(&path, self, true)?;
        Ok(write_atomically(&path, text.as_bytes()).map_err(RunError::io("write", &path))?)
    }
}

/// What baselines of an evaluation are called, by how their figures' names end.
const BASELINES: [(&str, &str); 2] = [("_untrained", "untrained encoder"), ("_raw_pixels", "raw pixels")];
/// How the names of figures end that are shares of right answers.
const SHARE: &str = "_accuracy";

/// Figures of a study, by row and column; each of one seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    figures: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Table {
    /// Of the runs below `folder` that have an evaluation.
    pub fn of(study: &Study, folder: &Path) -> Table {
        let mut table = Table::default();
        for way in &study.ways {
            table.row(&way.name);
        }
        let mut of_baselines = BTreeMap::new();
        for cell in study.cells() {
            let lines = metrics::read(&folder.join(&cell.folder).join("metrics.jsonl")).unwrap_or_default();
            let Some(Value::Object(last)) = lines.into_iter().rev().find_map(|mut line| {
                let found = line.get_mut("evaluation").map(Value::take);
                found.filter(Value::is_object)
            }) else {
                continue;
            };
            let row = match cell.way {
                Some(way) => study.ways[way].name.as_str(),
                None => "from scratch",
            };
            for (name, value) in &last {
                let Some(value) = value.as_f64() else { continue };
                let of = BASELINES.iter().find_map(|(end, row)| Some((name.strip_suffix(end)?, *row)));
                let (name, row) = of.unwrap_or((name, row));
                let Some(name) = name.strip_suffix(SHARE) else { continue };
                let title = evaluate::title(name);
                let title = if cell.is_finetuned { format!("fine-tuned {title}") } else { title };
                match of {
                    // Each of the runs has measured it: of the same pictures it is the same.
                    Some(_) => drop(of_baselines.insert((row, title, cell.seed), value)),
                    None => table.add(row, &title, value),
                }
            }
        }
        for ((row, title, _), value) in of_baselines {
            table.add(row, &title, value);
        }
        table
    }

    fn row(&mut self, name: &str) -> usize {
        place(&mut self.rows, name)
    }

    fn add(&mut self, row: &str, column: &str, value: f64) {
        let key = (self.row(row), place(&mut self.columns, column));
        self.figures.entry(key).or_default().push(value);
    }

    /// `83.6 ± 0.4 %`: the mean and the deviation of a sample over seeds, and how many there are where it is not `seeds`.
    pub fn cell(&self, row: usize, column: usize, seeds: usize) -> String {
        let Some(values) = self.figures.get(&(row, column)) else { return "–".to_owned() };
        let (mean, deviation) = spread(values);
        let deviation = deviation.map_or_else(String::new, |deviation| format!(" ± {:.1}", 100.0 * deviation));
        let count = if values.len() == seeds { String::new() } else { format!(" ({} of {seeds})", values.len()) };
        format!("{:.1}{deviation} %{count}", 100.0 * mean)
    }

    /// As Markdown.
    pub fn markdown(&self, seeds: usize) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = line([String::new()].into_iter().chain(self.columns.iter().cloned()).collect());
        text += &line(vec!["---".to_owned(); self.columns.len() + 1]);
        for (row, name) in self.rows.iter().enumerate() {
            let cells = (0..self.columns.len()).map(|column| self.cell(row, column, seeds));
            text += &line([name.clone()].into_iter().chain(cells).collect());
        }
        text
    }
}

fn place(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

/// Mean, and deviation of a sample (n − 1), which one value does not have.
fn spread(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(text: &str) -> Result<Study, StudyError> {
        let study: Study = from_ron(Path::new("digits.ron"), text)?;
        study.check(Path::new("digits.ron"))?;
        Ok(study)
    }

    const TWO: &str = r#"(about: "x", seeds: [3, 4], set: ["train.epochs=1"], ways: [
        (name: "CMAE, small", pipeline: "std::quickstart", set: ["mask_ratio=60%"]), (name: "MAE", pipeline: "mae.cmae")],
        finetune: Some((pipeline: "tune.cmae", module: "encoder")))"#;

    #[test]
    fn every_way_has_a_run_for_each_seed() {
        let cells = study(TWO).expect("it is right").cells();
        let folders: Vec<&str> = cells.iter().map(|cell| cell.folder.as_str()).collect();
        assert_eq!(
            folders[..5],
            ["cmae-small-3", "cmae-small-finetuned-3", "mae-3", "mae-finetuned-3", "scratch-finetuned-3"]
        );
        assert_eq!(folders.len(), 10);
        assert_eq!(cells[0].sets, ["train.epochs=1", "mask_ratio=60%", "train.seed=3"]);
        assert_eq!(cells[1].sets, ["train.seed=3"]);
        assert_eq!(cells[1].begins_with, Some(("cmae-small-3".to_owned(), "encoder".to_owned())));
        assert_eq!((cells[4].way, &cells[4].begins_with), (None, &None));
        assert_eq!(cells[4].sets, ["train.seed=3", "model.encoder.weights=none"]);
    }

    #[test]
    fn what_cannot_be_told_apart_is_an_error() {
        let error = |text: &str| study(text).expect_err("it is wrong").to_string();
        let ways = |ways: &str, seeds: &str| format!("(about: \"x\", seeds: [{seeds}], ways: [{ways}])");
        let twice = r#"(name: "a b", pipeline: "p"), (name: "A_B", pipeline: "p")"#;
        assert!(error(&ways(twice, "0")).contains("would go to one folder, `a-b`"), "{}", error(&ways(twice, "0")));
        let one = r#"(name: "a", pipeline: "p")"#;
        assert!(error(&ways(one, "1, 1")).contains("the seed 1 stands twice"));
        assert!(error(&ways(one, "")).contains("no seed") && error(&ways("", "0")).contains("compares nothing"));
        assert!(error(&ways(r#"(name: "–", pipeline: "p")"#, "0")).contains("is no name"));
    }

    #[test]
    fn a_table_holds_means_and_deviations() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let study = study(TWO).expect("it is right");
        for (cell, line) in [
            (
                "cmae-small-3",
                r#"{"step":9,"evaluation":{"knn_accuracy":0.5,"knn_accuracy_untrained":0.25,"chance":0.1}}"#,
            ),
            (
                "cmae-small-4",
                r#"{"step":9,"evaluation":{"knn_accuracy":0.7,"knn_accuracy_untrained":0.35,"chance":0.1}}"#,
            ),
            ("mae-3", r#"{"step":9,"evaluation":{"knn_accuracy":0.4,"knn_accuracy_untrained":0.25}}"#),
            ("scratch-finetuned-3", r#"{"step":9,"evaluation":{"classify_accuracy":0.9,"classify_top5":1.0}}"#),
        ] {
            let run = folder.path().join(cell);
            std::fs::create_dir(&run).expect("it can be made");
            std::fs::write(run.join("metrics.jsonl"), format!("{line}\n")).expect("it can be written");
        }
        let table = Table::of(&study, folder.path());
        assert_eq!(
            table.markdown(2),
            "|  | kNN | fine-tuned top-1 |\n| --- | --- | --- |\n| CMAE, small | 60.0 ± 14.1 % | – |\n| MAE | 40.0 % (1 of 2) | – |\n\
             | from scratch | – | 90.0 % (1 of 2) |\n| untrained encoder | 30.0 ± 7.1 % | – |\n"
        );
    }
}
