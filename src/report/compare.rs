//! The page of several runs: a table of last figures, the same charts with a line a run, settings that differ.

use std::fmt::Write;

use super::chart::colour;
use super::charts::{self, Named};
use super::data;
use super::html::escape;
use super::page::{self, Block};
use super::read::Status;
use super::tables;

pub fn html(runs: &Named) -> String {
    let mut head =
        format!("<header>\n<p class=\"kind\">cmaec report</p>\n<h1>{} runs</h1>\n<ul class=\"runs\">\n", runs.len());
    for (at, (name, run)) in runs.iter().enumerate() {
        let _ = writeln!(
            head,
            "<li><i class=\"{}\"></i><b>{}</b> <span class=\"status {3}\">{3}</span> {}</li>",
            colour(at),
            escape(name),
            escape(&run.program.spec.name),
            run.status.name(),
        );
    }
    head += "</ul>\n</header>\n";
    let mut blocks = vec![
        Block { title: "Figures", html: tables::side_by_side(runs) },
        Block { title: "Differences", html: tables::differences(runs) },
    ];
    blocks.extend(charts::sections(runs).iter().map(Block::of));
    blocks.extend(page::beside(runs));
    let warnings: Vec<String> = runs.iter().flat_map(|(_, run)| run.warnings.clone()).collect();
    let names: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
    let lives = runs.iter().any(|(_, run)| run.status == Status::Training);
    page::document(&names.join(", "), &head, &blocks, &warnings, data::json(runs), lives)
}
