//! Whole steps on a device: forward, backward, clipping, optimizer, averaged copies and states as one program, against the steps
//! that `cpu` makes of the same batches. Plugins and what goes without one: see [`crate::xla`].

use std::path::Path;
use std::time::{Duration, Instant};

use cmae::backend::xla::fits;
use cmae::backend::xla::lower::{Kernels, Scalar};
use cmae::backend::xla::pjrt::MemoryStats;
use cmae::backend::xla::step::{Numbers, StepProgram};
use cmae::backend::{Compute, DeviceTime, Kept};
use cmae::data::random::RandomBatches;
use cmae::graph::Program;
use cmae::spec::Clock;
use cmae::tensor::InputValue;
use cmae::train::Trainer;

use crate::command::run;
use crate::methods::{compile, page, sets_of, start, trainer_from};
use crate::runs::{self, SMALL, metrics, with};

/// What a step moves: tensors, slots, updates, losses and the norm after each of three steps.
struct Moved {
    tensors: Vec<f64>,
    slots: Vec<f64>,
    updates: Vec<u64>,
    numbers: Vec<f64>,
}

fn steps(program: &Program, sets: &[String], backend: &str, count: u64) -> Moved {
    let mut batches = RandomBatches::new(&program.train.inputs, program.spec.data.batch_size, 1);
    let mut trainer = trainer_from::<f64>(program, backend, 2 * count, start(program, sets));
    let mut numbers = Vec::new();
    for number in 0..count {
        let report = trainer.step(batches.batch(number)).unwrap_or_else(|error| panic!("{backend}: {error}"));
        numbers.extend(report.results.losses);
        numbers.extend(report.results.monitors);
        numbers.push(report.results.total);
        numbers.extend(report.gradient_norm);
    }
    let Kept { tensors, slots, updates } = trainer.kept().expect("they can be read");
    Moved { tensors: tensors.to_vec(), slots: slots.concat(), updates: updates.to_vec(), numbers }
}

/// The greatest distance over the greatest number.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(1e-30_f64, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// Three steps of a method with more settings, on both backends. f64 rounds by 1e-16, and three steps on hundreds of sums
/// leave six digits of room: 1e-9, as for references.
fn agree(pipeline: &str, more: &[&str]) {
    let Some(xla) = crate::xla::backend() else { return };
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == pipeline).expect("it is a method");
    let sets: Vec<String> =
        sets_of(&page, method).into_iter().chain(more.iter().map(|set| (*set).to_owned())).collect();
    let program = compile(pipeline, &sets);
    let (host, device) = (steps(&program, &sets, "cpu", 3), steps(&program, &sets, xla, 3));
    let fresh: Vec<f64> = start(&program, &sets);
    assert!(distance(&host.tensors, &fresh) > 1e-6, "{pipeline} {more:?}: nothing moved");
    assert_eq!(host.updates, device.updates, "{pipeline} {more:?}");
    for (what, a, b) in [
        ("numbers", &host.numbers, &device.numbers),
        ("tensors", &host.tensors, &device.tensors),
        ("slots", &host.slots, &device.slots),
    ] {
        let found = distance(a, b);
        println!("{pipeline} {more:?}: {what} {found:.1e}");
        assert!(found <= 1e-9, "{pipeline} {more:?}: {what} differ by {found:e}");
    }
}

#[test]
fn optimizers_are_the_host_s() {
    agree("mae_vitb", &["train.optimizer=sgd(momentum: 0.9, weight_decay: 0.05, nesterov: true)"]);
    agree("simclr_vitb", &["train.optimizer=sgd(momentum: 0.9)", "train.clip=each_norm(0.01)"]);
    let lars = "train.optimizer=lars(momentum: 0.8, weight_decay: ramp(0.01, 0.1))";
    agree("barlow_twins_vitb", &[lars, "train.learning_rate=0.1", "train.clip=global_norm(0.5)"]);
    agree("barlow_twins_vitb", &["train.optimizer=lars(momentum: 0.8, weight_decay: 0.1, separate_norms: true)"]);
}

/// Frozen for a part of the steps, a schedule of the momentum, copies of copies.
#[test]
fn what_is_frozen_and_what_follows_is_the_host_s() {
    agree("dino_vitb", &["train.clip=global_norm(0.1)"]);
    agree("moco_v3_vitb", &[]);
}

