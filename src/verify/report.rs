//! The outcome of a verification, for people and for scripts.
//!
//! Before: [`super`] compares. After: the command line prints it and takes its exit code from [`Report::ok`].
//!
//! **Invariant:** rows stand in the order of the file's tensors, whatever order they were compared in.

use std::fmt::Write;

use serde::Serialize;

use super::compare::Comparison;

/// All comparisons of one verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub pipeline: String,
    /// `f32` or `f64`.
    pub precision: String,
    pub rows: Vec<Comparison>,
    /// Tensors of the file that the mapping ignores.
    pub ignored: Vec<String>,
    /// Trained tensors whose gradient the file does not hold, where it holds any.
    pub without_gradient: Vec<String>,
}

impl Report {
    /// Whether something was compared and all of it passes.
    pub fn ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }

    pub fn failed(&self) -> impl Iterator<Item = &Comparison> {
        self.rows.iter().filter(|row| !row.ok)
    }

    /// The row furthest beyond its tolerance, or nearest to it.
    pub fn worst(&self) -> Option<&Comparison> {
        self.rows.iter().max_by(|a, b| a.share.total_cmp(&b.share))
    }

    pub fn row(&self, name: &str) -> Option<&Comparison> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The last line: `all 12 tensors within tolerance, worst ...`.
    pub fn summary(&self) -> String {
        let Some(worst) = self.worst() else { return "no tensor was compared".to_owned() };
        let passed = self.rows.iter().filter(|row| row.ok).count();
        let counted = match self.rows.len() {
            1 if passed == 1 => "1 tensor within tolerance".to_owned(),
            all if passed == all => format!("all {all} tensors within tolerance"),
            all => format!("{passed} of {all} tensors within tolerance"),
        };
        let worst = match &worst.note {
            Some(note) => format!("worst `{}`: {note}", worst.name),
            None => format!("worst `{}` at {:.2} of its tolerance", worst.name, worst.share),
        };
        format!("{counted}, {worst}")
    }

    /// A table with a line for each tensor, remarks, and the summary.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("tensor".len());
        let shape = |row: &Comparison| {
            let sides: Vec<String> = row.shape.iter().map(usize::to_string).collect();
            if sides.is_empty() { "scalar".to_owned() } else { sides.join("x") }
        };
        let shape_width = self.rows.iter().map(|row| shape(row).len()).max().unwrap_or(0).max("shape".len());
        let group_width = self.rows.iter().map(|row| row.group.len()).max().unwrap_or(0).max("group".len());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "     {:width$}  {:group_width$}  {:>shape_width$}  {:>9}  {:>9}  {:>9}  {:>7}  {:>7}",
            "tensor", "group", "shape", "max abs", "max rel", "rms rel", "tol max", "tol rms"
        );
        for row in &self.rows {
            let _ = write!(
                text,
                "{:4} {:width$}  {:group_width$}  {:>shape_width$}  {:>9.2e}  {:>9.2e}  {:>9.2e}  {:>7.0e}  {:>7.0e}",
                if row.ok { "ok" } else { "FAIL" },
                row.name,
                row.group,
                shape(row),
                row.max_abs,
                row.max_rel,
                row.rms_rel,
                row.tolerance.max,
                row.tolerance.rms
            );
            if let Some((worst, tolerance)) = row.absolute {
                let _ = write!(text, "  absolute {worst:.1e} of {tolerance:.0e}");
            }
            if let Some(note) = &row.note {
                let _ = write!(text, "  {note}");
            }
            text.push('\n');
        }
        for (names, remark) in
            [(&self.ignored, "not compared"), (&self.without_gradient, "trained, but without a gradient in the file")]
        {
            if !names.is_empty() {
                let _ = writeln!(text, "{remark}: {}", names.join(", "));
            }
        }
        let _ = writeln!(text, "{} ({}, {})", self.summary(), self.pipeline, self.precision);
        text
    }

    /// The same as JSON; distances that are not numbers are `null`.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).expect("strings, numbers and lists always serialize");
        value["ok"] = self.ok().into();
        value["summary"] = self.summary().into();
        value
    }
}
