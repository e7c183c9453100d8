//! Schedules against the fixture's values, and their pieces at the edges; rules by role, path and loop.

use std::path::Path;

use cmae::backend::host::optimizer::{Group, Optimizer};
use cmae::diag::{Diagnostics, render};
use cmae::elab::Set;
use cmae::graph::Program;
use cmae::source::Sources;
use cmae::spec::Clock;
use cmae::spec::{Clip, Duration, End, Optimizer as Settings, Schedule, Tick};
use serde_json::Value;

use crate::command::{fail, root, succeed};

fn fixture() -> Value {
    let text = std::fs::read_to_string(root("tests/golden/schedules.json")).expect("it is in the repository");
    serde_json::from_str(&text).expect("it is JSON")
}

fn number(entry: &Value, name: &str) -> f64 {
    entry[name].as_f64().expect("the entry has this number")
}

/// The file's tolerance: 1e-6 of the value.
fn agrees(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-6 * expected.abs() + 1e-15
}

fn ramp(from: f64, to: f64, cosine: bool, over: Duration, by: Tick) -> Schedule {
    Schedule::Ramp { from, to, cosine, over, by }
}

/// The entries of a list that has some.
fn list(value: &Value) -> &[Value] {
    let entries = value.as_array().expect("a list");
    assert!(!entries.is_empty(), "the fixture holds nothing to compare");
    entries
}

fn values(entry: &Value) -> Vec<f64> {
    list(&entry["values"]).iter().map(|v| v.as_f64().expect("numbers")).collect()
}

#[test]
fn the_learning_rate_warms_up_and_falls_as_maes() {
    for entry in list(&fixture()["learning_rate"]) {
        let schedule = Schedule::Cosine {
            peak: number(entry, "base"),
            end: End::Value(number(entry, "minimum")),
            warmup: Duration::Epochs(number(entry, "warmup_epochs")),
            warmup_from: 0.0,
            over: Duration::Share(1.0),
            by: Tick::Step,
        };
        let steps_per_epoch = number(entry, "steps_per_epoch");
        let total = number(entry, "epochs") * steps_per_epoch;
        for (step, expected) in values(entry).into_iter().enumerate() {
            let found = schedule.at(step as f64, steps_per_epoch, total);
            assert!(agrees(found, expected), "step {step}: {found}, expected {expected}");
        }
    }
}

#[test]
fn the_momentum_rises_by_half_a_cosine() {
    for entry in list(&fixture()["ema_momentum"]) {
        let schedule = ramp(number(entry, "base"), number(entry, "end"), true, Duration::Share(1.0), Tick::Step);
        for (step, expected) in values(entry).into_iter().enumerate() {
            let found = schedule.at(step as f64, 1.0, number(entry, "total"));
            assert!(agrees(found, expected), "step {step}: {found}, expected {expected}");
        }
    }
}

/// Values at `steps` of a run of ten epochs of eight steps.
fn at(schedule: &Schedule, steps: &[f64]) -> Vec<f64> {
    steps.iter().map(|step| schedule.at(*step, 8.0, 80.0)).collect()
}

fn all_agree(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}, expected {expected:?}");
}

#[test]
fn a_ramp_is_flat_once_it_is_over() {
    let linear = ramp(0.04, 0.08, false, Duration::Epochs(5.0), Tick::Step);
    all_agree(&at(&linear, &[0.0, 10.0, 20.0, 40.0, 41.0, 80.0]), &[0.04, 0.05, 0.06, 0.08, 0.08, 0.08]);
    let cosine = ramp(0.04, 0.4, true, Duration::Share(1.0), Tick::Step);
    all_agree(&at(&cosine, &[0.0, 40.0, 80.0]), &[0.04, 0.22, 0.4]);
    // MSN's and I-JEPA's momentum never reaches 1.
    let cut = ramp(0.996, 1.0, false, Duration::Share(1.25), Tick::Step);
    all_agree(&at(&cut, &[0.0, 80.0]), &[0.996, 0.9992]);
}

