//! What a model's features are worth: kNN accuracy and collapse figures, and what they have to beat.
//!
//! Before: `train`, or a checkpoint, gives parameters. After: `run` logs the figures.
//!
//! **Invariant:** nothing is trained, every figure is over all pictures of a source that can be read, and who is left out is
//! counted with it. Labels of two sources meet by the names of their classes alone.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use super::collapse::{Collapse, collapse};
use super::features::{self, FeaturesError, Made};
use super::knn::{KnnError, Search, accuracy, check_others};
use super::map::{FeatureMap, feature_map};
use super::pass::{Look, Pass};
use super::pixels;
use super::shared::{LeftOut, Sink, left_out, shared};
use crate::backend::Session;
use crate::data::DataError;
use crate::data::evaluation::{EvalBatches, some_of};
use crate::data::source::{self, Identity, Source};
use crate::graph::{Graph, InputKind, Program};
use crate::ranks::{self, Ranks};
use crate::spec::{KnnSpec, Limit};
use crate::tensor::Element;

/// A source, and what messages call it: `data.val`, or a path.
#[derive(Clone)]
pub struct Named {
    pub name: String,
    pub source: Arc<dyn Source>,
}

/// The sources that kNN takes, opened. Ranks share pictures and search; each has the figures.
pub struct Judge {
    ranks: Arc<dyn Ranks>,
    bank: Chosen,
    /// What of it votes on the baselines.
    baseline_bank: Chosen,
    queries: Chosen,
    spec: KnnSpec,
    /// For each class of the queries, its label among the bank's; or why nothing votes.
    labels: Result<Vec<i64>, String>,
    identities: OnceLock<Option<Identities>>,
}

/// Of all pictures of both sources.
struct Identities {
    bank: Vec<Identity>,
    queries: Vec<Identity>,
}

/// Figures of one set of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// `None` where nothing votes.
    pub knn: Option<Accuracy>,
    /// Of the queries' features; `None` for raw pixels.
    pub collapse: Option<Collapse>,
    /// What was not judged, of each source.
    pub left_out: Vec<LeftOut>,
}

/// What kNN found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// Share of queries that are classified right.
    pub share: f64,
    /// The same for always answering the queries' most frequent class.
    pub chance: f64,
    pub queries: usize,
    /// Queries that lie in the bank themselves, each without a vote on itself.
    pub own: usize,
    /// Pictures of the bank's source that could vote, and of the queries' that were asked for.
    pub bank: Taken,
    pub asked: Taken,
    /// (height, width) of what pictures were pooled to before they were compared, where they were.
    pub pooled: Option<(usize, usize)>,
}

/// What of a source was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub pictures: usize,
    pub of: usize,
}

impl Taken {
    pub fn is_all(self) -> bool {
        self.pictures == self.of
    }
}

impl Accuracy {
    /// What stands behind "kNN accuracy": whether queries were taken out of the bank.
    pub fn leave_one_out(&self) -> String {
        match self.own {
            0 => String::new(),
            own if own == self.queries => ", leave one out,".to_owned(),
            own => format!(", leave one out for {own} of {},", self.queries),
        }
    }

    /// What it goes by where that is not all pictures as they are: `pooled to 32 × 32`, `bank 50000 of 1281167`.
    pub fn terms(&self) -> Vec<String> {
        let pooled = self.pooled.map(|(height, width)| format!("pooled to {height} × {width}"));
        let part =
            |name: &str, taken: Taken| (!taken.is_all()).then(|| format!("{name} {} of {}", taken.pictures, taken.of));
        [pooled, part("bank", self.bank), part("queries", self.asked)].into_iter().flatten().collect()
    }
}

/// Why features could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    #[error("the pipeline has no features (help: add `evaluate {{ features = … }}` to it)")]
    NoFeatures,
    #[error("kNN wants labels: {why} (help: put pictures in a folder for each class, PATH/CLASS/picture.jpg)")]
    NoLabels { why: String },
    #[error("{error}{}", error.help().map(|help| format!(" (help: {help})")).unwrap_or_default())]
    Data { error: DataError },
    #[error(transparent)]
    Features(FeaturesError),
    #[error(transparent)]
    Knn(#[from] KnnError),
    #[error("stopped before all pictures were looked at")]
    Stopped,
}

