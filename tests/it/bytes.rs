//! Pictures in bytes: which inputs may come so, that a loader's bytes are its numbers, and that a device makes the same of both.

use cmae::backend::xla::lower::{Kernels, Scalar};
use cmae::backend::xla::step::{Numbers, StepProgram, scalings};
use cmae::data::random::RandomBatches;
use cmae::graph::{InputKind, Program};
use cmae::tensor::{InputValue, Pictures};

use crate::methods::{batch_as, compile, page, sets_of, start, trainer_from};

/// The inputs of each shipped pipeline that come in bytes where a device normalises them, without `views.`.
const IN_BYTES: [(&str, &str); 46] = [
    ("attentive_vitb", "image"),
    ("barlow_twins_vitb", "pair.0 pair.1"),
    ("beit_vitb", "image words"),
    ("bench/cmae_small224", "online target"),
    ("bench/cmae_tiny64", "online target"),
    ("bench/mae_small224", "image"),
    ("bench/mae_tiny64", "image"),
    ("byol_vitb", "pair.0 pair.1"),
    ("cae_vitb", "image"),
    ("cim_revdet_vitb", "image"),
    ("cim_vitb", "image"),
    ("cmae_hybridb", "online target"),
    ("cmae_vitb", "online target"),
    ("cmae_vitb_byol", "online target"),
    ("cmae_vitb_paper", "online target"),
    ("cmae_vith", "online target"),
    ("cmae_vitl", "online target"),
    ("cmae_vits", "online target"),
    ("crossmae_vitb", "image"),
    ("data2vec_vitb", "image"),
    ("dino_vitb", "global_a global_b locals.0 locals.1 locals.2 locals.3 locals.4 locals.5 locals.6 locals.7"),
    ("finetune_vitb", "beside.image image"),
    (
        "ibot_vitb",
        "global_a global_b locals.0 locals.1 locals.2 locals.3 locals.4 locals.5 locals.6 locals.7 locals.8 locals.9",
    ),
    ("ijepa_vitb", "image"),
    ("lejepa_vitb", "globals.0 globals.1 locals.0 locals.1 locals.2 locals.3 locals.4 locals.5"),
    ("linear_vitb", "image"),
    ("mae_vitb", "image"),
    ("mae_vith", "image"),
    ("mae_vitl", "image"),
    ("mae_vits", "image"),
    ("maskfeat_vitb", "image"),
    ("moco_v3_vitb", "pair.0 pair.1"),
    ("msn_vitb", "anchor focal.0 focal.1 focal.2 focal.3 focal.4 focal.5 focal.6 focal.7 focal.8 focal.9 whole"),
    ("peco_tokenizer", "image"),
    ("peco_vitb", "image words"),
    ("pixel_tokenizer", "image"),
    ("quickstart", "online target"),
    ("segment_vitb", "image"),
    ("shapes", "online target"),
    ("sim_vitb", "pair.0 pair.1"),
    ("simclr_vitb", "pair.0 pair.1"),
    (
        "simdino_vitb",
        "global_a global_b locals.0 locals.1 locals.2 locals.3 locals.4 locals.5 locals.6 locals.7 locals.8 locals.9",
    ),
    ("simmim_vitb", "image"),
    ("simsiam_vitb", "pair.0 pair.1"),
    ("vicreg_vitb", "pair.0 pair.1"),
    ("vq_tokenizer", "image"),
];

fn names(program: &Program) -> String {
    let names: Vec<String> = scalings(program).into_iter().map(|(name, _)| name.replace("views.", "")).collect();
    names.join(" ")
}

#[test]
fn every_pipeline_s_pictures_qualify() {
    let mut found = Vec::new();
    for folder in ["pipelines", "pipelines/bench"] {
        for entry in std::fs::read_dir(crate::command::root(folder)).expect("it is there") {
            let path = entry.expect("it can be read").path();
            if path.extension().is_some_and(|e| e == "cmae") {
                let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
                found.push(if folder == "pipelines" { name } else { format!("bench/{name}") });
            }
        }
    }
    found.sort();
    let found: Vec<(String, String)> = found
        .into_iter()
        .map(|name| {
            let program = compile(&name, &[]);
            // Whatever stands before `normalize` is 8-bit: no picture is left out.
            let is_view = |kind: &InputKind| matches!(kind, InputKind::View { .. } | InputKind::Beside { .. });
            let views = program.train.inputs.iter().filter(|input| is_view(&input.kind)).count();
            assert_eq!(scalings(&program).len(), views, "{name}");
            let names = names(&program);
            (name, names)
        })
        .collect();
    let listed: Vec<(String, String)> = IN_BYTES.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert!(found == listed, "{}", found.iter().map(|(a, b)| format!("    ({a:?}, {b:?}),\n")).collect::<String>());
}

