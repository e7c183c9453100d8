//! Several devices of one process that share a batch: the steps are those of one device with the whole of it. Devices are those that a
//! plugin for plain CPUs makes as many of as are asked for; processes as ranks: see [`crate::ranks`].

use cmae::backend::xla::Devices;
use cmae::backend::xla::lower::{Kernels, Scalar};
use cmae::backend::xla::pjrt::{Buffer, Client, Code, CompileOptions, CreateOption, ElementType, OptionValue};
use cmae::backend::xla::step::{Numbers, StepProgram};
use cmae::backend::{Backend, BackendOptions, Compute};
use cmae::data::random::RandomBatches;
use cmae::graph::Program;
use cmae::spec::{Clock, MicroBatch};
use cmae::tensor::{InputValue, Inputs, OutputValue};
use cmae::train::Trainer;

use crate::command::run;
use crate::methods::{Method, batch, compile, start};
use crate::ranks::{COARSER, F32, F64, Trained, WAYS, all, difference, methods, own_rows, small, train_on};
use crate::runs::{SMALL, survives_a_kill, with};
use crate::xla;

/// The `xla` backend with so many devices.
fn devices<E: Compute>(count: usize) -> Box<dyn Backend<E>> {
    let options = BackendOptions { devices: Devices::Of(count), ..BackendOptions::default() };
    E::backend_with("xla", &options).unwrap_or_else(|error| panic!("{error}"))
}

fn train<E: Compute>(program: &Program, tensors: &[E], inputs: &[(String, InputValue)]) -> Trained<E> {
    train_on(program, devices(program.ranks), tensors.to_vec(), inputs)
}

/// `program` on so many devices, each with so many micro-batches.
fn shared(program: &Program, ranks: usize, micro_batches: usize) -> Program {
    let mut shared = Program { ranks, ..program.clone() };
    if micro_batches > 1 {
        shared.spec.train.micro_batch = MicroBatch::Of(program.spec.data.batch_size / ranks / micro_batches);
    }
    shared
}

/// How far each of `ways` is from one device.
fn apart<E: Compute>(method: &Method, ways: &[(usize, usize)]) -> Vec<f64> {
    let (alone, sets) = small(method);
    let (tensors, inputs) = (start::<E>(&alone, &sets), batch(&alone));
    let one = train(&alone, &tensors, &inputs);
    assert!(one.tensors != tensors, "{} did not move", method.pipeline);
    let of_way = |(ranks, micro_batches): &(usize, usize)| {
        let found = difference(&one, &train(&shared(&alone, *ranks, *micro_batches), &tensors, &inputs));
        println!("{} on {ranks} devices by {micro_batches}, {}: {found:.1e}", method.pipeline, E::NAME);
        found
    };
    ways.iter().map(of_way).collect()
}

/// In f64; gives by how much each way differs.
fn agree(method: &Method, ways: &[(usize, usize)]) -> Vec<f64> {
    let found = apart::<f64>(method, ways);
    assert!(found.iter().all(|found| *found <= F64), "{}: {found:?} on {ways:?}", method.pipeline);
    found
}

/// In f64, and in f32 within what that is rounded coarser.
fn agree_in_both(method: &Method, ways: &[(usize, usize)]) {
    let (fine, coarse) = (agree(method, ways), apart::<f32>(method, ways));
    for ((way, fine), coarse) in ways.iter().zip(fine).zip(coarse) {
        let allowed = F32.max(COARSER * fine);
        assert!(coarse <= allowed, "{} on {way:?}, f32: {coarse:e} > {allowed:e}", method.pipeline);
    }
}

fn method(pipeline: &str) -> Method {
    methods().into_iter().find(|method| method.pipeline == pipeline).expect("the page has it")
}

/// Where the gradients of joined values are known beforehand, as of a mean, micro-batches are run once, else twice. A codebook starts from
/// the first batch.
#[test]
fn several_devices_make_the_steps_of_one() {
    if xla::backend().is_none() {
        return;
    }
    agree_in_both(&method("mae_vitb"), &[(3, 2)]);
    for (pipeline, ways) in [("cmae_vitb", (2, 3)), ("vq_tokenizer", (2, 1))] {
        agree(&method(pipeline), &[ways]);
    }
}