impl From<DataError> for QualityError {
    fn from(error: DataError) -> Self {
        QualityError::Data { error }
    }
}

impl From<FeaturesError> for QualityError {
    fn from(error: FeaturesError) -> Self {
        match error {
            FeaturesError::Data(error) => QualityError::Data { error },
            error => QualityError::Features(error),
        }
    }
}

/// Pictures of a source that are looked at.
#[derive(Clone)]
struct Chosen {
    named: Named,
    images: Arc<[usize]>,
}

impl Chosen {
    /// `limit` of all, known by `name`.
    fn new(named: Named, limit: Limit, name: &str) -> Chosen {
        let all = named.source.len();
        Chosen { images: some_of(all, limit.of(all), name).into(), named }
    }

    /// `limit` of these.
    fn some(&self, limit: Limit, name: &str) -> Chosen {
        let places = some_of(self.images.len(), limit.of(self.images.len()), name);
        Chosen { named: self.named.clone(), images: places.into_iter().map(|place| self.images[place]).collect() }
    }

    fn taken(&self) -> Taken {
        Taken { pictures: self.images.len(), of: self.named.source.len() }
    }

    fn identities(&self, all: &[Identity]) -> Vec<Identity> {
        self.images.iter().map(|image| all[*image]).collect()
    }
}

impl Judge {
    /// Finds what can be known before anything is computed: whether labels of both meet, and whether `k` votes can be had.
    pub fn new(spec: &KnnSpec, bank: Named, queries: Named, ranks: Arc<dyn Ranks>) -> Result<Judge, QualityError> {
        let labels = match unlabelled(&bank, &queries) {
            Some(why) => Err(why),
            None => {
                let joined = source::join(&*bank.source, &*queries.source, (&bank.name, &queries.name))?;
                one_class(&bank).map_or(Ok(joined), Err)
            }
        };
        let bank = Chosen::new(bank, spec.bank_limit, "evaluate.knn.bank");
        let baseline_bank = bank.some(spec.baseline_limit, "evaluate.knn.baseline");
        let queries = Chosen::new(queries, spec.query_limit, "evaluate.knn.queries");
        let identities = OnceLock::new();
        let judge = Judge { ranks, bank, baseline_bank, queries, spec: spec.clone(), labels, identities };
        if judge.labels.is_ok() {
            let (k, rows) = (spec.k, judge.baseline_bank.images.len());
            if k == 0 || k > rows {
                return Err(KnnError::Neighbours { k, rows, own: false }.into());
            }
            // No picture stands so often in a bank that the others, as many as voters, are too few: only where most of the bank votes
            // is each picture looked up so early.
            if let (true, Some(found)) = (2 * k > rows, judge.identities()) {
                let of_bank = judge.baseline_bank.identities(&found.bank);
                check_others(k, &of_bank, &judge.queries.identities(&found.queries))?;
            }
        }
        Ok(judge)
    }

    /// Why nothing votes, where nothing does.
    pub fn no_votes(&self) -> Option<&str> {
        self.labels.as_ref().err().map(String::as_str)
    }

    /// What messages call the source of the queries.
    pub fn queries(&self) -> &str {
        &self.queries.named.name
    }

    /// Of the pictures, where one of both sources is in the other.
    fn identities(&self) -> Option<&Identities> {
        let find = || {
            let all = |chosen: &Chosen| source::identities(&*chosen.named.source);
            let (bank, queries) = (all(&self.bank), all(&self.queries));
            let of_bank: HashSet<&Identity> = bank.iter().collect();
            let meet = queries.iter().any(|identity| of_bank.contains(identity));
            meet.then_some(Identities { bank, queries })
        };
        self.identities.get_or_init(find).as_ref()
    }

