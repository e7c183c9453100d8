//! States: queues, centres and codebooks, as steps write them and evaluation leaves them alone.

use cmae::backend::Kept;
use cmae::diag::{Diagnostics, render};
use cmae::graph::{Program, TensorKind};
use cmae::source::Sources;
use cmae::tensor::{HostTensor, InputValue};
use cmae::train::Trainer;

use crate::methods::trainer;

fn compile(text: &str) -> Program {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    sources.add_file("pipelines/example.cmae", text);
    match cmae::compile(&mut sources, &mut diagnostics, "pipelines/example.cmae".as_ref(), &[]) {
        Ok(compiled) => compiled.program,
        Err(_) => panic!("{}", render(diagnostics.list(), &sources, false)),
    }
}

/// A pipeline around a model and a branch, whose loss is `loss`.
fn pipeline(uses: &str, model: &str, branch: &str, loss: &str) -> String {
    format!(
        "use std::layers::linear
        {uses}
        pipeline example {{
          data {{ train = digits(\"train\")  channels = 1  batch_size = 2 }}
          views {{ image = data.train |> center_crop(2px) |> normalize(mean: 0.0, std: 1.0) }}
          model {{ net = linear(4, 3)  {model} }}
          branch online {{ x = op::reshape(views.image, (2, 4))  y = net(x)  {branch} }}
          losses {{ all = {loss} }}
          train {{ epochs = 1  optimizer = sgd()  learning_rate = 0.0 }}
          evaluate {{ features = net(online.x) }}
        }}"
    )
}

fn picture(step: u64) -> Vec<(String, InputValue)> {
    let data = (0..8).map(|i| ((i * 7 + step as usize * 3) % 11) as f32 / 11.0).collect();
    vec![("views.image".to_owned(), InputValue::Float(HostTensor { shape: vec![2, 1, 2, 2], data }))]
}

fn tensors<'t>(trainer: &'t mut Trainer<'_, f64>) -> &'t [f64] {
    trainer.tensors().expect("they are there")
}

/// The state at `path` before the first step and after each.
fn states(program: &Program, path: &str, steps: u64) -> Vec<Vec<f64>> {
    let mut trainer = trainer::<f64>(program, "auto", steps);
    let (decl, range) = program.layout.get(path).expect("the pipeline has it");
    assert_eq!(decl.kind, TensorKind::State);
    let mut found = vec![tensors(&mut trainer)[range.clone()].to_vec()];
    for step in 0..steps {
        trainer.step(&picture(step)).unwrap_or_else(|error| panic!("{error}"));
        found.push(tensors(&mut trainer)[range.clone()].to_vec());
    }
    found
}

#[test]
fn a_queue_holds_the_newest_keys_first() {
    let text = pipeline(
        "use std::memory::queue
         use std::losses::info_nce_queue",
        "memory = queue(5, 3)",
        "negatives = memory(y)",
        "info_nce_queue(online.y, online.y, online.negatives, 0.2)",
    );
    let found = states(&compile(&text), "memory.keys", 3);
    for pair in found.windows(2).skip(1) {
        let (before, after) = (&pair[0], &pair[1]);
        // Normalised once more, which moves the last digit.
        let kept = after[6..].iter().zip(&before[..9]).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(kept, "two keys join at the front, the oldest two leave: {before:?}, {after:?}");
        let norm: f64 = after[..3].iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-12, "{after:?}");
    }
}

#[test]
fn two_calls_of_one_module_update_its_state_in_turn() {
    let text = pipeline(
        "use std::teachers::centering",
        "center = centering(3, 0.9)",
        "first = center([y])[0]  second = center([2.0 * y])[0]",
        "op::mean(online.first) + op::mean(online.second)",
    );
    let program = compile(&text);
    let found = states(&program, "center.center", 1);
    let mut trainer = trainer::<f64>(&program, "cpu", 1);
    let mut tensor = |path: &str| {
        let (_, range) = program.layout.get(path).expect("the pipeline has it");
        tensors(&mut trainer)[range].to_vec()
    };
    let (weight, bias) = (tensor("net.weight"), tensor("net.bias"));
    let InputValue::Float(image) = &picture(0)[0].1 else { panic!("pictures are floats") };
    for feature in 0..3 {
        let output = |row: usize| -> f64 {
            (0..4).map(|i| weight[feature * 4 + i] * f64::from(image.data[row * 4 + i])).sum::<f64>() + bias[feature]
        };
        let mean = (output(0) + output(1)) / 2.0;
        // 0.9 · (0.9 · 0 + 0.1 · mean) + 0.1 · 2 · mean
        let expected = 0.9 * 0.1 * mean + 0.1 * 2.0 * mean;
        assert!((found[1][feature] - expected).abs() < 1e-12, "{found:?}, {expected}");
    }
}

#[test]
fn what_is_frozen_neither_learns_nor_remembers() {
    let text = pipeline(
        "use std::layers::batch_norm
         block small() {
           net  = linear(3, 3)
           norm = batch_norm(3)
           forward(x: [B, 3]) -> [B, 3] { norm(net(x)) }
         }",
        "eye = frozen(small())",
        "z = eye(y)",
        "op::mean(online.z * online.z)",
    );
    let program = compile(&text);
    let fixed = program.layout.tensors.iter().filter(|t| t.path.starts_with("eye."));
    assert!(fixed.clone().count() == 6 && fixed.clone().all(|t| t.kind == TensorKind::Fixed));
    assert!(program.train.updates.is_empty(), "{:?}", program.train.updates);
    // The gradient passes through to what is trained.
    assert_eq!(program.train.reached(&program.layout), [true, true], "net.weight and net.bias");
}

#[test]
fn a_step_that_is_not_made_leaves_all_as_it_was() {
    let text = pipeline(
        "use std::layers::batch_norm",
        "norm = batch_norm(3)  momentum = ema(net, momentum: 0.5, when: before_forward)",
        "z = norm(y)  t = momentum.net(x)",
        "op::mean(online.z * online.t)",
    );
    let program =
        compile(&text.replace("learning_rate = 0.0", "learning_rate = 0.1").replace("sgd()", "sgd(momentum: 0.9)"));
    let mut trainer = trainer::<f64>(&program, "cpu", 4);
    let fresh = tensors(&mut trainer).to_vec();
    trainer.step(&picture(0)).unwrap_or_else(|error| panic!("{error}"));
    assert!(tensors(&mut trainer) != fresh, "a step that is made moves something");
    let kept = |trainer: &mut Trainer<'_, f64>| {
        let Kept { tensors, slots, updates } = trainer.kept().expect("they are there");
        (tensors.to_vec(), slots.to_vec(), updates.to_vec())
    };
    let before = kept(&mut trainer);
    let mut broken = picture(1);
    let InputValue::Float(image) = &mut broken[0].1 else { panic!("pictures are floats") };
    image.data[3] = f32::NAN;
    let error = trainer.step(&broken).expect_err("the loss is no number").to_string();
    assert!(error.starts_with("step 2: the loss `all` (NaN) is not finite"), "{error}");
    assert!(kept(&mut trainer) == before);
    // And goes on as if it had not been tried.
    trainer.step(&picture(1)).unwrap_or_else(|error| panic!("{error}"));
    let mut other = crate::methods::trainer::<f64>(&program, "cpu", 4);
    for step in 0..2 {
        other.step(&picture(step)).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(kept(&mut trainer) == kept(&mut other) && trainer.step == other.step);
}

/// Losses of two steps; parameters and their averaged copy at the start and after each.
fn two_steps(when: &str) -> (Vec<f64>, [Vec<Vec<f64>>; 2]) {
    let model = format!("momentum = ema(net, momentum: 0.75, when: {when})");
    let text = pipeline("", &model, "t = momentum.net(x)", "op::mean(online.y * online.t)");
    let program = compile(&text.replace("learning_rate = 0.0", "learning_rate = 0.1"));
    let mut trainer = trainer::<f64>(&program, "cpu", 2);
    let tensor = |trainer: &mut Trainer<'_, f64>, path: &str| {
        tensors(trainer)[program.layout.get(path).expect("the pipeline has it").1].to_vec()
    };
    let paths = ["net.weight", "momentum.net.weight"];
    let (mut losses, mut found) = (Vec::new(), paths.map(|path| vec![tensor(&mut trainer, path)]));
    for step in 0..2 {
        let report = trainer.step(&picture(step)).unwrap_or_else(|error| panic!("{error}"));
        losses.push(report.results.total);
        found.iter_mut().zip(paths).for_each(|(list, path)| list.push(tensor(&mut trainer, path)));
    }
    (losses, found)
}

/// Before and after the forward pass a copy moves to what the parameter was before the step, after the step to what it is then.
#[test]
fn copies_move_at_their_moment() {
    let moved = |when: &str, follows: [usize; 2]| {
        let (losses, [parameters, copies]) = two_steps(when);
        assert!(parameters[0] != parameters[1] && parameters[1] != parameters[2]);
        for (step, source) in follows.into_iter().enumerate() {
            for (at, copy) in copies[step + 1].iter().enumerate() {
                let expected = 0.75 * copies[step][at] + 0.25 * parameters[source][at];
                assert!((copy - expected).abs() < 1e-12, "{when}, step {step}: {copy}, not {expected}");
            }
        }
        losses
    };
    let (before, after) = (moved("before_forward", [0, 1]), moved("after_forward", [0, 1]));
    moved("after_step", [1, 2]);
    // The first steps are the same; the second forward pass sees a copy that has moved, or not yet.
    assert_eq!(before[0], after[0]);
    assert!((before[1] - after[1]).abs() > 1e-9, "{before:?} {after:?}");
}

#[test]
fn a_state_that_is_not_finite_stops_the_step_though_its_loss_is() {
    let text = pipeline(
        "use std::teachers::centering",
        "center = centering(3, 0.9)",
        "seen = center([op::exp(1e6 * y * y)])[0]",
        "op::mean(online.y)",
    );
    let program = compile(&text.replace("features = net(online.x)", "features = online.seen"));
    let mut trainer = trainer::<f64>(&program, "cpu", 1);
    let error = trainer.step(&picture(0)).expect_err("the centre is infinite").to_string();
    assert!(error.contains("the state `center.center` is not finite"), "{error}");
}

#[test]
fn evaluation_updates_nothing() {
    let text =
        pipeline("use std::layers::batch_norm", "norm = batch_norm(3)", "z = norm(y)", "op::mean(online.z * online.y)")
            .replace("features = net(online.x)", "features = norm(net(online.x))");
    let program = compile(&text);
    let features = program.features.expect("the pipeline has them");
    assert!(features.updates.is_empty() && program.train.updates.len() == 2);
}
