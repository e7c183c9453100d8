//! `cmaec show`: what a pipeline compiles to, before anything runs.

use std::path::PathBuf;

use clap::ValueEnum;
use cmae::graph::masking::maskings;
use cmae::graph::sketch::Sketch;
use cmae::graph::step::Body;
use cmae::graph::{Graph, Layout, Program, TensorKind, flops};
use cmae::report::{diagram, mermaid};
use cmae::spec::MicroBatch;
use cmae::train::fit::Fit;

use super::output::{out, outln};
use super::pipeline::{self, Engine, Options};
use super::{cost, exchange, looks, plan, schedule, values, views};

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Modules with shapes, parameters, FLOPs and memory of a step.
    Summary,
    /// Every value of the training graph, one a line; by `--format svg` or `mermaid` a picture of its modules and what flows between them.
    Graph,
    /// The same as `graph`.
    Ir,
    /// What the `cpu` backend does in a training step, one line each: where values lie, bytes moved, FLOPs.
    Plan,
    /// Views with their steps and sizes; drawn as a contact sheet with -o.
    Views,
    /// What a run takes on this machine: memory, the time of a step by a short measurement, epochs and days.
    Cost,
    /// Values of a step on one batch of real pictures: shape, mean, deviation, range; without names the names of all.
    Value,
    /// Learning rate, weight decay and momenta of averaged copies over the run.
    Schedule,
    /// Of a run: features of patches as colours, and where each head of the last attention looks, as a contact sheet.
    Patches,
    /// Of a run: pictures with those whose features are nearest, as a contact sheet.
    Neighbours,
    /// Of a run: its features in the plane by t-SNE, into its report.
    Map,
    /// Of a run: original, masked and reconstructed pictures; with `--set mask_ratio=90%` more of them is hidden.
    Reconstructions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Svg,
    Mermaid,
}

/// Shows what a pipeline compiles to.
#[derive(clap::Args)]
pub struct Args {
    what: What,
    /// A pipeline's file; with `patches`, `neighbours`, `map` and `reconstructions` the folder of a run, whose newest checkpoint is taken.
    #[arg(value_name = "PIPELINE|RUN")]
    file: PathBuf,
    /// With `value`, what to show: `online.query`, `target.key`.
    #[arg(value_name = "VALUE")]
    values: Vec<String>,
    /// Prints a plan, or the cost, as one line of JSON.
    #[arg(long)]
    json: bool,
    /// How a graph is shown: `svg` and `mermaid` draw branches, modules, losses and where gradients go.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Threads that compute, for `cost`. By default one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// With `cost`, what so many ranks send one another in a step, by the speed of their links; with `graph`, the graph of one of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..))]
    ranks: Option<u16>,
    #[command(flatten)]
    drawing: views::Drawing,
    #[command(flatten)]
    engine: Engine,
    #[command(flatten)]
    options: Options,
}

pub fn main(args: Args) -> Result<(), String> {
    if matches!(args.what, What::Value) && !args.json && !args.drawing.draws() && args.ranks.is_none() {
        return values::show(&args.file, &args.options, &args.values, args.drawing.data());
    }
    if !args.values.is_empty() {
        return Err("values are shown by `value`\nhelp: cmaec show value PIPELINE VALUE".to_owned());
    }
    if args.json && !matches!(args.what, What::Plan | What::Cost) {
        return Err("only a plan and the cost are printed as JSON\nhelp: cmaec show plan PIPELINE --json".to_owned());
    }
    let (changed, of_run) =
        (!args.options.overrides().is_empty(), matches!(args.what, What::Patches | What::Neighbours | What::Map));
    if changed && of_run {
        return Err(
            "a run is shown with the settings that it was trained with\nhelp: leave --set and --weights out".to_owned()
        );
    }
    match args.what {
        What::Patches => return looks::patches(&args.file, &args.drawing, &args.engine),
        What::Neighbours => return looks::neighbours(&args.file, &args.drawing, &args.engine),
        What::Map => return looks::map(&args.file, &args.drawing, &args.engine),
        What::Reconstructions => {
            return looks::reconstructions(&args.file, &args.drawing, &args.engine, &args.options);
        }
        _ => {}
    }
    let (compiled, _) = args.options.compile(&args.file)?;
    let program = compiled.program;
    if args.drawing.is_wanted() && !matches!(args.what, What::Views) {
        return Err(
            "only views, and what a run makes of pictures, are drawn\nhelp: cmaec show views PIPELINE -o FILE.png"
                .to_owned(),
        );
    }
    match args.format {
        Format::Text => {}
        Format::Svg | Format::Mermaid if !matches!(args.what, What::Graph) || args.ranks.is_some() => {
            return Err(
                "only the graph of one process is drawn\nhelp: cmaec show graph PIPELINE --format svg > FILE.svg"
                    .to_owned(),
            );
        }
        Format::Svg => {
            out!("{}", diagram::svg(&program.spec.name, &Sketch::of(&program)));
            return Ok(());
        }
        Format::Mermaid => {
            out!("{}", mermaid::mermaid(&program.spec.name, &Sketch::of(&program)));
            return Ok(());
        }
    }
    if let Some(ranks) = args.ranks.map(usize::from) {
        return match args.what {
            What::Cost => exchange::show(&program, ranks, args.json),
            What::Graph | What::Ir => {
                // All of a rank's rows at once: how a machine cuts them is another matter.
                let mut program = Program { ranks, ..program };
                program.spec.train.micro_batch = MicroBatch::Auto;
                match program.step(&[]).map_err(|error| error.to_string())?.body {
                    Body::Whole(own) => graph(&own),
                    Body::Parts(..) => unreachable!("a batch that is not cut has no parts"),
                }
                Ok(())
            }
            _ => Err("ranks matter to the cost and to the graph\nhelp: cmaec show cost PIPELINE --ranks 8".to_owned()),
        };
    }
    match args.what {
        What::Cost => return cost::show(&args.file, &program, &args.engine, args.threads, &args.options, args.json),
        What::Plan | What::Summary => {
            let (program, fit) = pipeline::fitted_for_cpu(&program)?;
            match args.what {
                What::Plan => return plan::show(&program, &fit, args.json),
                _ => summary(&program, &fit),
            }
        }
        What::Graph | What::Ir => graph(&program.train),
        What::Views => return views::show(&program, &args.drawing),
        What::Schedule => return schedule::show(&program),
        What::Value | What::Patches | What::Neighbours | What::Map | What::Reconstructions => {
            unreachable!("they are shown above, or their options refused")
        }
    }
    Ok(())
}