/// Loops around the part where samples meet, with ids and states there too.
#[test]
fn micro_batches_are_the_host_s() {
    for pipeline in ["mae_vitb", "cmae_vitb", "msn_vitb", "beit_vitb"] {
        agree(pipeline, &["data.batch_size=16", "train.micro_batch=4"]);
    }
}

#[test]
fn states_that_the_first_batch_starts_are_the_host_s() {
    agree("vq_tokenizer", &[]);
}

/// The first twenty steps of the quickstart as it is written, in f32: twenty updates of rounded gradients leave two digits less
/// than f32 has.
#[test]
fn twenty_steps_of_the_quickstart_have_the_losses_of_cpu() {
    let Some(xla) = crate::xla::backend() else { return };
    let program = compile("quickstart", &[]);
    // Its digits are 1,400, and its schedules go by epochs.
    let steps_per_epoch = 1400 / program.spec.data.batch_size as u64;
    let losses = |backend: &str| -> Vec<f64> {
        let mut batches = RandomBatches::new(&program.train.inputs, program.spec.data.batch_size, 1);
        let mut trainer = trainer_from::<f32>(&program, backend, steps_per_epoch, start(&program, &[]));
        trainer.clock = Clock::new(program.spec.train.epochs, steps_per_epoch);
        let step = |number| {
            let report = trainer.step(batches.batch(number)).unwrap_or_else(|error| panic!("{backend}: {error}"));
            report.results.losses
        };
        (0..20).flat_map(step).collect()
    };
    let (host, device) = (losses("cpu"), losses(xla));
    let off = host.iter().zip(&device).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
    println!("{} losses, the farthest off by {off:.1e} of itself", host.len());
    assert!(off <= 1e-5, "{host:?} on cpu, {device:?} on {xla}");
}

/// A batch that makes NaN leaves tensors, slots and counts as they were, and is told as `cpu` tells it. Of a whole batch: see below.
#[test]
fn a_step_that_is_not_finite_is_not_made() {
    let Some(xla) = crate::xla::backend() else { return };
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "mae_vitb").expect("it is a method");
    let parts = ["data.batch_size=16", "train.micro_batch=4"].map(str::to_owned);
    let sets: Vec<String> = sets_of(&page, method).into_iter().chain(parts).collect();
    let program = compile("mae_vitb", &sets);
    let told = |backend: &str| {
        let mut batches = RandomBatches::new(&program.train.inputs, program.spec.data.batch_size, 1);
        let mut trainer = trainer_from::<f32>(&program, backend, 4, start(&program, &sets));
        trainer.step(batches.batch(0)).unwrap_or_else(|error| panic!("{backend}: {error}"));
        let before = kept(&mut trainer);
        let mut broken = batches.batch(1).to_vec();
        *a_pixel(&mut broken) = f32::NAN;
        let error = trainer.step(&broken).expect_err("a picture is no number").to_string();
        assert!(kept(&mut trainer) == before, "{backend}");
        trainer.step(batches.batch(1)).unwrap_or_else(|error| panic!("{backend}: {error}"));
        error
    };
    let (host, device) = (told("cpu"), told(xla));
    assert!(host.contains("is not finite; "), "{host}");
    assert_eq!(host, device);
}