/// Some that join samples in different ways: negatives, statistics over the batch, a mean, centres.
#[test]
#[ignore = "minutes: CMAE_PJRT_PLUGIN=FILE cargo test -- --ignored some_pipelines_on_several_devices_in_f32_too"]
fn some_pipelines_on_several_devices_in_f32_too() {
    assert!(xla::backend().is_some(), "it needs a plugin");
    for (pipeline, ways) in [
        ("cmae_vitb", &[(4, 1), (2, 3)][..]),
        ("barlow_twins_vitb", &[(2, 1)]),
        ("mae_vitb", &[(4, 1), (3, 2)]),
        ("vq_tokenizer", &[(2, 1)]),
        ("dino_vitb", &[(4, 1)]),
    ] {
        agree_in_both(&method(pipeline), ways);
    }
}

/// Each pipeline in one of the ways: compilers take most of the time.
#[test]
#[ignore = "half an hour: CMAE_PJRT_PLUGIN=FILE cargo test -- --ignored every_pipeline_on_several_devices"]
fn every_pipeline_on_several_devices() {
    assert!(xla::backend().is_some(), "it needs a plugin");
    all(&methods(), |at, method| drop(agree(method, &[WAYS[at % WAYS.len()]])));
}

/// What a step's program gives on each of its devices: tensors and slots, one behind the other.
fn results(client: &Client, program: &Program, text: &str, step: &StepProgram, tensors: &[f64]) -> Vec<Vec<f64>> {
    let (layout, ranks) = (&program.layout, program.ranks);
    let trained = layout.trained();
    let updates = vec![0; trained];
    let numbers = Numbers::new(program, &updates).at(program, 0, &Clock::new(1.0, 3), &updates);
    let inputs = batch(program);
    let arguments = |rank: usize| -> Vec<Buffer> {
        let up = |shape: &[usize], values: &[f64]| client.upload_values(rank, shape, values).expect("it fits");
        let decls = || layout.tensors.iter().enumerate();
        let mut all: Vec<Buffer> =
            decls().map(|(index, decl)| up(&decl.shape, &tensors[layout.range(index)])).collect();
        for _ in program.spec.train.optimizer.slots() {
            all.extend(decls().take(trained).map(|(_, decl)| up(&decl.shape, &vec![0.0; decl.elements()])));
        }
        all.push(up(&[numbers.len()], &numbers));
        all.push(client.upload(rank, ElementType::Pred, &[], &[1]).expect("it fits"));
        let own = own_rows(program, &inputs, rank);
        for (name, ty) in &step.inputs {
            all.push(match Inputs::of_batch(&own).get(name).expect("the batch brings it") {
                InputValue::Float(tensor) => {
                    let values: Vec<f64> = tensor.data.iter().map(|value| f64::from(*value)).collect();
                    up(&ty.shape, &values)
                }
                other => panic!("{name}: {other:?}"),
            });
        }
        all
    };
    let arguments: Vec<Vec<Buffer>> = (0..ranks).map(arguments).collect();
    let arguments: Vec<Vec<&Buffer>> = arguments.iter().map(|list| list.iter().collect()).collect();
    let arguments: Vec<&[&Buffer]> = arguments.iter().map(Vec::as_slice).collect();
    let options = CompileOptions { replicas: ranks, ..CompileOptions::default() };
    let executable = client.compile(text, &options).unwrap_or_else(|error| panic!("{error}"));
    let found = executable.execute_replicas(&arguments, &[]).unwrap_or_else(|error| panic!("{error}"));
    let kept = layout.tensors.len() + trained * program.spec.train.optimizer.slots().len();
    let read = |buffers: &Vec<Buffer>| buffers[..kept].iter().flat_map(|b| b.read().expect("it is f64")).collect();
    found.iter().map(read).collect()
}

