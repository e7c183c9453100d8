//! `cmaec eval`: what a trained model's features are worth.

use std::sync::Arc;

use clap::{Subcommand, ValueEnum};
use cmae::backend::BackendError;
use cmae::eval::quality::{Accuracy, QualityError, Setting};
use cmae::eval::{Judge, Pass, Quality};
use cmae::ranks::Ranks;
use cmae::spec::{BASELINE_LIMIT, Duration, Evaluation, Judging, KnnSpec, Limit, LinearSpec, Solver};
use cmae::train::init;
use serde_json::{Value, json};

use super::output::{errln, outln};
use super::passes::Passes;
use super::pipeline::{self, Engine};
use super::together;
use super::trained::{Chosen, Trained};

/// Judges the features of a run.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    how: How,
}

#[derive(Subcommand)]
enum How {
    Knn(Knn),
    Linear(Linear),
}

/// Weighted kNN accuracy, beside the untrained encoder's, raw pixels' and chance.
#[derive(clap::Args)]
struct Knn {
    #[command(flatten)]
    chosen: Chosen,
    /// Labelled pictures that vote: where they lie, as `cmaec data check PATH` takes it, or a source of the pipeline. By default the pipeline's.
    #[arg(long, value_name = "PATH")]
    bank: Option<String>,
    /// Labelled pictures that are classified.
    #[arg(long, value_name = "PATH")]
    queries: Option<String>,
    /// How many neighbours vote; several are told side by side: `-k 10,20,100`.
    #[arg(short, value_delimiter = ',')]
    k: Vec<usize>,
    #[arg(long)]
    temperature: Option<f64>,
    /// Pictures of the bank that vote, a count or a share (`10%`), always the same ones. By default the pipeline's, or all.
    #[arg(long, value_name = "N|P%")]
    bank_limit: Option<Limit>,
    /// Pictures that are classified.
    #[arg(long, value_name = "N|P%")]
    query_limit: Option<Limit>,
    /// Of those that vote, the pictures that vote on the untrained encoder and on raw pixels. By default the pipeline's, or 50000.
    #[arg(long, value_name = "N|P%")]
    baseline_limit: Option<Limit>,
    #[command(flatten)]
    engine: Engine,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Accuracy of linear classifiers that are trained on the features, beside the untrained encoder's, raw pixels' and chance.
#[derive(clap::Args)]
struct Linear {
    #[command(flatten)]
    chosen: Chosen,
    /// Labelled pictures that classifiers are trained on: where they lie, as `cmaec data check PATH` takes it, or a source of the pipeline. By
    /// default the pipeline's.
    #[arg(long, value_name = "PATH")]
    train: Option<String>,
    /// Labelled pictures that are classified.
    #[arg(long, value_name = "PATH")]
    val: Option<String>,
    /// Which of the pipeline's values is judged: the name of a `linear` or `knn` of `evaluate`. By default `features`.
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// Learning rates, of a batch of 256: `0.01,0.1,1`. The best is told.
    #[arg(long, value_name = "RATES", value_delimiter = ',')]
    learning_rates: Vec<f64>,
    /// Weight decays, each with each learning rate.
    #[arg(long, value_name = "DECAYS", value_delimiter = ',')]
    weight_decays: Vec<f64>,
    #[arg(long)]
    epochs: Option<usize>,
    #[arg(long)]
    batch_size: Option<usize>,
    /// `sgd`, or `exact`: logistic regression until it has converged.
    #[arg(long)]
    solver: Option<Solving>,
    /// Pictures that are trained on, a count or a share (`1%`), as many of each class, always the same ones. By default the pipeline's, or
    /// all.
    #[arg(long, value_name = "N|P%")]
    train_limit: Option<Limit>,
    /// Pictures that are classified.
    #[arg(long, value_name = "N|P%")]
    val_limit: Option<Limit>,
    /// Of those that are trained on, the ones for the untrained encoder and for raw pixels. By default the pipeline's, or 50000.
    #[arg(long, value_name = "N|P%")]
    baseline_limit: Option<Limit>,
    #[command(flatten)]
    engine: Engine,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Solving {
    Sgd,
    Exact,
}

pub fn main(args: Args) -> Result<(), String> {
    together::main(|ranks| {
        match args.how {
            How::Knn(args) => knn(args, ranks)?,
            How::Linear(args) => linear(args, ranks)?,
        }
        Ok(None)
    })
}

/// Figures of a run, of its untrained encoder, and of raw pixels.
struct Judged {
    found: Quality,
    of_run: Accuracy,
    of_untrained: Accuracy,
    of_pixels: Accuracy,
}

/// Judges a run by `evaluation`, on its own sources or those that are named. Ranks share the pictures; `None` on all but the first, which tells what was
/// found.
fn judge(
    trained: Trained,
    evaluation: Evaluation,
    sources: [Option<String>; 2],
    (engine, ranks): (&Engine, &Arc<dyn Ranks>),
) -> Result<Option<Judged>, String> {
    let program = &trained.program;
    let [bank, queries] = evaluation.sources().map(|name| format!("data.{name}"));
    let [given_bank, given_queries] = sources;
    let bank = trained.named(&given_bank.unwrap_or(bank))?;
    let queries = trained.named(&given_queries.unwrap_or(queries))?;
    let text = |error: QualityError| error.to_string();
    let name = evaluation.name.clone();
    let judge = Judge::new(vec![evaluation], bank, queries, ranks.clone()).map_err(text)?;
    if let Some(why) = judge.no_labels() {
        let by = judge.evaluations()[0].title();
        return Err(text(QualityError::NoLabels { by, why: why.to_owned() }));
    }
    let failed = |error: BackendError| error.to_string();
    let backend = engine.open::<f32>(&**ranks)?;
    let mut session = backend.open(program, trained.arena).map_err(failed)?;
    let mut passes = Passes::watch(&**ranks)?;
    let mut look = |pass: Pass<'_>| passes.look(pass);
    let found = judge.model(&mut *session, program, (&|_| true, trained.step), &mut look).map_err(text)?.quality;
    session.exchange(init::initialise(&program.layout, program.spec.train.seed)).map_err(failed)?;
    let untrained = judge.untrained(&mut *session, program, &mut look).map_err(text)?;
    let pixels = judge.raw_pixels(program, &mut look).map_err(text)?;
    drop(passes);
    if ranks.rank() > 0 {
        return Ok(None);
    }
    found.left_out.iter().for_each(|left_out| errln!("warning: {left_out}"));
    let of = |quality: &Quality| quality.accuracy(&name).cloned();
    let (Some(of_run), Some(of_untrained), Some(of_pixels)) = (of(&found), of(&untrained), of(&pixels)) else {
        unreachable!("a judge with labels tells each accuracy");
    };
    Ok(Some(Judged { found, of_run, of_untrained, of_pixels }))
}

impl Judged {
    /// What both evaluations have, under names that begin with `name`; `more` is added.
    fn json(&self, name: &str, step: u64, more: Value) -> Value {
        let Judged { found, of_run, of_untrained, of_pixels } = self;
        let mut figures = json!({
            "step": step,
            format!("{name}_accuracy"): of_run.share,
            format!("{name}_accuracy_untrained"): of_untrained.share,
            format!("{name}_accuracy_raw_pixels"): of_pixels.share,
            "chance": of_run.chance,
            "pictures": of_run.queries,
            "raw_pixels_pooled_to": of_pixels.pooled,
            "broken_pictures": found.left_out.iter().map(|left_out| left_out.broken).sum::<usize>(),
            "effective_rank": found.of_features().map(|collapse| collapse.effective_rank),
            "uniformity": found.of_features().map(|collapse| collapse.uniformity),
        });
        if let (Value::Object(figures), Value::Object(more)) = (&mut figures, more) {
            for (setting, share) in of_run.tried.iter().filter(|_| of_run.tried.len() > 1) {
                figures.insert(format!("{name}_accuracy_{}", setting.key()), json!(share));
            }
            figures.extend(more);
        }
        figures
    }

