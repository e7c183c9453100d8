//! Verification: mappings, tolerances and comparisons by themselves, then a whole run of a toy trainer against a file
//! made for it, with twins that must fail.

mod parts;
pub mod toy;

use cmae::verify::{Fixture, Map, Options, Problem, Report, VerifyError, verify_eval, verify_train};

use toy::{Fault, Toy, fixture_bytes, map_text, program};

fn options() -> Options {
    Options { tolerance: None, steps: 3, null_after: Some(4e-3) }
}

/// A toy run with `fault` against the sound file.
fn run(fault: Fault) -> Report {
    let file = Fixture::parse(&fixture_bytes()).expect("the test writes it");
    let map = Map::parse(&map_text()).expect("the test writes it");
    verify_train(&program(), &mut Toy::new(fault), &file, &map, &options()).expect("everything is mapped")
}

fn failed(fault: Fault) -> Vec<String> {
    let report = run(fault);
    assert!(!report.ok(), "{fault:?} must fail:\n{}", report.text());
    report.failed().map(|row| row.name.clone()).collect()
}

fn problems(map: &str, file: &[u8]) -> Vec<Problem> {
    let file = Fixture::parse(file).expect("the test writes it");
    let map = Map::parse(map).expect("the test writes it");
    match verify_train(&program(), &mut Toy::new(Fault::None), &file, &map, &options()) {
        Err(VerifyError::Problems(problems)) => problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn a_sound_run_passes_and_every_tensor_has_a_row() {
    let report = run(Fault::None);
    assert!(report.ok(), "{}", report.text());
    let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    let file = Fixture::parse(&fixture_bytes()).expect("the test writes it");
    let compared = |name: &&str| {
        !name.starts_with("input.")
            && *name != "expect.ids"
            && (!name.starts_with("weights.") || *name == "weights.pos")
    };
    assert_eq!(names, file.names().filter(compared).collect::<Vec<_>>(), "in the file's order");
    assert_eq!(report.ignored, ["expect.ids"]);
    assert!(report.without_gradient.is_empty());
    assert!(report.summary().starts_with("all 15 tensors within tolerance, worst `"), "{}", report.summary());
    let json = report.json();
    assert_eq!((json["ok"].as_bool(), json["rows"].as_array().map(Vec::len)), (Some(true), Some(15)));
}

#[test]
fn null_gradients_need_their_own_tolerance() {
    let file = Fixture::parse(&fixture_bytes()).expect("the test writes it");
    let map = Map::parse(&map_text()).expect("the test writes it");
    let strict = Options { null_after: None, ..options() };
    let report = verify_train(&program(), &mut Toy::new(Fault::None), &file, &map, &strict).expect("mapped");
    let failed: Vec<&str> = report.failed().map(|row| row.name.as_str()).collect();
    // The EMA copy follows its source and fails with it: it is in the same tolerance's reach.
    assert_eq!(failed, ["after.bias", "after.target.bias"]);
}

#[test]
fn twins_fail() {
    assert!(failed(Fault::WeightOffByOnePercent).contains(&"expect.y".to_owned()));
    assert_eq!(failed(Fault::GradientSign)[0], "after.k.weight");
    assert!(failed(Fault::GradientSign).contains(&"grad.k.weight".to_owned()));
    assert!(
        !failed(Fault::GradientSign).contains(&"grad.q.weight".to_owned()),
        "the other part of the tensor is sound"
    );
    assert_eq!(failed(Fault::EmaBeforeStep), ["after.target.k.weight", "after.target.q.weight"]);
    assert_eq!(failed(Fault::NullGradient), ["grad.bias"]);
    assert_eq!(failed(Fault::Update), ["after.norm.stat", "after1.norm.stat"]);
    assert_eq!(failed(Fault::Positions), ["weights.pos"]);
    assert_eq!(failed(Fault::NanLoss), ["expect.loss"]);
    assert_eq!(failed(Fault::OutputShape), ["expect.y"]);
    assert!(failed(Fault::SecondStep).contains(&"expect.step_losses".to_owned()));
}

#[test]
fn a_failed_run_says_what_is_wrong() {
    let report = run(Fault::OutputShape);
    assert!(report.text().contains("FAIL expect.y"), "{}", report.text());
    assert!(report.summary().contains("14 of 15 tensors within tolerance, worst `expect.y`: shape [3, 2], expected"));
    let report = run(Fault::NanLoss);
    assert!(report.summary().contains("value 0 is NaN"), "{}", report.summary());
    assert_eq!(report.json()["ok"], false);
}

#[test]
fn a_given_tolerance_replaces_the_advice() {
    let file = Fixture::parse(&fixture_bytes()).expect("the test writes it");
    let map = Map::parse(&map_text()).expect("the test writes it");
    let loose = Options { tolerance: Some(10.0), ..options() };
    let mut toy = Toy::new(Fault::WeightOffByOnePercent);
    assert!(verify_train(&program(), &mut toy, &file, &map, &loose).expect("mapped").ok());
}

#[test]
fn gaps_are_named() {
    let bytes = fixture_bytes();
    let without = |text: &str, by: &str| {
        let map = map_text();
        assert!(map.contains(text), "{text}");
        problems(&map.replace(text, by), &bytes)
    };
    assert_eq!(without(r#"ignore: ["expect.ids"],"#, ""), [Problem::Unused { name: "expect.ids".to_owned() }]);
    let message = without(r#"("views.online", "input.x")"#, r#"("views.onlin", "input.x")"#);
    assert_eq!(message[0].to_string(), "the graph has no input `views.onlin` (help: did you mean `views.online`?)");
    assert_eq!(message[1], Problem::MissingInput { name: "views.online".to_owned() });
    let message = without(r#""input.x""#, r#""input.xx""#)[0].to_string();
    assert_eq!(message, "the file has no tensor `input.xx` (help: did you mean `input.x`?)");
    let message = without(r#""losses.fit")"#, r#""losses.fid")"#)[0].to_string();
    assert_eq!(message, "the graph has no value `losses.fid` (help: did you mean `losses.fit`?)");

    let message = without(r#""q.weight", "k.weight""#, r#""q.weight", "kk.weight""#);
    let first = message[0].to_string();
    assert_eq!(
        first,
        "parameter `head.weight` has no tensor in the file: tried `weights.q.weight`, `weights.kk.weight`, \
         `weights.weight` (help: did you mean `k.weight`?)"
    );
    assert!(message.contains(&Problem::Unused { name: "grad.q.weight".to_owned() }));
    let message = without(r#"("pos", ["pos"]),"#, "")[0].to_string();
    assert_eq!(message, "parameter `pos` has no tensor in the file: no rule of `tensors` matches it");
    let message = without(r#"["q.weight", "k.weight"]"#, r#"["q.weight"]"#)[0].to_string();
    assert!(message.contains("parameter `head.weight` is [2, 3], the file's q.weight [[1, 3]]"), "{message}");
}

#[test]
fn a_step_that_fails_is_an_error() {
    let file = Fixture::parse(&fixture_bytes()).expect("the test writes it");
    let map = Map::parse(&map_text()).expect("the test writes it");
    let error = verify_train(&program(), &mut Toy::new(Fault::Error), &file, &map, &options()).expect_err("it fails");
    assert_eq!(error.to_string(), "step 1 failed: out of memory");
    let eval = Map { mode: cmae::verify::Mode::Eval, ..map };
    let error = verify_train(&program(), &mut Toy::new(Fault::None), &file, &eval, &options());
    assert!(matches!(error, Err(VerifyError::Mode { .. })));
}

#[test]
fn evaluation_needs_only_what_its_graph_reads() {
    let bytes = toy::file(
        &[("input.x", vec![2, 3], toy::X.to_vec()), ("expect.f", vec![2, 3], toy::shifted())],
        &[("weights.pos", vec![1, 3], toy::POSITIONS.to_vec())],
    );
    let file = Fixture::parse(&bytes).expect("the test writes it");
    let text = r#"(pipeline: "toy.cmae", mode: Eval, inputs: [("views.eval", "input.x")], tensors: [("{rest}", ["{rest}"])],
        outputs: [("expect.f", "features")])"#;
    let map = Map::parse(text).expect("sound");
    let program = program();
    for (fault, ok) in [(false, true), (true, false)] {
        let mut arena = vec![0.0; program.layout.total_len];
        let mut backend = toy::Shift { fault };
        let report = verify_eval(&program, &mut backend, &mut arena, &file, &map, &Options::default());
        let report = report.expect("only `pos` is needed");
        assert_eq!(report.ok(), ok, "{}", report.text());
        assert_eq!(report.rows.len(), 1);
    }
}
