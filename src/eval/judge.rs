//! Judges what a model's features are worth, and what they have to beat.
//!
//! Before: `train`, or a checkpoint, gives parameters. After: [`super::quality`] holds the figures.
//!
//! Evaluations that take the same pictures share a judge: each picture is encoded once for all of them, and each takes its own
//! columns of what the graph's outputs give.
//!
//! **Invariant:** the model is not trained, every figure is over all pictures of a source that can be read, and who is left out is
//! counted with it. Labels of two sources meet by the names of their classes alone.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::chosen::{Chosen, Named, Taking};
use super::collapse::collapse;
use super::features::{self, Features, Made};
use super::knn::{KnnError, Search, accuracy, check_others};
use super::map::{FeatureMap, feature_map};
use super::neighbours::{ASKING, Near, Nearby};
use super::pass::{Look, Pass};
use super::pixels;
use super::probes::Probes;
use super::quality::{Accuracy, Quality, QualityError, Setting};
use super::shared::{LeftOut, Sink, left_out, shared};
use crate::backend::Session;
use crate::data::DataError;
use crate::data::evaluation::EvalBatches;
use crate::data::source::{self, Identity, Source};
use crate::graph::{Graph, InputKind, Program};
use crate::ranks::{self, Ranks};
use crate::spec::{Evaluation, Judging, KnnSpec};
use crate::tensor::Element;

/// The sources that some evaluations take, opened. Ranks share pictures and what is made of them; each has the figures.
pub struct Judge {
    ranks: Arc<dyn Ranks>,
    evaluations: Vec<Evaluation>,
    /// Pictures whose labels are known to those who classify the queries.
    bank: Chosen,
    /// What of it the baselines have.
    baseline_bank: Chosen,
    queries: Chosen,
    /// For each class of the queries, its label among the bank's; or why nothing can be told by labels.
    labels: Result<Vec<i64>, String>,
    identities: OnceLock<Option<Identities>>,
}

/// Of all pictures of both sources.
struct Identities {
    bank: Vec<Identity>,
    queries: Vec<Identity>,
}

/// Which evaluations are wanted.
type Chooses<'c> = &'c dyn Fn(&Evaluation) -> bool;

