//! `--sweep`: the runs that it means, their folders' names, and the table that they end with.

use std::path::{Path, PathBuf};

use cmae::diag::Diagnostics;
use cmae::graph::Program;
use cmae::run::{metrics, shell};
use cmae::source::Sources;
use cmae::spec::Evaluation;
use cmae::syntax::ast::{Expr, Override};
use cmae::syntax::parse_sweep;

use super::output;
use super::pipeline;

/// Longest name of a folder that is not cut.
const LONGEST: usize = 80;
/// Letters of the hash that stands for what a folder's name cannot hold.
const HASH: usize = 6;

/// `NAME=VALUE` of every combination of the sweeps' values, the first varying slowest; one empty combination without sweeps.
pub fn combinations(sweeps: &[String]) -> Result<Vec<Vec<String>>, String> {
    let mut all = vec![Vec::new()];
    for sweep in sweeps {
        let values = values(sweep)?;
        all = all
            .iter()
            .flat_map(|before: &Vec<String>| {
                values.iter().map(move |value| before.iter().cloned().chain([value.clone()]).collect())
            })
            .collect();
    }
    Ok(all)
}

/// `NAME=A`, `NAME=B`, … of `NAME=A,B`: what a value is, and where it ends, the language's grammar says.
fn values(sweep: &str) -> Result<Vec<String>, String> {
    if !sweep.contains('=') {
        let word = shell::word(&format!("{sweep}=A,B"));
        return Err(format!("`--sweep {sweep}` has no values\nhelp: --sweep {word}"));
    }
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let id = sources.add_text("--sweep", sweep);
    let changes = parse_sweep(&sources, id, &mut diagnostics);
    let changes = changes.map_err(|_| pipeline::draw(diagnostics.list(), &sources))?;
    let mut seen: Vec<String> = Vec::new();
    let values: Vec<&Expr> = changes.iter().filter_map(Override::value).collect();
    for value in &values {
        let text = value.to_string();
        if seen.contains(&text) {
            return Err(format!("`--sweep {sweep}` has the value {text} twice\nhelp: leave one of them out"));
        }
        seen.push(text);
    }
    let name = |change: &Override| change.path.iter().map(|name| &*name.text).collect::<Vec<_>>().join(".");
    let texts = values.iter().map(|value| sources.slice(value.span));
    Ok(changes.iter().zip(texts).map(|(change, text)| format!("{}={text}", name(change))).collect())
}

/// Refuses two combinations that train the very same: values that are written differently, or that nothing hangs on.
pub fn check_distinct<'p>(runs: impl Iterator<Item = (&'p [String], &'p Program)>) -> Result<(), String> {
    // What was written is there for the record alone.
    let trained = |program: &Program| {
        let mut program = program.clone();
        program.spec.params.clear();
        program
    };
    let mut seen: Vec<(&[String], Program)> = Vec::new();
    for (combination, program) in runs {
        let program = trained(program);
        if let Some((same, _)) = seen.iter().find(|(_, other)| *other == program) {
            return Err(format!(
                "`{}` and `{}` of the sweep train the very same\nhelp: leave one of them out",
                same.join(", "),
                combination.join(", ")
            ));
        }
        seen.push((combination, program));
    }
    Ok(())
}

/// Name of a combination's folder: its settings, where they can be one, else what can stay of them and a hash of all.
///
/// Unique, and the same in every sweep that holds the combination. Capitals count as what cannot stay: some disks do not tell
/// them apart.
pub fn folder_name(combination: &[String]) -> String {
    let text = combination.join(",");
    let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-=%+,".contains(c);
    if text.len() <= LONGEST && text.chars().all(safe) {
        return text;
    }
    let mut name = String::new();
    for c in text.chars() {
        match c {
            c if safe(c) || c.is_ascii_alphabetic() => name.push(c),
            _ if name.ends_with(['_', '=']) => {}
            _ => name.push('_'),
        }
    }
    name.truncate(LONGEST - HASH - 1);
    let hash = blake3::hash(text.as_bytes()).to_hex();
    format!("{}-{}", name.trim_end_matches(['_', ',', '.']), &hash[..HASH])
}

/// What a run of a sweep came to.
pub struct Row<'p> {
    pub folder: PathBuf,
    pub program: &'p Program,
    /// Why it did not come to its end.
    pub error: Option<String>,
}