/// All devices hold the same bytes after a step, those of one device; where each would sum gradients with itself alone, both fail.
#[test]
fn devices_that_do_not_sum_their_gradients_show() {
    let Some(client) = crate::xla_pjrt::client(4) else { return };
    let (alone, sets) = small(&method("mae_vitb"));
    let tensors = start::<f64>(&alone, &sets);
    let of = |ranks: usize| {
        let program = Program { ranks, ..alone.clone() };
        let numbers = Numbers::new(&program, &vec![0; program.layout.trained()]);
        let step = program.step(&[]).unwrap_or_else(|error| panic!("{error}"));
        let step = StepProgram::new(&program, &step, &numbers, Scalar::F64, &[], Kernels::default(), false);
        (program, step.unwrap_or_else(|error| panic!("{error}")))
    };
    let off = |a: &[f64], b: &[f64]| {
        let largest = a.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
    };
    let (program, step) = of(1);
    let one = results(&client, &program, &step.text, &step, &tensors);
    let (program, step) = of(4);
    let four = results(&client, &program, &step.text, &step, &tensors);
    assert!(four.iter().all(|replica| *replica == four[0]));
    assert!(off(&one[0], &four[0]) <= F64, "{:e}", off(&one[0], &four[0]));
    let (together, apart) =
        ("dense<[[0, 1, 2, 3]]> : tensor<1x4xi64>", "dense<[[0], [1], [2], [3]]> : tensor<4x1xi64>");
    let is_sum = |line: &&str| line.contains("stablehlo.all_reduce") && line.contains(together);
    assert!(step.text.lines().filter(is_sum).count() > 1);
    let twin: Vec<String> = (step.text.lines())
        .map(|line| if is_sum(&line) { line.replace(together, apart) } else { line.to_owned() })
        .collect();
    let twin = results(&client, &program, &twin.join("\n"), &step, &tensors);
    assert!(twin[1] != twin[0]);
    assert!(off(&one[0], &twin[0]) > 1e3 * F64, "{:e}", off(&one[0], &twin[0]));
}

/// Each device updates its own part of every parameter: of three, so that parts of most tensors are not of one size.
#[test]
fn devices_share_out_what_the_optimizer_keeps() {
    if xla::backend().is_none() {
        return;
    }
    let method = method("mae_vitb");
    for optimizer in ["adamw(weight_decay: 0.05)", "lars(momentum: 0.9, trust_coefficient: 0.001)"] {
        let (_, mut sets) = small(&method);
        sets.extend([format!("train.optimizer={optimizer}"), "train.clip=each_norm(0.5)".to_owned()]);
        let alone = compile(&method.pipeline, &sets);
        let (tensors, inputs) = (start::<f64>(&alone, &sets), batch(&alone));
        let of = |sharded| train(&Program { sharded, ..shared(&alone, 3, 1) }, &tensors, &inputs);
        let (whole, parts) = (of(false), of(true));
        let found = difference(&whole, &parts);
        assert!(found <= F64, "{optimizer}: {found:e}");
        let of_slots = |trained: &Trained<f64>| trained.slots.concat();
        let largest = of_slots(&whole).iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let off = of_slots(&whole).iter().zip(of_slots(&parts)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= F64 * largest && whole.slots.len() == parts.slots.len(), "{optimizer}: {off:e}");
    }
}

/// What a checkpoint holds goes on to the same bytes as a run that has not stopped, begun ahead or not.
#[test]
fn what_is_taken_up_goes_on_to_the_same_bytes() {
    if xla::backend().is_none() {
        return;
    }
    let (alone, sets) = small(&method("mae_vitb"));
    let (program, inputs) = (Program { sharded: true, ..shared(&alone, 2, 1) }, batch(&alone));
    let begin = |compiled: &[(String, Vec<u8>)]| {
        let opened = devices::<f32>(2).open(&program, start(&program, &sets));
        let mut session = opened.unwrap_or_else(|error| panic!("{error}"));
        session.offer_programs(compiled.to_vec());
        Trainer::new(&program, session, Clock::new(1.0, 4))
    };
    let kept = |trainer: &mut Trainer<'_, f32>| {
        let kept = trainer.kept().expect("they can be read");
        (kept.tensors.to_vec(), kept.slots.to_vec(), kept.updates.to_vec())
    };
    let step = |trainer: &mut Trainer<'_, f32>| {
        trainer.step(&inputs).unwrap_or_else(|error| panic!("{error}"));
    };
    let mut whole = begin(&[]);
    (0..4).for_each(|_| step(&mut whole));
    let compiled = whole.session.new_programs();
    let mut first = begin(&compiled);
    (0..2).for_each(|_| step(&mut first));
    let (tensors, slots, updates) = kept(&mut first);
    drop(first);
    let mut second = begin(&compiled);
    second.session.restore(tensors, slots, updates).expect("it fits");
    (second.step, second.fresh_states) = (2, false);
    (2..4).for_each(|_| step(&mut second));
    let mut ahead = begin(&compiled);
    for _ in 0..4 {
        ahead.step_ahead(inputs.clone()).unwrap_or_else(|error| panic!("{error}"));
    }
    ahead.settle().expect("its batch is sound");
    let expected = kept(&mut whole);
    assert!(kept(&mut second) == expected);
    assert!(kept(&mut ahead) == expected);
}