/// Steps that are begun before the one before is looked at: the same bytes; behind one that cannot be made none is, which `cpu` tells in
/// the same words.
#[test]
fn steps_that_are_begun_ahead_are_the_same_steps() {
    let Some(xla) = crate::xla::backend() else { return };
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "cmae_vitb").expect("it is a method");
    let sets = sets_of(&page, method);
    let program = compile("cmae_vitb", &sets);
    // One program for all runs: each begins with what the first has begun with.
    let mut trainer = trainer_from::<f32>(&program, xla, 8, start(&program, &sets));
    let fresh = kept(&mut trainer);
    let mut run = |ahead: bool, broken: Option<u64>| {
        let mut batches = RandomBatches::new(&program.train.inputs, program.spec.data.batch_size, 1);
        let (tensors, slots, updates) = fresh.clone();
        trainer.session.restore(tensors, slots, updates).expect("it fits");
        trainer.step = 0;
        let (mut told, mut error) = (Vec::new(), None);
        let mut before = None;
        for number in 0..4 {
            let mut batch = batches.batch(number).to_vec();
            if broken == Some(number) {
                *a_pixel(&mut batch) = f32::NAN;
                // Where steps are begun ahead, the one before is not looked at yet.
                before = (!ahead).then(|| kept(&mut trainer));
            }
            let report = if ahead { trainer.step_ahead(batch) } else { trainer.step(&batch).map(Some) };
            match report {
                Ok(report) => told.extend(report.map(|report| (report.step, report.results.total.to_bits()))),
                Err(failed) => {
                    error = Some(failed.to_string());
                    break;
                }
            }
        }
        if error.is_none() {
            let last = trainer.settle().expect("its batch is sound");
            told.extend(last.map(|report| (report.step, report.results.total.to_bits())));
        }
        let after = kept(&mut trainer);
        assert!(before.is_none_or(|before| before == after), "the broken step left something");
        if broken.is_some() {
            // The next is made.
            trainer.step(batches.batch(1)).expect("its batch is sound");
        }
        (told, error, after)
    };
    let whole = run(false, None);
    assert_eq!((whole.0.len(), &whole.1), (4, &None));
    assert!(run(true, None) == whole);
    // The third step is begun before it is known that the second cannot be made.
    let (one_by_one, ahead) = (run(false, Some(1)), run(true, Some(1)));
    assert!(one_by_one == ahead, "{:?} {:?}", ahead.0, ahead.1);
    let mut batches = RandomBatches::new(&program.train.inputs, program.spec.data.batch_size, 1);
    let mut host = trainer_from::<f32>(&program, "cpu", 8, start(&program, &sets));
    host.step(batches.batch(0)).expect("its batch is sound");
    let mut batch = batches.batch(1).to_vec();
    *a_pixel(&mut batch) = f32::NAN;
    let error = host.step(&batch).expect_err("a picture is no number").to_string();
    assert!(error.starts_with("step 2: ") && error.contains("is not finite; "), "{error}");
    assert_eq!(one_by_one.1, Some(error));
    assert_eq!((one_by_one.0.len(), one_by_one.2.2), (1, kept(&mut host).2));
}

/// Tensors, slots and counts of updates.
fn kept(trainer: &mut Trainer<'_, f32>) -> (Vec<f32>, Vec<Vec<f32>>, Vec<u64>) {
    let Kept { tensors, slots, updates } = trainer.kept().expect("they can be read");
    (tensors.to_vec(), slots.to_vec(), updates.to_vec())
}

/// One of a picture's.
fn a_pixel(batch: &mut [(String, InputValue)]) -> &mut f32 {
    let picture = batch.iter_mut().find_map(|(_, value)| match value {
        InputValue::Float(tensor) if tensor.shape.len() == 4 => Some(tensor),
        _ => None,
    });
    &mut picture.expect("there are pictures").data[5]
}

/// A host that is late leaves the device without a step for as long; what comes behind `settle` is no wait of the device's.
#[test]
fn the_time_without_a_step_is_told() {
    const LATE: Duration = Duration::from_millis(400);
    let Some(xla) = crate::xla::backend() else { return };
    let program = compile("bench/mae_tiny64", &["data.batch_size=2".to_owned(), "model.encoder.depth=1".to_owned()]);
    let mut batches = RandomBatches::new(&program.train.inputs, 2, 1);
    let mut trainer = trainer_from::<f32>(&program, xla, 16, start(&program, &[]));
    trainer.session.prepare().expect("it compiles");
    // Device times of four steps begun one behind the other, the last one settled.
    let mut four = |late: Duration| -> Vec<DeviceTime> {
        let mut told = Vec::new();
        for number in 0..4 {
            let report = trainer.step_ahead(batches.batch(number).to_vec()).expect("its batch is sound");
            told.extend(report.map(|report| report.device));
            std::thread::sleep(late);
        }
        told.extend(trainer.settle().expect("its batch is sound").map(|report| report.device));
        told.into_iter().map(|device| device.expect("the plugin tells")).collect()
    };
    let started = Instant::now();
    let prompt = four(Duration::ZERO);
    let took = started.elapsed();
    let late = four(LATE);
    let idle = |steps: &[DeviceTime]| steps.iter().filter_map(|step| step.idle).sum::<Duration>();
    for steps in [&prompt, &late] {
        let known: Vec<bool> = steps.iter().map(|step| step.idle.is_some()).collect();
        assert_eq!(known, [false, true, true, true]);
        assert!(steps.iter().all(|step| step.busy > Duration::ZERO), "{steps:?}");
    }
    let busy: Duration = prompt.iter().map(|step| step.busy).sum();
    assert!(busy + idle(&prompt) <= took, "{prompt:?} in {took:?}");
    // A step takes some milliseconds, and is over long before the next is given.
    assert!(idle(&late) > LATE * 3 / 2 && idle(&late) > idle(&prompt), "{late:?} {prompt:?}");
}