/// The very bits that the host makes of the same bytes, with crops, flips, colour, blur and solarisation before.
#[test]
fn a_loader_s_bytes_are_its_numbers() {
    for pipeline in ["quickstart", "cmae_vitb", "dino_vitb"] {
        let page = page();
        let sets = page.methods.iter().find(|method| method.pipeline == pipeline).map(|method| sets_of(&page, method));
        let program = compile(pipeline, &sets.unwrap_or_default());
        let (floats, levels) = (batch_as(&program, Pictures::Floats), batch_as(&program, Pictures::Levels));
        let mut in_bytes = 0;
        for ((name, a), (other, b)) in floats.iter().zip(&levels) {
            assert_eq!(name, other);
            match (a, b) {
                (InputValue::Float(tensor), InputValue::Levels(levels)) => {
                    in_bytes += 1;
                    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(tensor.shape, levels.tensor.shape, "{pipeline}: {name}");
                    assert!(bits(&tensor.data) == bits(&levels.view().numbers::<f32>()), "{pipeline}: {name}");
                }
                _ => assert!(a == b, "{pipeline}: {name}"),
            }
        }
        assert_eq!(in_bytes, scalings(&program).len(), "{pipeline}");
    }
}

/// A step's program takes bytes for each of them, and nothing else in bytes.
#[test]
fn a_step_takes_bytes() {
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "cmae_vitb").expect("it is a method");
    let program = compile("cmae_vitb", &sets_of(&page, method));
    let (step, scalings) = (program.step(&[]).expect("it has one"), scalings(&program));
    let numbers = Numbers::new(&program, &vec![0; program.layout.trained()]);
    let written = StepProgram::new(&program, &step, &numbers, Scalar::F32, &scalings, Kernels::default(), false);
    let inputs = written.expect("it lowers").inputs;
    let bytes: Vec<&str> =
        inputs.iter().filter(|(_, ty)| ty.scalar == Scalar::U8).map(|(name, _)| name.as_str()).collect();
    assert_eq!(bytes, ["views.online", "views.target"]);
}

/// Losses of a device that normalises, and of one that is given numbers.
///
/// Both make (v / 255 − mean) / std of the same v in f32. A compiler may multiply by 1 / 255 and 1 / std instead: five roundings of at
/// most 2⁻²⁴ of values below 1 / std ≤ 5 in place of three, so pictures differ by less than 8 · 5 · 2⁻²⁴ = 2.4e-6. Losses of values of size 1
/// follow them; three steps at learning rates of 1e-3 and less do not make more of that than ten times as much.
#[test]
fn a_device_makes_the_same_of_bytes() {
    let Some(xla) = crate::xla::backend() else { return };
    let page = page();
    let method = page.methods.iter().find(|method| method.pipeline == "cmae_vitb").expect("it is a method");
    let more = ["data.batch_size=16", "train.micro_batch=4"].map(str::to_owned);
    let sets: Vec<String> = sets_of(&page, method).into_iter().chain(more).collect();
    let program = compile("cmae_vitb", &sets);
    let losses = |backend: &str, pictures| -> Vec<f64> {
        let (inputs, batch) = (&program.train.inputs, program.spec.data.batch_size);
        let mut batches = RandomBatches::of_views(inputs, &program.spec.views, batch, 1, pictures);
        let mut trainer = trainer_from::<f32>(&program, backend, 6, start(&program, &sets));
        let mut step = |number| trainer.step(batches.batch(number)).expect("it can be made").results.losses;
        (0..3).flat_map(&mut step).collect()
    };
    let (floats, levels) = (losses(xla, Pictures::Floats), losses(xla, Pictures::Levels));
    let off = |other: &[f64]| floats.iter().zip(other).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
    println!("{sets:?}: {:.1e}; cpu given bytes {:.1e}", off(&levels), off(&losses("cpu", Pictures::Levels)));
    assert!(off(&levels) <= 2.4e-5, "{floats:?} {levels:?}");
    assert!(floats.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{floats:?}");
    // Another picture has other losses: the comparison can fail.
    let mut other = floats.clone();
    other[0] *= 1.0001;
    assert!(off(&other) > 2.4e-5);
}
