//! Every error code has a section whose example gives just that code, drawn as the page shows.

use std::path::Path;

use cmae::data::source;
use cmae::diag::{Code, Diagnostics, render};
use cmae::source::Sources;

use crate::command::{fail, root, succeed};
use crate::pages::Page;

const PAGES: [&str; 10] = ["syntax", "name", "unit", "shape", "view", "graph", "data", "weights", "export", "warning"];

/// Whether a code arises only when a run starts, is that of faults of the compiler, or of files that a page cannot hold: its
/// section has no example to compile. `data_codes.rs` shows those of data, `weights.rs` those of weights, `export.rs` those of exports, [`at_run_time`] that of the precision, `texts.rs` those
/// of files.
fn is_at_run_time(code: Code) -> bool {
    [Code::PrecisionMissing, Code::MemoryMissing, Code::Internal, Code::TooLong, Code::Encoding].contains(&code)
        || ["data::", "weights::", "export::"].iter().any(|phase| code.as_str().starts_with(phase))
}

/// Compiles `text` as a file beside the shipped pipelines.
fn diagnose(text: &str) -> (Vec<Code>, String) {
    let mut sources = Sources::new();
    let mut diagnostics = Diagnostics::default();
    sources.add_file("pipelines/example.cmae", text);
    let found = match cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines/example.cmae"), &[]) {
        Ok(compiled) => {
            let data = &compiled.program.spec.data;
            let train = data.source("train").expect("the compiler asks for one");
            // Counted where they are here, as `check` does.
            let pictures = source::open(train, data.channels, data.max_pixels).ok().map(|opened| opened.len());
            compiled.warnings(pictures)
        }
        Err(_) => diagnostics.list().to_vec(),
    };
    (found.iter().map(|d| d.code).collect(), render(&found, &sources, false))
}

#[test]
fn every_code_has_an_example_that_gives_it() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let (mut problems, mut shown) = (Vec::new(), Vec::new());
    for name in PAGES {
        let mut page = Page::read(root(&format!("src/diag/codes/{name}.md")));
        for index in 0..page.fences.len() {
            let fence = &page.fences[index];
            if fence.info != "cmae" {
                continue;
            }
            let Some(code) = Code::parse(&fence.heading) else {
                problems.push(format!("`{}` is no code", fence.heading));
                continue;
            };
            let (codes, drawn) = diagnose(&fence.text);
            if codes.is_empty() || codes.iter().any(|c| *c != code) {
                problems.push(format!("the example of `{}` gives {codes:?}\n{drawn}", code.as_str()));
                continue;
            }
            shown.push(code);
            match page.fences.get(index + 1).filter(|next| next.info == "text") {
                Some(_) => problems.extend(page.expect(index + 1, drawn.trim_end()).err()),
                None => problems.push(format!("`{}` does not show its message", code.as_str())),
            }
        }
        page.finish();
    }
    for code in Code::ALL {
        if code.explanation().is_none() {
            problems.push(format!("`{}` has no section", code.as_str()));
        } else if !shown.contains(code) && !is_at_run_time(*code) {
            problems.push(format!("`{}` has no example that gives it", code.as_str()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn at_run_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().display().to_string();
    let error = fail(&[
        "run",
        "pipelines/quickstart.cmae",
        "--out",
        &out,
        "--set",
        "train.precision=bf16",
        "--backend",
        "dfdx",
    ]);
    let section = Code::PrecisionMissing.explanation().expect("the test above");
    assert!(section.contains(error.trim()), "{error}");
}

#[test]
fn explain_prints_the_section() {
    let text = succeed(&["explain", "unit::wrong_unit"]);
    assert!(text.starts_with("## unit::wrong_unit") && text.contains("75%"), "{text}");
    let list = succeed(&["explain", "--list"]);
    assert_eq!(list.lines().count(), Code::ALL.len());
    let error = fail(&["explain", "unit::wrong_units"]);
    assert!(error.contains("unit::wrong_unit"), "{error}");
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let mut child = crate::command::cmaec(&["show", "graph", "pipelines/cmae_vitb.cmae"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary is there");
    // The graph is longer than a pipe holds: the command writes on after its reader has gone.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it is ours");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
