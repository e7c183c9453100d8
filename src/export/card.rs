//! The model card: `README.md` of a folder, as the hub shows it.
//!
//! Before: a run's folder holds what was trained and how. After: who finds the weights can load them, and knows where they are from.
//!
//! **Invariant:** figures are those of the run up to the checkpoint that is written, as its metrics have them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::run::figures::{figures, step};
use crate::run::{RunFolder, Started, metrics};

/// What is told of a run.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The pipeline's text.
    pub text: String,
    pub started: Option<Started>,
    /// The last value of each figure, and after which step.
    pub figures: BTreeMap<String, (f64, u64)>,
    /// The newest picture of reconstructions.
    pub picture: Option<PathBuf>,
    /// After how many steps the weights were taken.
    pub step: u64,
}

/// Figures of the machine, which say nothing of the weights.
const OF_THE_MACHINE: [&str; 5] = ["batches_ready", "data_wait_ms", "images_per_second", "memory_mb", "step_time_ms"];

impl About {
    /// The run at `path` up to `last_step`; what cannot be read is left out.
    pub fn read(path: &Path, last_step: u64) -> About {
        let Ok(folder) = RunFolder::open(path) else { return About { step: last_step, ..About::default() } };
        let mut found = BTreeMap::new();
        for line in metrics::read(&folder.metrics()).unwrap_or_default() {
            let Some(at) = step(&line).filter(|at| *at <= last_step) else { continue };
            for figure in figures(&line) {
                if figure.group.is_some() || !OF_THE_MACHINE.contains(&figure.name) {
                    found.insert(figure.path('/'), (figure.value, at));
                }
            }
        }
        let drawn = (0..=last_step).rev().map(|at| folder.reconstructions(at));
        About {
            text: std::fs::read_to_string(path.join("pipeline.cmae")).unwrap_or_default(),
            started: Started::read(&folder).ok().flatten(),
            figures: found,
            picture: newest(drawn, path),
            step: last_step,
        }
    }
}

/// The first of `drawn` that is there; none is asked for where there is no folder of them.
fn newest(mut drawn: impl Iterator<Item = PathBuf>, run: &Path) -> Option<PathBuf> {
    if !run.join("reconstructions").is_dir() {
        return None;
    }
    drawn.find(|path| path.is_file())
}

/// What the card says beside the run.
#[derive(Debug, Clone)]
pub struct Card<'c> {
    pub pipeline: &'c str,
    pub module: &'c str,
    /// The class that loads it.
    pub class: &'c str,
    /// The Python that loads it and makes features.
    pub lines: &'c [String],
    /// Name of the picture in the folder.
    pub picture: Option<&'c str>,
    /// Steps of the view that no image processor has.
    pub unsaid: &'c [String],
}

impl Card<'_> {
    /// The text of `README.md`.
    pub fn text(&self, about: &About) -> String {
        let Card { pipeline, module, class, .. } = self;
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!(
            "---\nlibrary_name: transformers\npipeline_tag: image-feature-extraction\ntags:\n- self-supervised-learning\n- vision\n- cmae\n---\n\n\
             # {pipeline}\n\nA vision transformer, pretrained by the pipeline `{pipeline}` of cmae {version}: the module `{module}` after {} steps, \
             for transformers' `{class}`.\n\n## Use\n\n```python\n{}\n```\n",
            about.step,
            self.lines.join("\n"),
        );
        if !self.unsaid.is_empty() {
            text += &format!(
                "\nThe view that the features were judged by has steps that `preprocessor_config.json` cannot say: {}.\n",
                self.unsaid.join(", ")
            );
        }
        if !about.figures.is_empty() {
            text += "\n## Figures\n\nThe last of each up to these weights.\n\n| figure | value | after step |\n|---|---|---|\n";
            for (name, (value, at)) in &about.figures {
                text += &format!("| {} | {} | {at} |\n", cell(name), number(*value));
            }
        }
        if let Some(picture) = self.picture {
            text += &format!(
                "\n## Reconstructions\n\nPictures, what the encoder saw of them, and what was made of that.\n\n![Reconstructions]({picture})\n"
            );
        }
        text += "\n## Pipeline\n";
        if let Some(started) = &about.started {
            let machine =
                format!("{} steps planned, on `{}` in {}", started.total_steps, started.backend, started.precision);
            text += &format!("\n{machine}.\n");
            if !started.overrides.is_empty() {
                let overrides: Vec<String> = started.overrides.iter().map(|text| format!("`{text}`")).collect();
                text += &format!("\nWith {}.\n", overrides.join(", "));
            }
        }
        if !about.text.is_empty() {
            let fence = fence(&about.text);
            text += &format!("\n{fence}cmae\n{}\n{fence}\n", about.text.trim_end());
        }
        text
    }
}

/// A name that ends no cell.
fn cell(name: &str) -> String {
    name.replace('|', "\\|")
}

/// Five digits: what a table of figures is read for.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e5).contains(&size) => {
            let decimals = (4 - libm::log10(size).floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
        _ => format!("{value:.4e}"),
    }
}

/// A fence that `text` does not end.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_texts_fenced() {
        for (value, text) in
            [(0.0, "0"), (0.58186397, "0.58186"), (12.5, "12.5"), (1234567.0, "1.2346e6"), (0.00012, "1.2000e-4")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!((fence("a ``b`` c"), fence("a ```` c")), ("```".to_owned(), "`````".to_owned()));
    }
}
