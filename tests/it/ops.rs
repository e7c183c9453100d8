//! Every op of the closed set on each backend: pages in `tests/ops` with values worked out apart from it, sweeps over
//! shapes against plain loops, gradients against finite differences in f64, f32 against f64, and the shape rules.

mod aliasing;
mod case;
mod generated;
mod grad;
mod page;
mod pipelines;
mod reference;
mod rules;
mod shapes;
mod sweep;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cmae::op::table::TABLE;
use page::PageCase;

use crate::command::updates_expected;

fn pages() -> Vec<(PathBuf, String, Vec<PageCase>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ops");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("it is readable").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a page is text");
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let cases = page::parse(&name, &text).unwrap_or_else(|error| panic!("{error}"));
        (path, text, cases)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn pages_hold() {
    let mut faults = Vec::new();
    for (path, text, cases) in pages() {
        if updates_expected() {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            // From the end, so that the lines of earlier blocks keep their numbers.
            for case in cases.iter().rev().filter(|case| !case.expect.is_empty()) {
                let new = case.rewritten().unwrap_or_else(|error| panic!("{}: {error}", case.case.title));
                lines.splice(case.expect_lines.clone(), new);
            }
            std::fs::write(&path, lines.join("\n") + "\n").expect("the page is writable");
            continue;
        }
        assert!(!cases.is_empty(), "{} has no graph", path.display());
        for case in &cases {
            assert!(!case.expect.is_empty(), "{} expects nothing", case.case.title);
            faults.extend(case.faults());
            faults.extend(case.case.faults());
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_op_has_a_page() {
    let names: BTreeSet<String> = TABLE.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(names.len(), TABLE.len(), "two ops of one name: {names:?}");
    let mut covered = BTreeSet::new();
    for (_, text, cases) in pages() {
        // A graph that only passes through an op says nothing of it: the page must name it. Ops of the backward pass are
        // run where a case's gradient is taken.
        for case in &cases {
            let (graph, layout) = case.case.with_total(true);
            let whole = cmae::graph::grad::differentiate(&graph, &layout).expect("it is sound");
            let ops = case.case.graph.nodes.iter().chain(&whole.nodes).map(|node| node.op.name());
            covered.extend(ops.filter(|op| text.contains(&format!("`{op}`"))).map(str::to_owned));
        }
    }
    let missing: Vec<_> = names.difference(&covered).collect();
    assert!(missing.is_empty(), "no page in tests/ops explains and runs: {missing:?}");
}
