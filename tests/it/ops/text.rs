//! The text form of graphs reads back: real pipelines' graphs, every attribute, and texts that are wrong.

use cmae::diag::Diagnostics;
use cmae::graph::text::{parse, print};
use cmae::source::Sources;

use crate::command::{pipelines, root};

fn round_trip(text: &str) {
    let graph = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(print(&graph), text);
}

#[test]
fn pipelines_graphs_read_back() {
    for name in pipelines() {
        let path = root(&format!("pipelines/{name}.cmae"));
        let (mut sources, mut diagnostics) = (Sources::default(), Diagnostics::default());
        let compiled = cmae::compile(&mut sources, &mut diagnostics, &path, &[]);
        let Ok(compiled) = compiled else { panic!("{} does not compile", path.display()) };
        let program = compiled.program;
        let graphs = [Some(&program.train), program.features.as_ref(), program.pictures.as_ref()];
        for graph in graphs.into_iter().flatten() {
            let text = print(graph);
            let read = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(read == *graph, "{} reads back as another graph", path.display());
            assert_eq!(print(&read), text);
        }
    }
}

#[test]
fn every_part_reads_back() {
    round_trip(
        r#"input views.online: f[2, 3, 4, 4] View(view:"online")
input labels: i[2] Label
input a.noise: f[2, 5] Noise
%0: f[2, 3, 4, 4] = input() (name:"views.online")  ; online
%1: i[2] = input() (name:"labels")
%2: f[] = param() (path:"odd \") ; (name")  ; a; b
%3: f[2, 4, 12] = patchify(%0) (patch:(2,2),order:ChannelRowColumn)  ; online.patches
%4: f[2, 1] = sum(%3) (axes:[1,2],keep:true)
%5: f[] = pow_const(%2) (value:-0.30000000000000004)
%6: f[] = full() (value:1e-300)
%7: f[2, 2] = concat(%4, %4) (axis:1)
loss a = %5
monitor b = %6
update c.d = %7
output e = %3
total = %5
"#,
    );
}

#[test]
fn wrong_texts_are_errors_that_name_the_line() {
    let error = |text: &str| parse(text).expect_err(text);
    assert_eq!(error("\n%1: f[] = full() (value:1.0)"), "line 2: `%1` stands where %0 comes");
    assert_eq!(error("%0: g[] = full() (value:1.0)"), "line 1: `g[]` is no type such as f[2, 3]");
    assert_eq!(error("%0: f[x] = full() (value:1.0)"), "line 1: `f[x]` is no type such as f[2, 3]");
    assert!(error("%0: f[] = ful() (value:1.0)").starts_with("line 1: `ful (value:1.0)` is no operation: "));
    assert!(error("%0: f[] = full()").starts_with("line 1: `full` is no operation: "));
    assert_eq!(error("%0: f[] = Add()"), "line 1: `Add` is no operation: is `add` meant?");
    assert_eq!(error("%0: f[] = full() (value:1.0"), "line 1: `(value:1.0` is not closed");
    assert_eq!(error("%0: f[] = full() (value:1.0) x"), "line 1: `x` follows the operation");
    assert_eq!(error("%0: f[] = neg(0)"), "line 1: `0` is no value such as %3");
    assert_eq!(error("output y = 3"), "line 1: `3` is no value such as %3");
    assert_eq!(error("result y = %3"), "line 1: `result` is no part of a graph");
    assert!(error("input x: f[2] Picture").starts_with("line 1: `Picture` is no kind of input: "));
}