/// Lines of metrics and the report tell of the accelerator where there is one, and only there.
#[test]
fn a_run_tells_how_long_its_accelerator_had_nothing_to_do() {
    let Some(xla) = crate::xla::backend() else { return };
    for (backend, tells) in [("cpu", false), (xla, true)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("run");
        let out = out.to_str().expect("its name is UTF-8");
        let said = run(&with(&SMALL, &["--backend", backend, "--out", out])).2;
        assert_eq!(said.contains("accelerator idle"), tells, "{said}");
        let lines = metrics(Path::new(out));
        let shares: Vec<f64> = lines.iter().filter_map(|line| line["accelerator_idle"].as_f64()).collect();
        assert_eq!(!shares.is_empty(), tells, "{lines:?}");
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
        let page = std::fs::read_to_string(Path::new(out).join("report.html")).expect("a run ends with its report");
        assert_eq!(page.contains("accelerator idle"), tells);
    }
}

#[test]
fn a_run_that_is_killed_ends_with_the_same_bytes() {
    let Some(xla) = crate::xla::backend() else { return };
    runs::survives_a_kill(&with(&SMALL, &["--backend", xla]), 14);
}

/// Every tensor and slot takes the memory of what it was, and nothing else is given away: no plugin is needed to see it.
#[test]
fn tensors_and_slots_are_donated() {
    let page = page();
    for method in page.methods.iter().filter(|method| ["cmae_vitb", "dino_vitb"].contains(&&*method.pipeline)) {
        let program = compile(&method.pipeline, &sets_of(&page, method));
        let layout = &program.layout;
        let numbers = Numbers::new(&program, &vec![0; layout.trained()]);
        let step = program.step(&[]).expect("it compiles");
        let found = StepProgram::new(&program, &step, &numbers, Scalar::F32, &[], Kernels::default(), false)
            .expect("it lowers");
        let slots = program.spec.train.optimizer.slots().len();
        let kept = layout.tensors.len() + slots * layout.trained();
        let head = found.text.lines().nth(1).expect("a module has a function");
        for place in 0..kept {
            let donated = format!("{{tf.aliasing_output = {place} : i32}}");
            assert!(head.contains(&donated), "{}: {donated}", method.pipeline);
        }
        assert_eq!(head.matches("tf.aliasing_output").count(), kept, "{}", method.pipeline);
    }
}

/// 2,000 stay, 12,000 are the passes'.
#[test]
fn what_does_not_fit_the_device_is_refused() {
    let stats =
        MemoryStats { arguments: 2_000, outputs: 1_500, aliased: 1_500, temporary: 12_000, peak: 0, generated_code: 0 };
    assert!(fits(&stats, None).is_ok() && fits(&stats, Some(14_000)).is_ok());
    let error = fits(&stats, Some(13_999)).expect_err("14,000 are needed").to_string();
    assert!(error.contains("train.micro_batch"), "{error}");
}

/// What the compiler says of a whole batch and of micro-batches of it: less for values.
#[test]
fn a_footprint_is_the_compilers() {
    let Some(name) = crate::xla::backend() else { return };
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "mae_vitb").expect("it is there");
    let of = |more: &[&str]| {
        let more = more.iter().map(|set| (*set).to_owned());
        let program = compile("mae_vitb", &sets_of(&page, method).into_iter().chain(more).collect::<Vec<_>>());
        let mut backend = f32::backend(name).expect("the plugin is there");
        backend.footprint(&program).expect("it compiles").expect("the plugin says")
    };
    let (whole, parts) = (of(&["data.batch_size=64"]), of(&["data.batch_size=64", "train.micro_batch=8"]));
    assert!(parts.values < whole.values && whole.stored > 0, "{whole:?} {parts:?}");
}