/// A batch that makes NaN in the rows of the last device is made by none, and told as one device tells it; features are those of the
/// weights, which no device has written.
#[test]
fn a_step_that_is_not_finite_on_one_device_is_made_by_none() {
    if xla::backend().is_none() {
        return;
    }
    let (alone, sets) = small(&method("mae_vitb"));
    let good = batch(&alone);
    let mut broken = good.clone();
    let picture = broken.iter_mut().find_map(|(_, value)| match value {
        InputValue::Float(tensor) if tensor.shape.len() == 4 => tensor.data.last_mut(),
        _ => None,
    });
    *picture.expect("there are pictures") = f32::NAN;
    let told = |ranks: usize| {
        let program = shared(&alone, ranks, 1);
        let session =
            devices::<f64>(ranks).open(&program, start(&program, &sets)).unwrap_or_else(|error| panic!("{error}"));
        let mut trainer = Trainer::new(&program, session, Clock::new(1.0, 4));
        trainer.step(&good).unwrap_or_else(|error| panic!("{error}"));
        let before = trainer.tensors().expect("they can be read").to_vec();
        let error = trainer.step(&broken).expect_err("a picture is no number").to_string();
        assert!(trainer.tensors().expect("they can be read") == before, "{ranks} devices");
        trainer.step(&good).unwrap_or_else(|error| panic!("{error}"));
        let graph = program.features.as_ref().expect("it judges its features");
        let inputs = RandomBatches::new(&graph.inputs, graph.inputs[0].ty.shape[0], 1).batch(0).to_vec();
        let found = trainer.session.evaluate(graph, &inputs, &["features".to_owned()]).expect("it runs");
        let OutputValue::Float(features) = &found[0] else { panic!("features are floats") };
        (error, features.data.clone())
    };
    let (one, of_one) = told(1);
    let (error, features) = told(2);
    assert_eq!(error, one);
    let off = of_one.iter().zip(&features).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off <= 1e-9, "{off:e}");
}

/// Programs of another number of devices are others; those of the same are taken as they are kept.
#[test]
fn programs_are_kept_for_their_number_of_devices() {
    if xla::backend().is_none() {
        return;
    }
    let (alone, sets) = small(&method("mae_vitb"));
    let made = |ranks: usize, offered: &[(String, Vec<u8>)]| {
        let program = shared(&alone, ranks, 1);
        let mut session =
            devices::<f32>(ranks).open(&program, start(&program, &sets)).unwrap_or_else(|error| panic!("{error}"));
        session.offer_programs(offered.to_vec());
        session.prepare().unwrap_or_else(|error| panic!("{error}"));
        let fresh = session.new_programs();
        let mut trainer = Trainer::new(&program, session, Clock::new(1.0, 4));
        let losses = trainer.step(&batch(&program)).unwrap_or_else(|error| panic!("{error}")).results.losses;
        (fresh, losses)
    };
    let (of_two, two) = made(2, &[]);
    let (of_four, _) = made(4, &of_two);
    assert!(of_two.len() == 1 && of_four.len() == 1 && of_two[0].0 != of_four[0].0);
    let (none, again) = made(2, &of_two);
    assert!(none.is_empty() && again == two);
}

#[test]
fn more_devices_than_there_are_are_refused() {
    let said = |backend: &str, text: &str| {
        let devices = text.parse().expect("it is a number of devices");
        let options = BackendOptions { devices, ..BackendOptions::default() };
        f32::backend_with(backend, &options).err().map(|error| error.to_string())
    };
    assert_eq!(said("cpu", "all"), None);
    let one = said("cpu", "4").expect("it is one device");
    assert!(one.starts_with("4 devices are asked for, the cpu backend has one (help: --backend xla"), "{one}");
    for text in ["0", "-1", "some", ""] {
        assert!(text.parse::<Devices>().is_err(), "{text}");
    }
    if xla::backend().is_none() {
        return;
    }
    let (alone, sets) = small(&method("mae_vitb"));
    let error = devices::<f32>(2).open(&shared(&alone, 4, 1), start(&alone, &sets)).err().map(|e| e.to_string());
    let error = error.expect("there are two");
    assert!(error.starts_with("4 devices are asked for, cpu has 2 here (help: "), "{error}");
}

