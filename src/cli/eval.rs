//! `cmaec eval`: what a trained model's features are worth.

use std::sync::Arc;

use clap::Subcommand;
use cmae::backend::BackendError;
use cmae::eval::quality::QualityError;
use cmae::eval::{Judge, Pass, Quality};
use cmae::ranks::Ranks;
use cmae::spec::{BASELINE_LIMIT, Duration, Evaluation, Judging, KnnSpec, Limit};
use cmae::train::init;
use serde_json::json;

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

pub fn main(args: Args) -> Result<(), String> {
    together::main(|ranks| {
        match args.how {
            How::Knn(args) => knn(args, ranks)?,
        }
        Ok(None)
    })
}

/// Ranks share the pictures; the first tells what was found.
fn knn(args: Knn, ranks: &Arc<dyn Ranks>) -> Result<(), String> {
    pipeline::start_threads(None, ranks.local())?;
    let trained = Trained { quiet: ranks.rank() > 0, ..args.chosen.load()? };
    let program = &trained.program;
    let of_pipeline = program.spec.evaluate.evaluations.iter().find(|other| matches!(other.how, Judging::Knn(_)));
    let output = of_pipeline.map_or("features", |evaluation| &evaluation.output).to_owned();
    // Wu et al. 2018's values, where the pipeline gives none.
    let mut spec = program.spec.evaluate.knn().cloned().unwrap_or(KnnSpec {
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
    let bank = trained.named(&args.bank.unwrap_or_else(|| format!("data.{}", spec.bank)))?;
    let queries = trained.named(&args.queries.unwrap_or_else(|| format!("data.{}", spec.queries)))?;
    let text = |error: QualityError| error.to_string();
    let evaluation = Evaluation { name: "knn".to_owned(), output, how: Judging::Knn(spec.clone()) };
    let judge = Judge::new(vec![evaluation], bank, queries, ranks.clone()).map_err(text)?;
    if let Some(why) = judge.no_labels() {
        return Err(text(QualityError::NoLabels { why: why.to_owned() }));
    }
    let failed = |error: BackendError| error.to_string();
    let backend = args.engine.open::<f32>(&**ranks)?;
    let mut session = backend.open(program, trained.arena).map_err(failed)?;
    let mut passes = Passes::watch(&**ranks)?;
    let mut look = |pass: Pass<'_>| passes.look(pass);
    let (found, _) = judge.model(&mut *session, program, (&|_| true, trained.step), &mut look).map_err(text)?;
    session.exchange(init::initialise(&program.layout, program.spec.train.seed)).map_err(failed)?;
    let untrained = judge.untrained(&mut *session, program, &mut look).map_err(text)?;
    let pixels = judge.raw_pixels(program, &mut look).map_err(text)?;
    drop(passes);
    if ranks.rank() > 0 {
        return Ok(());
    }
    found.left_out.iter().for_each(|left_out| errln!("warning: {left_out}"));
    let of = |quality: &Quality| quality.accuracy("knn").cloned();
    let (Some(knn), Some(of_untrained), Some(of_pixels)) = (of(&found), of(&untrained), of(&pixels)) else {
        unreachable!("a judge with labels lets them vote");
    };
    let collapse = found.of_features();
    if args.json {
        let figures = json!({
            "step": trained.step,
            "k": spec.k,
            "temperature": spec.temperature,
            "knn_accuracy": knn.share,
            "knn_accuracy_untrained": of_untrained.share,
            "knn_accuracy_raw_pixels": of_pixels.share,
            "chance": knn.chance,
            "pictures": knn.queries,
            "bank_pictures": knn.bank.pictures,
            "baseline_bank_pictures": of_pixels.bank.pictures,
            "raw_pixels_pooled_to": of_pixels.pooled,
            "left_one_out": knn.own,
            "broken_pictures": found.left_out.iter().map(|left_out| left_out.broken).sum::<usize>(),
            "effective_rank": collapse.map(|c| c.effective_rank),
        });
        outln!("{figures}");
        return Ok(());
    }
    let own = knn.leave_one_out();
    let own = if own.is_empty() { "," } else { &own };
    let k: Vec<String> = spec.k.iter().map(usize::to_string).collect();
    outln!("kNN accuracy{own} k = {}, temperature {}, after step {}", k.join(", "), spec.temperature, trained.step);
    for (setting, share) in &knn.tried {
        outln!("  {:<18} {:5.1} %", format!("this run, {setting}"), share * 100.0);
    }
    for (name, accuracy, terms) in [
        ("this run", knn.share, knn.terms()),
        ("untrained encoder", of_untrained.share, of_untrained.terms()),
        ("raw pixels", of_pixels.share, of_pixels.terms()),
        ("chance", knn.chance, Vec::new()),
    ] {
        let terms = if terms.is_empty() { String::new() } else { format!("  ({})", terms.join(", ")) };
        outln!("  {name:<18} {:5.1} %{terms}", accuracy * 100.0);
    }
    if let Some(collapse) = collapse {
        outln!(
            "features: effective rank {:.1}, std {:.4} (spread evenly: {:.4}), mean cosine {:.3}",
            collapse.effective_rank,
            collapse.std,
            collapse.uniform_std,
            collapse.mean_cosine
        );
    }
    Ok(())
}