#[test]
fn by_epoch_the_value_of_an_epochs_start_holds() {
    // DINO's teacher temperature: np.linspace(0.04, 0.07, 4), then 0.07.
    let temperature = ramp(0.04, 0.07, false, Duration::Epochs(3.0), Tick::Epoch);
    let found = at(&temperature, &[0.0, 7.0, 8.0, 15.0, 16.0, 23.0, 24.0, 79.0]);
    all_agree(&found, &[0.04, 0.04, 0.05, 0.05, 0.06, 0.06, 0.07, 0.07]);
}

fn cosine(end: End, over: Duration, by: Tick) -> Schedule {
    Schedule::Cosine { peak: 1.0, end, warmup: Duration::Epochs(2.0), warmup_from: 0.5, over, by }
}

#[test]
fn a_cosine_may_run_past_the_end_or_stop_before_it() {
    let half = |t: f64| 0.5 * (1.0 + libm::cos(std::f64::consts::PI * t));
    // 100 steps in all, 16 of them warm-up.
    let cut = cosine(End::Value(0.0), Duration::Share(1.25), Tick::Step);
    all_agree(&at(&cut, &[0.0, 8.0, 16.0, 58.0, 80.0]), &[0.5, 0.75, 1.0, 0.5, half(64.0 / 84.0)]);
    let short = cosine(End::OfPeak(0.1), Duration::Epochs(6.0), Tick::Step);
    all_agree(&at(&short, &[32.0, 48.0, 80.0]), &[0.55, 0.1, 0.1]);
    let held = cosine(End::Value(0.0), Duration::Share(1.0), Tick::Epoch);
    all_agree(&at(&held, &[7.0, 8.0, 15.0, 55.0]), &[0.5, 0.75, 0.75, half(32.0 / 64.0)]);
}

#[test]
fn steps_fall_at_their_milestones() {
    let schedule = Schedule::Steps {
        peak: 4e-4,
        warmup: Duration::Epochs(1.0),
        warmup_from: 0.0,
        factor: 0.1,
        at: vec![Duration::Epochs(7.0), Duration::Share(0.95)],
    };
    all_agree(&at(&schedule, &[0.0, 4.0, 8.0, 55.0, 56.0, 76.0]), &[0.0, 2e-4, 4e-4, 4e-4, 4e-5, 4e-6]);
}

/// A pipeline of one ViT and a decoder, with `train` of the test's.
fn program(depth: usize, train: &str) -> Program {
    let text = format!(
        r#"
use std::decoder::decoder
use std::losses::masked_pixel_mse
use std::masks::random_mask
use std::vit::vit

pipeline example {{
  data  {{ train = digits("train")  channels = 1  batch_size = 8 }}
  views {{ image = data.train |> random_resized_crop(16px) |> normalize(mean: 0.3, std: 0.35) }}
  model {{
    encoder = vit(16px, 4px, embed_dim: 32, depth: {depth}, num_heads: 4, positions: "learned")
    painter = decoder(from: encoder, embed_dim: 32, depth: 1, num_heads: 4, out: encoder.patch_values)
  }}
  branch online {{
    mask   = random_mask(encoder.grid, 75%)
    pixels = painter(encoder(views.image, keep: mask), restore: mask)
  }}
  losses {{ reconstruction = masked_pixel_mse(online.pixels, views.image, mask: online.mask, 4px, normalize: true) }}
  train {{ epochs = 10  {train} }}
}}
"#
    );
    let mut sources = Sources::new();
    sources.add_file("pipelines/example.cmae", text);
    compiled(sources, Path::new("pipelines/example.cmae"), &[])
}

fn compiled(mut sources: Sources, path: &Path, sets: &[&str]) -> Program {
    let mut diagnostics = Diagnostics::default();
    let sets: Vec<Set> = sets.iter().map(|set| Set::from(*set)).collect();
    let result = cmae::compile(&mut sources, &mut diagnostics, path, &sets);
    let Ok(compiled) = result else { panic!("{}", render(diagnostics.list(), &sources, false)) };
    compiled.program
}

/// How the trained tensor at `path` is updated.
fn group(program: &Program, path: &str) -> Group {
    let reached = program.train.reached(&program.layout);
    let optimizer =
        Optimizer::<f32>::new(&program.spec.train, &program.layout, &reached, Vec::new(), 0..program.layout.trained());
    optimizer.groups[program.layout.index(path).expect("the pipeline has it")].clone()
}