/// `--devices`: what a step takes, and what is told.
#[test]
fn a_bench_says_on_how_many_devices_it_ran() {
    let tiny = ["--set", "data.batch_size=4", "--set", "model.encoder.depth=1", "--steps", "1", "--warmup", "1"];
    let bench = |more: &[&str]| run(&[&["bench", "pipelines/bench/mae_tiny64.cmae"], &tiny[..], more].concat());
    let (code, _, said) = bench(&["--backend", "cpu", "--devices", "2"]);
    assert!(code == 1 && said.contains("2 devices are asked for, the cpu backend has one"), "{said}");
    assert_eq!(bench(&["--devices", "0"]).0, 2);
    let Some(xla) = xla::backend() else { return };
    let (code, line, said) = bench(&["--backend", xla, "--devices", "2", "--json"]);
    assert_eq!(code, 0, "{said}");
    let line: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!((&line["devices"], &line["micro_batch"]), (&2.into(), &2.into()), "{line}");
    let (code, _, said) = bench(&["--backend", xla, "--devices", "3"]);
    assert!(code == 1 && said.contains("a batch of 4 is not shared out evenly among 3 ranks"), "{said}");
    let (code, text, said) = bench(&["--backend", xla, "--devices", "all"]);
    assert!(code == 0 && text.contains("batches of 4, backend xla, f32"), "{text}{said}");
}

/// A run on two devices that is killed goes on to the bytes of one that is not.
#[test]
#[ignore = "half a minute, and what is taken up is held above: CMAE_PJRT_PLUGIN=FILE cargo test -- --ignored a_killed_run_on_two"]
fn a_killed_run_on_two_devices_ends_with_the_same_bytes() {
    let Some(xla) = xla::backend() else { return };
    survives_a_kill(&with(&SMALL, &["--backend", xla, "--devices", "2"]), 14);
}

/// What two processes of four devices each compile is what one process of eight does: one program, with groups of all. A plugin for
/// plain CPUs has no other processes, and says so itself.
#[test]
fn processes_share_the_program_of_as_many_devices() {
    let method = method("mae_vitb");
    let of_eight = |set: String| set.replace("data.batch_size=12", "data.batch_size=16");
    let sets: Vec<String> = small(&method).1.into_iter().map(of_eight).collect();
    let program = Program { ranks: 8, ..compile(&method.pipeline, &sets) };
    let numbers = Numbers::new(&program, &vec![0; program.layout.trained()]);
    let step = program.step(&[]).unwrap_or_else(|error| panic!("{error}"));
    let step = StepProgram::new(&program, &step, &numbers, Scalar::F32, &[], Kernels::default(), false);
    let text = step.unwrap_or_else(|error| panic!("{error}")).text;
    let exchanges = text.lines().filter(|line| line.contains("replica_groups"));
    let of_all = |line: &str| line.contains("replica_groups = dense<[[0, 1, 2, 3, 4, 5, 6, 7]]> : tensor<1x8xi64>");
    assert!(text.contains("mhlo.num_replicas = 8 : i32") && exchanges.clone().count() > 1);
    assert!(exchanges.clone().all(of_all));
    let Some(client) = crate::xla_pjrt::client(8) else { return };
    assert_eq!((client.processes(), client.process(), client.device_ids(9)), (1, 0, None));
    assert_eq!(client.device_ids(2).expect("there are eight").len(), 2);
    // Places go by ids: a program for other devices runs on those.
    let ids: Vec<i64> = client.devices().iter().rev().map(|device| device.id).collect();
    let options = CompileOptions { replicas: 8, devices: ids, ..CompileOptions::default() };
    let executable = client.compile(&text, &options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(executable.devices(), [7, 6, 5, 4, 3, 2, 1, 0]);
    let plugin = crate::xla_pjrt::plugin().expect("it was there");
    for name in ["node_id", "num_nodes"] {
        let refused = plugin.client(&[CreateOption::new(name, OptionValue::Int(1))]).expect_err("it has no nodes");
        assert!(refused.code() == Some(Code::InvalidArgument) && refused.to_string().contains(name), "{refused}");
    }
}