/// 85798656 → "85.80 M".
fn count(n: usize) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.2} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// Elements of the tensors below a module, by kind.
fn elements(layout: &Layout, module: &str, kind: TensorKind) -> usize {
    let prefix = format!("{module}.");
    let below = layout.tensors.iter().filter(|t| t.kind == kind && t.path.starts_with(&prefix));
    below.map(cmae::graph::TensorDecl::elements).sum()
}

/// Top-level modules, in the order of the layout.
fn modules(layout: &Layout) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for tensor in &layout.tensors {
        let mut parts = tensor.path.split('.');
        let first = parts.next().unwrap_or_default();
        // Copies are listed by module: `momentum.encoder`.
        let name = if tensor.kind == TensorKind::Ema {
            format!("{first}.{}", parts.next().unwrap_or_default())
        } else {
            first.to_owned()
        };
        let is_copy_of_known = names.iter().any(|n| tensor.path.starts_with(&format!("{n}.")));
        if !names.contains(&name) && !is_copy_of_known {
            names.push(name);
        }
    }
    names
}

/// FLOPs of the forward pass's matrix products, by the first component of their scope.
fn forward_flops(graph: &Graph, layout: &Layout) -> Vec<(String, u64)> {
    let mut by_module: Vec<(String, u64)> = Vec::new();
    for node in &graph.nodes {
        let flops = flops::of_products(graph, node);
        let mut parts = node.scope.split('.');
        let first = parts.next().unwrap_or_default();
        let copies =
            layout.tensors.iter().any(|t| t.kind == TensorKind::Ema && t.path.starts_with(&format!("{first}.")));
        let name = if copies { format!("{first}.{}", parts.next().unwrap_or_default()) } else { first.to_owned() };
        match by_module.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => *sum += flops,
            None => by_module.push((name, flops)),
        }
    }
    by_module
}

fn summary(program: &Program, fit: &Fit) {
    let (layout, spec) = (&program.layout, &program.spec);
    let batch = spec.data.batch_size as u64;
    let (forward, step) = (forward_flops(&program.train, layout), flops::of_step(&program.train, layout));
    outln!("{}: batch {}, {} epochs", spec.name, spec.batch_text(), spec.train.epochs);
    outln!();
    outln!("{:<24} {:>11} {:>11} {:>11} {:>14}", "module", "trained", "fixed", "averaged", "forward GMAC");
    for module in modules(layout) {
        let macs = forward.iter().find(|(n, _)| *n == module).map_or(0, |(_, f)| *f) as f64 / 2e9 / batch as f64;
        outln!(
            "{:<24} {:>11} {:>11} {:>11} {:>14}",
            module,
            count(elements(layout, &module, TensorKind::Trained)),
            count(elements(layout, &module, TensorKind::Fixed)),
            count(elements(layout, &module, TensorKind::Ema)),
            format!("{macs:.3}"),
        );
    }
    let total = |kind| layout.tensors.iter().filter(|t| t.kind == kind).map(cmae::graph::TensorDecl::elements).sum();
    outln!(
        "{:<24} {:>11} {:>11} {:>11} {:>14}",
        "all",
        count(total(TensorKind::Trained)),
        count(total(TensorKind::Fixed)),
        count(total(TensorKind::Ema)),
        format!("{:.3}", forward.iter().map(|(_, f)| *f).sum::<u64>() as f64 / 2e9 / batch as f64),
    );
    if let Some(export) = &spec.export {
        let trained = elements(layout, export, TensorKind::Trained);
        let fixed = elements(layout, export, TensorKind::Fixed);
        outln!();
        outln!(
            "`{export}` has {} parameters: {} trained, {} fixed",
            count(trained + fixed),
            count(trained),
            count(fixed)
        );
    }
    outln!();
    outln!(
        "a step computes {:.1} GFLOP an image, {:.1} TFLOP a batch",
        step as f64 / 1e9 / batch as f64,
        step as f64 / 1e12
    );
    outln!("memory: {}, as `cpu` plans it", pipeline::memory_line(fit));
    maskings(&program.train).iter().for_each(|masking| outln!("{masking}"));
    outln!();
    outln!("inputs");
    for input in &program.train.inputs {
        outln!("  {:<26} {:?}", input.name, input.ty.shape);
    }
    outln!("values");
    for (name, id) in &program.train.outputs {
        outln!("  {:<26} {:?}", name, program.train.node(*id).ty.shape);
    }
    let names: Vec<&str> = program.train.losses.iter().map(|(n, _)| n.as_str()).collect();
    outln!("losses: {}", names.join(" + "));
}

fn graph(graph: &Graph) {
    out!("{}", cmae::graph::text::print(graph));
}