#[test]
fn layer_decay_is_a_rule_with_a_loop() {
    let fixture = &fixture()["layer_decay"];
    assert_eq!(number(fixture, "decay"), 0.65);
    let train = r#"
      optimizer     = adamw(weight_decay: 0.05)
      learning_rate = 1e-3
      parameters {
        path "encoder.cls_token", "encoder.pos_embed", "encoder.patch_embed.*": learning_rate_factor = pow(0.65, encoder.depth + 1)
        path "encoder.blocks.{i}.*" for i in 0..encoder.depth: learning_rate_factor = pow(0.65, encoder.depth - i)
        role bias, norm, token, position: weight_decay = 0
      }"#;
    let program = program(number(fixture, "depth") as usize, train);
    let parameters = fixture["parameters"].as_object().expect("one entry a parameter");
    let mut compared = 0;
    for (name, expected) in parameters {
        // The fixture's classifier and the norm before it are no part of an encoder.
        let path = format!("encoder.{name}");
        if program.layout.index(&path).is_none() {
            assert!(name.starts_with("head") || name.starts_with("fc_norm"), "{name}");
            continue;
        }
        let found = group(&program, &path);
        assert!(agrees(found.learning_rate_factor, number(expected, "scale")), "{name}: {found:?}");
        assert_eq!(found.weight_decay, Schedule::Constant(number(expected, "weight_decay")), "{name}");
        compared += 1;
    }
    assert!(compared >= 148, "{compared}");
}

#[test]
fn roles_decay_what_cmae_decays() {
    let groups = &fixture()["weight_decay_groups"];
    let sets = [
        "model.encoder.depth=1",
        "model.pixel_decoder.depth=1",
        "model.feature_decoder.depth=1",
        // The paper's text, where the released code has no bias and decays BatchNorm's weights.
        "model.projector.last_bias=true",
        "model.predictor.last_bias=true",
        "batch_norm_decay=0.0",
    ];
    let program = compiled(Sources::new(), &root("pipelines/cmae_vitb.cmae"), &sets);
    for (which, decay) in [("decay", 0.05), ("no_decay", 0.0)] {
        for name in list(&groups[which]) {
            let name = name.as_str().expect("names");
            assert_eq!(group(&program, name).weight_decay, Schedule::Constant(decay), "{name}");
        }
    }
}

#[test]
fn a_section_says_what_its_words_mean() {
    let train = r#"
      optimizer     = lars(weight_decay: ramp(0.04, 0.4))
      learning_rate = steps(base: 4e-4, per: 4, warmup: 1 epochs, warmup_from: 10%, factor: 0.5, at: [7 epochs, 95%])
      clip          = each_norm(3)
      parameters {
        path "painter.*": learning_rate = cosine(base: 1e-3, per: 4, end: 1e-6, over: 125%), frozen_until = 1 epochs
        path "encoder.{part}.*" for part in ["patch_embed", "norm"]: learning_rate = 0.5, weight_decay = ramp(0, 1, cosine: false)
        role bias, norm: weight_decay = 0, adaptation = false
      }"#;
    let program = program(1, train);
    let spec = &program.spec.train;
    assert_eq!(spec.clip, Some(Clip::EachNorm(3.0)));
    let whole = Duration::Share(1.0);
    let Settings::Lars { momentum, trust_coefficient, eps, separate_norms: false, weight_decay } = &spec.optimizer
    else {
        panic!("{spec:?}")
    };
    assert_eq!((*momentum, *trust_coefficient, *eps), (0.9, 0.001, 0.0));
    assert_eq!(*weight_decay, ramp(0.04, 0.4, true, whole, Tick::Step));
    let expected = Schedule::Steps {
        peak: 8e-4,
        warmup: Duration::Epochs(1.0),
        warmup_from: 0.1,
        factor: 0.5,
        at: vec![Duration::Epochs(7.0), Duration::Share(0.95)],
    };
    assert_eq!(spec.learning_rate, expected, "the peak is base · 8 / 4");
    let painter = group(&program, "painter.embed.weight");
    let expected = Schedule::Cosine {
        peak: 2e-3,
        // `per` scales the peak alone.
        end: End::Value(1e-6),
        warmup: Duration::Steps(0.0),
        warmup_from: 0.0,
        over: Duration::Share(1.25),
        by: Tick::Step,
    };
    assert_eq!((painter.learning_rate, painter.frozen_until), (expected, Some(Duration::Epochs(1.0))));
    assert!(painter.adaptation);
    let norm = group(&program, "encoder.norm.weight");
    assert_eq!(norm.learning_rate, Schedule::Constant(0.5));
    assert_eq!(norm.weight_decay, ramp(0.0, 1.0, false, whole, Tick::Step), "the first rule that gives it");
    assert!(!norm.adaptation);
}

