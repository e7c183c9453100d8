//! `cmaec show value`: what values of a step are, on one batch of real pictures.

use std::path::Path;

use cmae::backend::{BackendOptions, Compute, Wanted};
use cmae::data::loader::{Loader, LoaderOptions};
use cmae::graph::Program;
use cmae::op::DType;
use cmae::spec::{Clock, Precision};
use cmae::tensor::{OutputValue, Pictures};
use cmae::train::{Trainer, init};

use super::output::outln;
use super::pipeline::{self, Options, in_words};

/// Samples of the batch, unless the pipeline's is smaller or `--set data.batch_size` says otherwise.
const SAMPLES: usize = 8;

/// Prints `wanted` values of the pipeline in `file`, or without any the names and shapes of all; pictures are those of `data`, a path or a
/// source of the pipeline.
pub fn show(file: &Path, options: &Options, wanted: &[String], data: Option<&str>) -> Result<(), String> {
    let own = options.compile(file)?.0.program;
    let is_set = options.sets.iter().any(|set| set.trim_start().starts_with("data.batch_size"));
    let program = if is_set || own.spec.data.batch_size <= SAMPLES {
        own
    } else {
        let sets = options.sets.iter().cloned().chain([format!("data.batch_size={SAMPLES}")]).collect();
        Options { sets, ..options.clone() }.compile(file)?.0.program
    };
    if wanted.is_empty() {
        for (name, id) in &program.train.outputs {
            let ty = &program.train.node(*id).ty;
            let kind = if ty.dtype == DType::Int { "int" } else { "float" };
            outln!("{name}: {kind} {:?}", ty.shape);
        }
        return Ok(());
    }
    if let Some(unknown) = wanted.iter().find(|name| program.train.output(name).is_none()) {
        return Err(format!("the step has no value `{unknown}`\nhelp: cmaec show value {} lists them", file.display()));
    }
    match program.spec.train.precision {
        Precision::F32 | Precision::Bf16 => values::<f32>(&program, wanted, data),
        Precision::F64 => values::<f64>(&program, wanted, data),
    }
}

fn values<E: Compute>(program: &Program, wanted: &[String], data: Option<&str>) -> Result<(), String> {
    let (spec, name) = (&program.spec, data.unwrap_or("data.train"));
    // Before a folder is listed, which starts threads too.
    let threads = pipeline::start_threads(None, 1)?;
    let source = pipeline::source(&spec.data, name).map_err(|error| match data {
        Some(_) => error,
        None => format!("{error}\nhelp: --data PATH takes pictures that lie elsewhere"),
    })?;
    let options = LoaderOptions {
        seed: spec.train.seed,
        threads,
        prefetch: 1,
        max_broken: spec.data.max_broken,
        pictures: Pictures::Floats,
    };
    let loader = Loader::start(source, &spec.views, &program.train.inputs, spec.data.batch_size, options, 0..1);
    let mut loader = loader.map_err(|error| in_words(&error))?;
    let batch = loader.next_batch().ok_or("the loader has made no batch")?.map_err(|error| in_words(&error))?;
    let backend = E::backend_with("cpu", &BackendOptions::default()).map_err(|error| error.to_string())?;
    let tensors = init::initialise(&program.layout, spec.train.seed);
    let session = backend.open(program, tensors).map_err(|error| error.to_string())?;
    let mut trainer = Trainer::new(program, session, Clock::new(spec.train.epochs, 1));
    let wants = Wanted { outputs: wanted, gradients: false };
    let report = trainer.step_giving(&batch.inputs, wants).map_err(|error| error.to_string())?;
    outln!("untrained, on {} of {name}:", pictures(spec.data.batch_size));
    for (name, value) in wanted.iter().zip(&report.results.outputs) {
        match value {
            OutputValue::Float(tensor) => {
                let values: Vec<f64> = tensor.data.iter().map(|value| value.to_f64()).collect();
                outln!("{name}: float {:?}  {}", tensor.shape, figures(&values));
            }
            OutputValue::Int(tensor) => {
                let values: Vec<f64> = tensor.data.iter().map(|value| *value as f64).collect();
                outln!("{name}: int {:?}  {}", tensor.shape, figures(&values));
            }
        }
    }
    Ok(())
}

fn pictures(count: usize) -> String {
    if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") }
}

/// Mean, deviation, range, and how many are no finite number; one value by itself.
fn figures(values: &[f64]) -> String {
    if let [value] = values {
        return format!("{value:.6}");
    }
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let count = finite.len().max(1) as f64;
    let mean = finite.iter().sum::<f64>() / count;
    let deviation = (finite.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt();
    let (least, most) = finite
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(*value), most.max(*value)));
    let others = match values.len() - finite.len() {
        0 => String::new(),
        n => format!(", {n} of {} not finite", values.len()),
    };
    match finite.is_empty() {
        true => "no finite value".to_owned(),
        false => format!("mean {mean:.4}, deviation {deviation:.4}, from {least:.4} to {most:.4}{others}"),
    }
}

#[cfg(test)]
mod tests {
    use super::figures;

    #[test]
    fn figures_leave_out_what_is_not_finite_and_say_so() {
        assert_eq!(figures(&[2.5]), "2.500000");
        let found = figures(&[1.0, f64::NAN, 3.0]);
        assert_eq!(found, "mean 2.0000, deviation 1.0000, from 1.0000 to 3.0000, 1 of 3 not finite");
        assert_eq!(figures(&[f64::NAN, f64::INFINITY]), "no finite value");
    }
}