/// Prints a line for each run: its last losses, and its last evaluation.
pub fn print_table(rows: &[Row<'_>]) {
    let losses: Vec<&str> = rows
        .first()
        .map_or_else(Vec::new, |row| row.program.train.losses.iter().map(|(name, _)| name.as_str()).collect());
    let evaluations = rows.first().map_or(&[][..], |row| &row.program.spec.evaluate.evaluations[..]);
    let mut head: Vec<String> = ["run", "steps"].iter().chain(&losses).map(|name| (*name).to_owned()).collect();
    head.extend(evaluations.iter().map(Evaluation::title));
    let mut table = vec![head];
    table.extend(rows.iter().map(|row| cells(row, &losses, evaluations)));
    for line in aligned(&table) {
        output::offer(format_args!("{line}\n"));
    }
}

fn cells(row: &Row<'_>, losses: &[&str], evaluations: &[Evaluation]) -> Vec<String> {
    // A run that failed as it started has no folder.
    let lines = metrics::read(&row.folder.join("metrics.jsonl")).unwrap_or_default();
    let last = |key: &str| lines.iter().rev().find(|line| line.get(key).is_some());
    let figure = |value: Option<f64>, text: &dyn Fn(f64) -> String| value.map_or_else(|| "-".to_owned(), text);
    let step = last("losses").and_then(|line| line["step"].as_u64()).unwrap_or(0);
    let failed = if row.error.is_some() { ", failed" } else { "" };
    let mut cells = vec![name(&row.folder), format!("{step}{failed}")];
    let loss = |name: &str| last("losses").and_then(|line| line["losses"][name].as_f64());
    cells.extend(losses.iter().map(|name| figure(loss(name), &|value| format!("{value:.4}"))));
    for evaluation in evaluations {
        // Each has a period of its own.
        let key = format!("{}_accuracy", evaluation.name);
        let accuracy = lines.iter().rev().find_map(|line| line.get("evaluation")?.get(&key)?.as_f64());
        cells.push(figure(accuracy, &|share| format!("{:.1} %", share * 100.0)));
    }
    cells
}

pub fn name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Lines of cells of one width a column: the first to the left, figures to the right.
pub fn aligned(table: &[Vec<String>]) -> Vec<String> {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sweeps: &[&str]) -> Vec<Vec<String>> {
        combinations(&sweeps.iter().map(|sweep| (*sweep).to_owned()).collect::<Vec<_>>()).expect("they are right")
    }

    #[test]
    fn values_end_where_the_grammar_says() {
        let found = of(&["train.learning_rate=cosine(base: 1e-3, warmup: 10%), 1e-3", "a=(1px, 2px),[1, 2],\"x,y\","]);
        let first = ["train.learning_rate=cosine(base: 1e-3, warmup: 10%)", "train.learning_rate=1e-3"];
        let second = ["a=(1px, 2px)", "a=[1, 2]", "a=\"x,y\""];
        let all: Vec<[&str; 2]> = first.iter().flat_map(|a| second.iter().map(|b| [*a, *b])).collect();
        assert_eq!(found, all);
        assert_eq!(of(&[]), [[""; 0]]);
    }

    #[test]
    fn what_is_no_list_of_values_is_said() {
        let error = |sweep: &str| combinations(&[sweep.to_owned()]).expect_err("it is wrong");
        assert!(error("mask_ratio").contains("help: --sweep mask_ratio=A,B"), "{}", error("mask_ratio"));
        assert!(error("a=1e-3,0.001").contains("the value 0.001 twice"), "{}", error("a=1e-3,0.001"));
        assert!(error("a=").contains("syntax::") && error("a=1,,2").contains("syntax::"), "{}", error("a="));
    }

    #[test]
    fn folders_have_names_that_every_disk_takes() {
        let name = |settings: &[&str]| folder_name(&settings.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(name(&["mask_ratio=60%", "train.epochs=2"]), "mask_ratio=60%,train.epochs=2");
        let hard = [
            "data.train=image_folder(\"a/b\")",
            "data.train=image_folder(\"a/c\")",
            "data.train=image_folder(\"A/b\")",
            "train.learning_rate=cosine(base: 1e-3, warmup: 10%)",
            "a=../../x",
            "a=é",
            "a=\"con: \\ * ? < > |\"",
        ];
        let mut names: Vec<String> = hard.iter().map(|setting| name(&[setting])).collect();
        names.push(name(&hard));
        for name in &names {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-=%+,".contains(c);
            assert!(name.len() <= LONGEST && name.chars().all(plain) && !name.starts_with('.'), "{name}");
        }
        assert!(names[3].starts_with("train.learning_rate=cosine_base_1e-3,_warmup_10%-"), "{}", names[3]);
        let folded = names.iter().map(|name| name.to_lowercase());
        assert_eq!(folded.collect::<std::collections::BTreeSet<_>>().len(), names.len(), "{names:?}");
    }

    #[test]
    fn tables_are_aligned() {
        let table = [["run", "loss"], ["a=1", "10.5"], ["a=100", "9.5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&table), ["run    loss", "a=1    10.5", "a=100   9.5"]);
    }
}