    /// Figures of the features of `session`, one of `program`, and the map of the queries' features, made after `step` steps.
    pub fn model<E: Element>(
        &self,
        session: &mut dyn Session<E>,
        program: &Program,
        step: u64,
        look: Look<'_>,
    ) -> Result<(Quality, Option<FeatureMap>), QualityError> {
        let (quality, queries) = self.of_session(&self.bank, session, program, ("features", look))?;
        let classes = self.queries.named.source.classes();
        Ok((quality, feature_map(&queries.features, &queries.labels, classes, step)))
    }

    /// Figures of the features of `session`, which holds the values that the run began with: by the bank of the baselines.
    pub fn untrained<E: Element>(
        &self,
        session: &mut dyn Session<E>,
        program: &Program,
        look: Look<'_>,
    ) -> Result<Quality, QualityError> {
        Ok(self.of_session(&self.baseline_bank, session, program, ("features of the untrained encoder", look))?.0)
    }

    fn of_session<E: Element>(
        &self,
        bank: &Chosen,
        session: &mut dyn Session<E>,
        program: &Program,
        (what, look): (&str, Look<'_>),
    ) -> Result<(Quality, Made), QualityError> {
        let graph = program.features.as_ref().ok_or(QualityError::NoFeatures)?;
        let make =
            |batches: &mut EvalBatches, sink: Sink<'_, QualityError>| features::extract(session, graph, batches, sink);
        let (mut quality, queries) = self.judge(bank, program, graph, make, (what, look))?;
        quality.collapse = collapse(&queries.features);
        Ok((quality, queries))
    }

    /// Accuracy by the evaluation view's pixels, by the bank of the baselines. They have more dimensions than collapse could be told in.
    pub fn raw_pixels(&self, program: &Program, look: Look<'_>) -> Result<Quality, QualityError> {
        let graph = program.features.as_ref().ok_or(QualityError::NoFeatures)?;
        let view = graph.inputs.iter().find(|input| matches!(input.kind, InputKind::View { .. }));
        let view = view.ok_or(QualityError::NoFeatures)?;
        let make =
            |batches: &mut EvalBatches, sink: Sink<'_, QualityError>| pixels::raw_pixels(&view.name, batches, sink);
        let (mut quality, _) = self.judge(&self.baseline_bank, program, graph, make, ("raw pixels", look))?;
        if let (Some(knn), &[_, _, height, width]) = (&mut quality.knn, &view.ty.shape[..]) {
            let pooled = pixels::pooled_size((height, width));
            knn.pooled = Some(pooled).filter(|pooled| *pooled != (height, width));
        }
        Ok(quality)
    }

    /// Accuracy by the features that `make` gives to its sink, and those of the queries. The bank's are made where they vote, and not
    /// kept.
    fn judge(
        &self,
        bank: &Chosen,
        program: &Program,
        graph: &Graph,
        mut make: impl FnMut(&mut EvalBatches, Sink<'_, QualityError>) -> Result<(), QualityError>,
        (what, look): (&str, Look<'_>),
    ) -> Result<(Quality, Made), QualityError> {
        let engine = &*self.ranks;
        let of_bank = if self.labels.is_ok() { bank.images.len() } else { 0 };
        let (mut begun, of) = (0, of_bank + self.queries.images.len());
        let mut pass = |chosen: &Chosen, sink: Sink<'_, QualityError>| -> Result<Option<LeftOut>, QualityError> {
            let mut tell = |done: usize| match ranks::any(engine, look(Pass { what, done, of }).is_break()) {
                false => Ok(()),
                true => Err(QualityError::Stopped),
            };
            let batches = batches(program, graph, &chosen.named.source, chosen.images.clone())?;
            let mut batches = batches.of_rank(engine.rank(), engine.count());
            let mut done = begun;
            shared(engine, &mut batches, &mut make, &mut |made| {
                done += made.rows.len();
                sink(made)?;
                tell(done)
            })?;
            begun += chosen.images.len();
            // With those that are broken.
            tell(begun)?;
            Ok(left_out(engine, &batches, &chosen.named.name)?)
        };
        let mut queries = Made::default();
        let mut without = pass(&self.queries, &mut |made| {
            queries.append(&made);
            Ok(())
        })?;
        if let Some(row) = queries.features.first_not_finite() {
            return Err(KnnError::NotFinite { which: "query", row }.into());
        }
        let Ok(labels) = &self.labels else {
            return Ok((Quality { knn: None, collapse: None, left_out: without.into_iter().collect() }, queries));
        };
        let found = self.identities();
        let asked: Option<Vec<Identity>> =
            found.map(|found| queries.rows.iter().map(|row| found.queries[*row]).collect());
        let mut in_bank = HashSet::new();
        let KnnSpec { k, temperature, .. } = self.spec;
        // Each rank searches for its own share of the queries.
        let share = |rank: usize| rank * queries.rows.len() / engine.count();
        let own = share(engine.rank())..share(engine.rank() + 1);
        let shown = asked.as_ref().map(|asked| asked[own.clone()].to_vec());
        let mut search = Search::new(&queries.features.slice(own), k, shown)?;
        let of_bank = pass(bank, &mut |made| {
            let shown: Vec<Identity> =
                found.map_or(Vec::new(), |found| made.rows.iter().map(|row| found.bank[*row]).collect());
            in_bank.extend(shown.iter().copied());
            Ok(search.add(&made.features, &made.labels, &shown)?)
        })?;
        let left_one_out = asked.iter().flatten().filter(|identity| in_bank.contains(identity)).count();
        let predictions = ranks::of_each(engine, search.vote(temperature)?.predictions).concat();
        let of_bank_label = |label: &i64| labels.get(usize::try_from(*label).ok()?).copied();
        let joined: Vec<i64> = queries.labels.iter().map(|label| of_bank_label(label).unwrap_or(-1)).collect();
        let knn = Accuracy {
            share: accuracy(&predictions, &joined),
            chance: chance(&joined),
            queries: joined.len(),
            own: left_one_out,
            bank: bank.taken(),
            asked: self.queries.taken(),
            pooled: None,
        };
        // One source may be both.
        without = without.filter(|without| of_bank.as_ref() != Some(without));
        let left_out = of_bank.into_iter().chain(without).collect();
        Ok((Quality { knn: Some(knn), collapse: None, left_out }, queries))
    }
}

/// Why nothing votes between two sources of which one has no labels.
fn unlabelled(bank: &Named, queries: &Named) -> Option<String> {
    let without: Vec<&str> =
        [bank, queries].into_iter().filter(|n| n.source.classes().is_empty()).map(|n| n.name.as_str()).collect();
    match without[..] {
        [] => None,
        [one, other] if one != other => Some(format!("{one} and {other} have no labels")),
        [one, ..] => Some(format!("{one} has no labels")),
    }
}

/// Why nothing votes among pictures of one class: every answer would be right.
fn one_class(bank: &Named) -> Option<String> {
    match bank.source.classes() {
        [only] => Some(format!("all pictures of {} are of one class, `{only}`", bank.name)),
        _ => None,
    }
}

/// Accuracy of always answering the most frequent of `labels`.
fn chance(labels: &[i64]) -> f64 {
    let mut counts: Vec<usize> = Vec::new();
    for label in labels.iter().filter_map(|label| usize::try_from(*label).ok()) {
        counts.resize(counts.len().max(label + 1), 0);
        counts[label] += 1;
    }
    counts.into_iter().max().unwrap_or(0) as f64 / labels.len().max(1) as f64
}

/// Batches of `images` of `source` for an evaluation graph.
pub fn batches(
    program: &Program,
    graph: &Graph,
    source: &Arc<dyn Source>,
    images: Arc<[usize]>,
) -> Result<EvalBatches, DataError> {
    let spec = &program.spec;
    EvalBatches::over(source.clone(), images, &spec.views, &graph.inputs, spec.train.seed)
}