#[test]
fn what_is_due_is_due_where_whole_periods_end() {
    let clock = Clock::new(2.0, 10);
    let due = |every: Duration| -> Vec<u64> { (1..=20).filter(|step| clock.is_due(every, *step)).collect() };
    assert_eq!(due(Duration::Epochs(1.0)), [10, 20]);
    assert_eq!(due(Duration::Share(0.25)), [5, 10, 15, 20]);
    assert_eq!(due(Duration::Steps(7.0)), [7, 14]);
    // A period that is no whole number of steps ends within one.
    assert_eq!(due(Duration::Steps(7.5)), [8, 15]);
    // Nothing happens more than once a step.
    assert_eq!(due(Duration::Steps(0.2)).len(), 20);
}

#[test]
fn a_schedule_is_shown_where_it_turns() {
    let text = succeed(&[
        "show",
        "schedule",
        "pipelines/quickstart.cmae",
        "--set",
        "train.optimizer=sgd(weight_decay: ramp(0.04, 0.4, cosine: false))",
        "--set",
        "train.learning_rate=steps(base: 1, warmup: 1 epochs, at: [17 epochs, 440 steps])",
        "--set",
        "model.momentum.momentum=ramp(0.9, 1, cosine: false)",
    ]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(
        text.lines().next().is_some_and(|l| l.ends_with("learning rate    weight decay  momentum of momentum")),
        "{text}"
    );
    let row = |epoch: &str| rows.iter().find(|row| row[0] == epoch).unwrap_or_else(|| panic!("{epoch}: {text}"));
    assert_eq!(row("0.00")[1..], ["0.000000e0", "4.000000e-2", "9.000000e-1"]);
    assert_eq!(row("1.00")[1], "1.000000e0");
    assert_eq!(row("16.50")[1..], ["1.000000e0", "2.380000e-1", "9.550000e-1"]);
    assert_eq!(row("17.00")[1], "1.000000e-1");
    // 440 of 21 steps an epoch.
    assert_eq!(row("20.95")[1], "1.000000e-2");
    assert_eq!(row("30.00")[1..], ["1.000000e-2", "4.000000e-1", "1.000000e0"]);
    // A number of the graph itself.
    let shown = succeed(&["show", "schedule", "pipelines/quickstart.cmae", "--set", "temperature=ramp(0.04, 0.07)"]);
    assert!(shown.lines().next().is_some_and(|heads| heads.ends_with("number of contrastive")), "{shown}");
    let last = shown.lines().rfind(|row| row.trim_start().starts_with("30.00"));
    assert!(last.is_some_and(|row| row.ends_with("7.000000e-2")), "{shown}");
    // And its shape over the run, beside those that stay.
    let plot = shown.lines().last().unwrap_or_default();
    assert!(plot.contains("▁") && plot.contains("█  4.000e-2 to 7.000e-2"), "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("weight decay ") && line.ends_with("5.000e-2 throughout")),
        "{shown}"
    );
    // Data that is not here is asked for only where steps are counted.
    let shown = succeed(&["show", "schedule", "pipelines/cmae_vitb.cmae"]);
    assert!(shown.contains("momentum of momentum"), "{shown}");
    let set = "train.learning_rate=cosine(base: 1, warmup: 1000 steps)";
    let error = fail(&["show", "schedule", "pipelines/cmae_vitb.cmae", "--set", set]);
    assert!(error.contains("counts steps") && error.contains("does not exist"), "{error}");
}