/// Gives features of batches to a sink.
type Make<'m> = &'m mut dyn FnMut(&mut EvalBatches, Sink<'_, QualityError>) -> Result<(), QualityError>;

/// What was found of the features of a model.
pub struct Found {
    pub quality: Quality,
    /// Of the queries' features.
    pub map: Option<FeatureMap>,
    /// Some queries with those of the bank that are nearest by `features`; none without labels, where no bank is looked through.
    pub near: Vec<Near>,
}

/// What is judged in one go: some evaluations, by the columns of the rows that are made of each picture.
struct Going<'e> {
    evaluations: Vec<(&'e Evaluation, Range<usize>)>,
    bank: &'e Chosen,
    /// What is made of the pictures, for who waits.
    what: &'static str,
    /// The first columns of a row, by which neighbours are found: 0 where nobody asks.
    near: usize,
}

/// An evaluation that goes over the bank.
enum Running {
    Knn(Search),
    /// Which of the kept features it trains on.
    Linear(usize),
}

/// Features of the bank that are held, since classifiers are trained on them.
#[derive(Default)]
struct Kept {
    /// Each once, whoever is trained on them, with their columns of the rows.
    features: Vec<(Range<usize>, Features)>,
    labels: Vec<i64>,
}

impl Kept {
    /// The place of those of `columns`.
    fn place(&mut self, columns: &Range<usize>) -> usize {
        self.features.iter().position(|(known, _)| known == columns).unwrap_or_else(|| {
            self.features.push((columns.clone(), Features::default()));
            self.features.len() - 1
        })
    }

    fn add(&mut self, made: &Made) -> Result<(), KnnError> {
        if self.features.is_empty() {
            return Ok(());
        }
        if let Some(&label) = made.labels.iter().find(|&&label| label < 0) {
            return Err(KnnError::NegativeLabel(label));
        }
        if let Some(row) = made.features.first_not_finite() {
            return Err(KnnError::NotFinite { which: "training", row: self.labels.len() + row });
        }
        for (columns, features) in &mut self.features {
            features.append(&columns_of(&made.features, columns));
        }
        self.labels.extend(&made.labels);
        Ok(())
    }
}

impl Judge {
    /// Judges for `evaluations`: one for those of the same pictures. `open` gives a source by its name.
    pub fn all(
        evaluations: &[Evaluation],
        open: &mut dyn FnMut(&str) -> Named,
        ranks: &Arc<dyn Ranks>,
    ) -> Result<Vec<Judge>, QualityError> {
        let mut groups: Vec<(Taking, Vec<Evaluation>)> = Vec::new();
        for evaluation in evaluations {
            let taking = Taking::of(evaluation);
            match groups.iter_mut().find(|(other, _)| *other == taking) {
                Some((_, group)) => group.push(evaluation.clone()),
                None => groups.push((taking, vec![evaluation.clone()])),
            }
        }
        let judge = |(taking, group): (Taking, Vec<Evaluation>)| {
            Judge::new(group, open(&taking.bank.0), open(&taking.queries.0), ranks.clone())
        };
        groups.into_iter().map(judge).collect()
    }

    /// A judge for `evaluations`, at least one, that take the same pictures of `bank` and `queries`. Finds what can be known before
    /// anything is computed: whether labels of both meet, and whether `k` votes can be had.
    pub fn new(
        evaluations: Vec<Evaluation>,
        bank: Named,
        queries: Named,
        ranks: Arc<dyn Ranks>,
    ) -> Result<Judge, QualityError> {
        let taking = evaluations.first().map(Taking::of);
        let Some(taking) = taking else { return Err(QualityError::NoFeatures) };
        let labels = match unlabelled(&bank, &queries) {
            Some(why) => Err(why),
            None => {
                let joined = source::join(&*bank.source, &*queries.source, (&bank.name, &queries.name))?;
                one_class(&bank).map_or(Ok(joined), Err)
            }
        };
        let bank = match taking.of_each_class {
            true => Chosen::of_each_class(bank, taking.bank.1, "evaluate.linear.train"),
            false => Chosen::new(bank, taking.bank.1, "evaluate.knn.bank"),
        };
        let baseline_bank = bank.some(taking.baseline, "evaluate.knn.baseline");
        let queries = Chosen::new(queries, taking.queries.1, "evaluate.knn.queries");
        let identities = OnceLock::new();
        let judge = Judge { ranks, bank, baseline_bank, queries, evaluations, labels, identities };
        if judge.labels.is_ok() {
            judge.evaluations.iter().try_for_each(|evaluation| judge.check(evaluation))?;
        }
        Ok(judge)
    }

    fn check(&self, evaluation: &Evaluation) -> Result<(), QualityError> {
        match &evaluation.how {
            Judging::Knn(spec) => self.check_neighbours(spec),
            Judging::Linear(_) => Ok(()),
        }
    }

    fn check_neighbours(&self, spec: &KnnSpec) -> Result<(), QualityError> {
        let rows = self.baseline_bank.images.len();
        if let Some(&k) = spec.k.iter().find(|&&k| k == 0 || k > rows) {
            return Err(KnnError::Neighbours { k, rows, own: false }.into());
        }
        let k = spec.k.iter().copied().max().unwrap_or(0);
        // No picture stands so often in a bank that the others, as many as voters, are too few: only where most of the bank votes
        // is each picture looked up so early.
        if let (true, Some(found)) = (2 * k > rows, self.identities()) {
            let of_bank = self.baseline_bank.identities(&found.bank);
            check_others(k, &of_bank, &self.queries.identities(&found.queries))?;
        }
        Ok(())
    }

    /// Why nothing can be told by labels, where nothing can.
    pub fn no_labels(&self) -> Option<&str> {
        self.labels.as_ref().err().map(String::as_str)
    }

    /// What messages call the source of the queries.
    pub fn queries(&self) -> &str {
        &self.queries.named.name
    }

    pub fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    /// The pictures, where one of both sources is in the other.
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

    /// What is found by those evaluations that are `due`, of the features of `session`, one of `program`, made after `step` steps.
    pub fn model<E: Element>(
        &self,
        session: &mut dyn Session<E>,
        program: &Program,
        (due, step): (&dyn Fn(&Evaluation) -> bool, u64),
        look: Look<'_>,
    ) -> Result<Found, QualityError> {
        let (quality, queries, near) = self.of_session((&self.bank, "features", due), session, program, look)?;
        let classes = self.queries.named.source.classes();
        Ok(Found { quality, map: feature_map(&queries.features, &queries.labels, classes, step), near })
    }

    /// The sources: of those that vote, and of those that are judged.
    pub fn sources(&self) -> (&Named, &Named) {
        (&self.bank.named, &self.queries.named)
    }

    /// Some queries with those of the bank that are nearest by the features of `session`.
    pub fn near<E: Element>(
        &self,
        session: &mut dyn Session<E>,
        program: &Program,
        look: Look<'_>,
    ) -> Result<Vec<Near>, QualityError> {
        Ok(self.of_session((&self.bank, "features", &|_| false), session, program, look)?.2)
    }

    /// Figures of the features of `session`, which holds the values that the run began with: by the bank of the baselines.
    pub fn untrained<E: Element>(
        &self,
        session: &mut dyn Session<E>,
        program: &Program,
        look: Look<'_>,
    ) -> Result<Quality, QualityError> {
        let going = (&self.baseline_bank, "features of the untrained encoder", &|_: &Evaluation| true);
        Ok(self.of_session((going.0, going.1, going.2), session, program, look)?.0)
    }

    /// By the outputs that the evaluations judge, each made once. Gives `features` of the queries too, and what is nearest to some.
    fn of_session<E: Element>(
        &self,
        (bank, what, due): (&Chosen, &'static str, Chooses<'_>),
        session: &mut dyn Session<E>,
        program: &Program,
        look: Look<'_>,
    ) -> Result<(Quality, Made, Vec<Near>), QualityError> {
        let graph = program.features.as_ref().ok_or(QualityError::NoFeatures)?;
        let due: Vec<&Evaluation> = self.evaluations.iter().filter(|evaluation| due(evaluation)).collect();
        // What the map shows, whatever is judged.
        let mut outputs = vec!["features".to_owned()];
        for evaluation in &due {
            if !outputs.contains(&evaluation.output) {
                outputs.push(evaluation.output.clone());
            }
        }
        let mut columns = Vec::new();
        let mut first = 0;
        for output in &outputs {
            let id = graph.output(output).ok_or(QualityError::NoFeatures)?;
            let dim = graph.node(id).ty.shape.last().copied().unwrap_or(0);
            columns.push(first..first + dim);
            first += dim;
        }
        let of = |evaluation: &Evaluation| outputs.iter().position(|output| *output == evaluation.output);
        let evaluations = due.iter().filter_map(|evaluation| Some((*evaluation, columns[of(evaluation)?].clone())));
        let near = columns.first().map_or(0, |features| features.end);
        let going = Going { evaluations: evaluations.collect(), bank, what, near };
        let mut make = |batches: &mut EvalBatches, sink: Sink<'_, QualityError>| {
            features::extract_all(session, graph, &outputs, batches, sink)
        };
        let (mut quality, queries, near) = self.judge(&going, (program, graph), &mut make, look)?;
        for (output, columns) in outputs.into_iter().zip(&columns) {
            quality.collapse.extend(collapse(&columns_of(&queries.features, columns)).map(|found| (output, found)));
        }
        let features = match &columns[..] {
            [_] | [] => queries.features,
            [first, ..] => queries.features.columns(first.clone()),
        };
        Ok((quality, Made { features, ..queries }, near))
    }

    /// Accuracies by the evaluation view's pixels, by the bank of the baselines. They have more dimensions than collapse could be
    /// told in.
    pub fn raw_pixels(&self, program: &Program, look: Look<'_>) -> Result<Quality, QualityError> {
        let graph = program.features.as_ref().ok_or(QualityError::NoFeatures)?;
        let view = graph.inputs.iter().find(|input| matches!(input.kind, InputKind::View { .. }));
        let view = view.ok_or(QualityError::NoFeatures)?;
        let &[_, channels, height, width] = &view.ty.shape[..] else { return Err(QualityError::NoFeatures) };
        let pooled = pixels::pooled_size((height, width));
        let mut make =
            |batches: &mut EvalBatches, sink: Sink<'_, QualityError>| pixels::raw_pixels(&view.name, batches, sink);
        let all = 0..channels * pooled.0 * pooled.1;
        let evaluations = self.evaluations.iter().map(|evaluation| (evaluation, all.clone())).collect();
        let going = Going { evaluations, bank: &self.baseline_bank, what: "raw pixels", near: 0 };
        let (mut quality, ..) = self.judge(&going, (program, graph), &mut make, look)?;
        if pooled != (height, width) {
            quality.accuracies.iter_mut().for_each(|(_, accuracy)| accuracy.pooled = Some(pooled));
        }
        Ok(quality)
    }

    /// Accuracies by the features that `make` gives to its sink, those of the queries, and what is nearest to some of them. The bank's are made where they are
    /// wanted, and not kept but by who says so.
    fn judge(
        &self,
        going: &Going<'_>,
        (program, graph): (&Program, &Graph),
        make: Make<'_>,
        look: Look<'_>,
    ) -> Result<(Quality, Made, Vec<Near>), QualityError> {
        let engine = &*self.ranks;
        let Going { evaluations, bank, what, near } = going;
        let judged = evaluations.iter().map(|(evaluation, _)| evaluation.output.clone());
        let outputs: Vec<String> = judged.chain(["features".to_owned()]).collect();
        let of_bank = if self.labels.is_ok() { bank.images.len() } else { 0 };
        let (mut begun, of) = (0, of_bank + self.queries.images.len());
        let mut pass = |chosen: &Chosen, sink: Sink<'_, QualityError>| -> Result<Option<LeftOut>, QualityError> {
            let mut tell = |done: usize| match ranks::any(engine, look(Pass { what, done, of }).is_break()) {
                false => Ok(()),
                true => Err(QualityError::Stopped),
            };
            let batches = batches(program, graph, &outputs, &chosen.named.source, chosen.images.clone())?;
            let mut batches = batches.of_rank(engine.rank(), engine.count());
            let mut done = begun;
            shared(engine, &mut batches, &mut *make, &mut |made| {
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
            let left_out = without.into_iter().collect();
            return Ok((Quality { left_out, ..Quality::default() }, queries, Vec::new()));
        };
        let found = self.identities();
        let asked: Option<Vec<Identity>> =
            found.map(|found| queries.rows.iter().map(|row| found.queries[*row]).collect());
        let mut in_bank = HashSet::new();
        // Each rank searches for its own share of the queries.
        let share = |rank: usize| rank * queries.rows.len() / engine.count();
        let own = share(engine.rank())..share(engine.rank() + 1);
        let (mut running, mut kept) = (Vec::new(), Kept::default());
        for (evaluation, columns) in evaluations {
            running.push(match &evaluation.how {
                Judging::Knn(spec) => {
                    let shown = asked.as_ref().map(|asked| asked[own.clone()].to_vec());
                    let features = queries.features.slice(own.clone());
                    Running::Knn(Search::new(&columns_of(&features, columns), &spec.k, shown)?)
                }
                Judging::Linear(_) => Running::Linear(kept.place(columns)),
            });
        }
        let sources = (&*self.queries.named.source, &*self.bank.named.source);
        let mut nearby = (*near > 0).then(|| Nearby::new(&queries, ASKING, *near, sources.0, sources.1));
        let of_bank = pass(bank, &mut |made| {
            nearby.iter_mut().for_each(|nearby| nearby.add(&made));
            let shown: Vec<Identity> =
                found.map_or(Vec::new(), |found| made.rows.iter().map(|row| found.bank[*row]).collect());
            in_bank.extend(shown.iter().copied());
            for (running, (_, columns)) in running.iter_mut().zip(evaluations) {
                if let Running::Knn(search) = running {
                    search.add(&columns_of(&made.features, columns), &made.labels, &shown)?;
                }
            }
            Ok(kept.add(&made)?)
        })?;
        let of_bank_label = |label: &i64| labels.get(usize::try_from(*label).ok()?).copied();
        let joined: Vec<i64> = queries.labels.iter().map(|label| of_bank_label(label).unwrap_or(-1)).collect();
        let in_both = asked.iter().flatten().filter(|identity| in_bank.contains(identity)).count();
        let classes = self.bank.named.source.classes().len();
        let mut probes = Probes::new(kept.features, kept.labels, classes, (&queries.features, &joined));
        let mut accuracies = Vec::new();
        for (running, (evaluation, _)) in running.into_iter().zip(evaluations) {
            let found = Accuracy {
                share: 0.0,
                tried: Vec::new(),
                best: None,
                chance: chance(&joined),
                queries: joined.len(),
                own: 0,
                trained_on: 0,
                words: ("bank", "queries"),
                bank: bank.taken(),
                asked: self.queries.taken(),
                pooled: None,
            };
            let found = match (running, &evaluation.how) {
                (Running::Knn(search), Judging::Knn(spec)) => {
                    let mut tried = Vec::new();
                    for (found, k) in search.vote(spec.temperature)?.into_iter().zip(&spec.k) {
                        let predictions = ranks::of_each(engine, found.predictions).concat();
                        tried.push((Setting::K(*k), accuracy(&predictions, &joined)));
                    }
                    let share = tried.first().map_or(0.0, |(_, share)| *share);
                    Accuracy { share, tried, own: in_both, ..found }
                }
                (Running::Linear(place), Judging::Linear(spec)) => {
                    let tried = probes.tried(place, &spec.solver, engine, &mut *look)?;
                    // The first of equals.
                    let best = tried.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
                    let (best, share) = best.map_or((None, 0.0), |(best, share)| (Some(best), share));
                    Accuracy { share, tried, best, trained_on: in_both, words: ("train", "val"), ..found }
                }
                _ => unreachable!("what runs was made of the same evaluation"),
            };
            accuracies.push((evaluation.name.clone(), found));
        }
        // One source may be both.
        without = without.filter(|without| of_bank.as_ref() != Some(without));
        let left_out = of_bank.into_iter().chain(without).collect();
        let near = nearby.map_or_else(Vec::new, Nearby::found);
        Ok((Quality { accuracies, collapse: Vec::new(), left_out }, queries, near))
    }
}

/// `columns` of `features`, which are often all of them.
fn columns_of<'f>(features: &'f Features, columns: &Range<usize>) -> Cow<'f, Features> {
    match *columns == (0..features.dim) {
        true => Cow::Borrowed(features),
        false => Cow::Owned(features.columns(columns.clone())),
    }
}

/// Why labels tell nothing between two sources of which one has none.
fn unlabelled(bank: &Named, queries: &Named) -> Option<String> {
    let without: Vec<&str> =
        [bank, queries].into_iter().filter(|n| n.source.classes().is_empty()).map(|n| n.name.as_str()).collect();
    match without[..] {
        [] => None,
        [one, other] if one != other => Some(format!("{one} and {other} have no labels")),
        [one, ..] => Some(format!("{one} has no labels")),
    }
}

/// Why labels tell nothing among pictures of one class: every answer would be right.
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
    outputs: &[String],
    source: &Arc<dyn Source>,
    images: Arc<[usize]>,
) -> Result<EvalBatches, DataError> {
    let spec = &program.spec;
    EvalBatches::over(source.clone(), images, &spec.views, &graph.inputs_of(outputs), spec.train.seed)
}