    fn print(&self) {
        let Judged { found, of_run, of_untrained, of_pixels } = self;
        let settings = |accuracy: &Accuracy| accuracy.best.iter().map(Setting::to_string).collect::<Vec<_>>();
        let terms = |accuracy: &Accuracy| [settings(accuracy), accuracy.terms()].concat();
        for (name, accuracy, terms) in [
            ("this run", of_run.share, terms(of_run)),
            ("untrained encoder", of_untrained.share, terms(of_untrained)),
            ("raw pixels", of_pixels.share, terms(of_pixels)),
            ("chance", of_run.chance, Vec::new()),
        ] {
            let terms = if terms.is_empty() { String::new() } else { format!("  ({})", terms.join(", ")) };
            outln!("  {name:<18} {:5.1} %{terms}", accuracy * 100.0);
        }
        if of_run.tried.len() > 1 {
            outln!("this run by what was tried:");
            for (setting, share) in &of_run.tried {
                outln!("  {:<18} {:5.1} %", setting.to_string(), share * 100.0);
            }
        }
        if let Some(collapse) = found.of_features() {
            outln!(
                "features: effective rank {:.1}, std {:.4} (spread evenly: {:.4}), mean cosine {:.3}, uniformity {:.2}",
                collapse.effective_rank,
                collapse.std,
                collapse.uniform_std,
                collapse.mean_cosine,
                collapse.uniformity
            );
        }
    }
}

fn knn(args: Knn, ranks: &Arc<dyn Ranks>) -> Result<(), String> {
    pipeline::start_threads(None, ranks.local())?;
    let trained = Trained { quiet: ranks.rank() > 0, ..args.chosen.load()? };
    let evaluate = &trained.program.spec.evaluate;
    let of_pipeline = evaluate.evaluations.iter().find(|other| matches!(other.how, Judging::Knn(_)));
    let output = of_pipeline.map_or("features", |evaluation| &evaluation.output).to_owned();
    // Wu et al. 2018's values, where the pipeline gives none.
    let mut spec = evaluate.knn().cloned().unwrap_or(KnnSpec {
        bank: "train".to_owned(),
        queries: "val".to_owned(),
        k: vec![20],
        temperature: 0.07,
        every: Duration::Share(1.0),
        bank_limit: Limit::default(),
        query_limit: Limit::default(),
        baseline_limit: BASELINE_LIMIT,
    });
    spec.bank_limit = args.bank_limit.unwrap_or(spec.bank_limit);
    spec.query_limit = args.query_limit.unwrap_or(spec.query_limit);
    spec.baseline_limit = args.baseline_limit.unwrap_or(spec.baseline_limit);
    spec.k = if args.k.is_empty() { spec.k } else { args.k };
    spec.temperature = args.temperature.unwrap_or(spec.temperature);
    let evaluation = Evaluation { name: "knn".to_owned(), output, how: Judging::Knn(spec.clone()) };
    let step = trained.step;
    let Some(judged) = judge(trained, evaluation, [args.bank, args.queries], (&args.engine, ranks))? else {
        return Ok(());
    };
    let knn = &judged.of_run;
    let k = if let [k] = spec.k[..] { json!(k) } else { json!(spec.k) };
    if args.json {
        let more = json!({
            "k": k,
            "temperature": spec.temperature,
            "bank_pictures": knn.bank.pictures,
            "baseline_bank_pictures": judged.of_pixels.bank.pictures,
            "left_one_out": knn.own,
        });
        outln!("{}", judged.json("knn", step, more));
        return Ok(());
    }
    let own = knn.leave_one_out();
    let own = if own.is_empty() { "," } else { &own };
    // Of several the table below tells each.
    let k = spec.k.first().copied().unwrap_or_default();
    outln!("kNN accuracy{own} k = {k}, temperature {}, after step {step}", spec.temperature);
    judged.print();
    Ok(())
}

fn linear(args: Linear, ranks: &Arc<dyn Ranks>) -> Result<(), String> {
    pipeline::start_threads(None, ranks.local())?;
    let trained = Trained { quiet: ranks.rank() > 0, ..args.chosen.load()? };
    let evaluations = &trained.program.spec.evaluate.evaluations;
    let named = args.of.as_ref().map(|name| {
        let found = evaluations.iter().find(|other| other.name == *name);
        let known: Vec<&str> = evaluations.iter().map(|other| other.name.as_str()).collect();
        found.ok_or_else(|| format!("`evaluate` has no `{name}`\nhelp: it has {}", known.join(", ")))
    });
    let by_linear = |other: &&Evaluation| matches!(other.how, Judging::Linear(_));
    let of_pipeline = named.transpose()?.or_else(|| evaluations.iter().find(by_linear));
    let output = of_pipeline.map_or("features", |evaluation| &evaluation.output).to_owned();
    let mut spec = match of_pipeline.map(|evaluation| &evaluation.how) {
        Some(Judging::Linear(spec)) => spec.clone(),
        Some(Judging::Knn(KnnSpec { bank, queries, .. })) => by_itself(bank, queries),
        None => {
            // Where kNN takes its labels.
            let knn = trained.program.spec.evaluate.knn();
            knn.map_or_else(|| by_itself("train", "val"), |knn| by_itself(&knn.bank, &knn.queries))
        }
    };
    spec.train_limit = args.train_limit.unwrap_or(spec.train_limit);
    spec.val_limit = args.val_limit.unwrap_or(spec.val_limit);
    spec.baseline_limit = args.baseline_limit.unwrap_or(spec.baseline_limit);
    let of_sgd = [
        (!args.learning_rates.is_empty(), "--learning-rates"),
        (!args.weight_decays.is_empty(), "--weight-decays"),
        (args.epochs.is_some(), "--epochs"),
        (args.batch_size.is_some(), "--batch-size"),
    ];
    let given = of_sgd.iter().find(|(given, _)| *given).map(|(_, option)| *option);
    spec.solver = match (args.solver, spec.solver) {
        (Some(Solving::Exact), _) | (None, Solver::Exact) if given.is_none() => Solver::Exact,
        (Some(Solving::Exact), _) => {
            let option = given.unwrap_or_default();
            return Err(format!("{option} is of --solver sgd\nhelp: leave one of both out"));
        }
        (_, Solver::Exact) => changed(Solver::default(), &args)?,
        (_, of_pipeline) => changed(of_pipeline, &args)?,
    };
    let evaluation = Evaluation { name: "linear".to_owned(), output, how: Judging::Linear(spec.clone()) };
    let step = trained.step;
    let Some(judged) = judge(trained, evaluation, [args.train, args.val], (&args.engine, ranks))? else {
        return Ok(());
    };
    let linear = &judged.of_run;
    if args.json {
        let rate = match linear.best {
            Some(Setting::Rate(rate)) => {
                json!({ "learning_rate": rate.learning_rate, "weight_decay": rate.weight_decay })
            }
            _ => json!({}),
        };
        let mut more = json!({
            "train_pictures": linear.bank.pictures,
            "baseline_train_pictures": judged.of_pixels.bank.pictures,
            "trained_on": linear.trained_on,
        });
        if let (Value::Object(more), Value::Object(rate)) = (&mut more, rate) {
            more.extend(rate);
        }
        outln!("{}", judged.json("linear", step, more));
        return Ok(());
    }
    let how = match &spec.solver {
        Solver::Sgd { epochs, batch_size, .. } => format!("{epochs} epochs of batches of {batch_size}"),
        Solver::Exact => "logistic regression".to_owned(),
    };
    outln!("linear probing accuracy, {how}, after step {step}");
    judged.print();
    Ok(())
}

/// Linear probing as it is where the pipeline says nothing.
fn by_itself(train: &str, val: &str) -> LinearSpec {
    LinearSpec {
        train: train.to_owned(),
        val: val.to_owned(),
        every: Duration::Share(1.0),
        solver: Solver::default(),
        train_limit: Limit::default(),
        val_limit: Limit::default(),
        baseline_limit: BASELINE_LIMIT,
    }
}

/// `solver`, which is SGD, with what the command line gives.
fn changed(solver: Solver, args: &Linear) -> Result<Solver, String> {
    let Solver::Sgd { learning_rates, weight_decays, epochs, batch_size } = solver else { return Ok(solver) };
    let given = |given: &[f64], usual: Vec<f64>| if given.is_empty() { usual } else { given.to_vec() };
    let learning_rates = given(&args.learning_rates, learning_rates);
    let weight_decays = given(&args.weight_decays, weight_decays);
    if let Some(rate) = learning_rates.iter().find(|rate| !(rate.is_finite() && **rate > 0.0)) {
        return Err(format!("a learning rate is {rate}\nhelp: give numbers above 0: --learning-rates 0.01,0.1,1"));
    }
    if let Some(decay) = weight_decays.iter().find(|decay| !(decay.is_finite() && **decay >= 0.0)) {
        return Err(format!("a weight decay is {decay}\nhelp: give numbers from 0: --weight-decays 0,1e-4"));
    }
    let (epochs, batch_size) = (args.epochs.unwrap_or(epochs), args.batch_size.unwrap_or(batch_size));
    if epochs == 0 || batch_size == 0 {
        return Err("--epochs and --batch-size are from 1\nhelp: leave them out for 90 and 256".to_owned());
    }
    Ok(Solver::Sgd { learning_rates, weight_decays, epochs, batch_size })
}
