//! The `evaluate` section: what is judged, on how many pictures, how often.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Duration;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct EvaluateSpec {
    /// In the order of the file, each by a name of its own.
    pub evaluations: Vec<Evaluation>,
    pub classifications: Vec<Classification>,
    pub segmentations: Vec<Segmentation>,
    pub reconstructions: Option<ReconstructionsSpec>,
}

/// Logits whose largest is the answer: `classify`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// That of its definition, or `classify`. Its figures begin with it.
    pub name: String,
    /// The output of the evaluation graph that holds them, [B, K].
    pub output: String,
    /// The source whose K classes they count.
    pub classes: String,
    pub queries: String,
    pub query_limit: Limit,
    pub every: Duration,
}

impl Classification {
    /// The sources that it reads.
    pub fn sources(&self) -> [&str; 2] {
        [&self.classes, &self.queries]
    }
}

/// Classes of pixels beside those of label maps: `segment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segmentation {
    /// That of its definition, or `segment`. Its figures begin with it.
    pub name: String,
    /// The output of the evaluation graph that says what pixels are taken for, Int [B, H, W].
    pub output: String,
    /// That with the label maps, Int [B, H, W], −1 where a pixel has no class.
    pub wanted: String,
    pub classes: usize,
    pub queries: String,
    pub query_limit: Limit,
    pub every: Duration,
}

/// One way to judge, of one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// That of its definition, or of what is called. Its figures begin with it.
    pub name: String,
    /// The output of the evaluation graph that is judged.
    pub output: String,
    pub how: Judging,
}

/// The name of an evaluation as it is told to people.
pub fn title(name: &str) -> String {
    match name {
        "knn" => "kNN".to_owned(),
        "linear" => "linear probing".to_owned(),
        "classify" => "top-1".to_owned(),
        "segment" => "segmentation".to_owned(),
        name => name.to_owned(),
    }
}

/// How a value is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Judging {
    Knn(KnnSpec),
    Linear(LinearSpec),
}

impl Evaluation {
    pub fn every(&self) -> Duration {
        match &self.how {
            Judging::Knn(spec) => spec.every,
            Judging::Linear(spec) => spec.every,
        }
    }

    pub fn title(&self) -> String {
        title(&self.name)
    }

    /// The sources that it reads: what is known, and what is asked.
    pub fn sources(&self) -> [&str; 2] {
        match &self.how {
            Judging::Knn(spec) => [&spec.bank, &spec.queries],
            Judging::Linear(spec) => [&spec.train, &spec.val],
        }
    }
}

impl EvaluateSpec {
    /// Names of all that is judged, in the order of the file but for classifications and segmentations, which stand last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let evaluations = self.evaluations.iter().map(|evaluation| &evaluation.name);
        let classifications = self.classifications.iter().map(|classification| &classification.name);
        let segmentations = self.segmentations.iter().map(|segmentation| &segmentation.name);
        evaluations.chain(classifications).chain(segmentations).map(String::as_str)
    }

    /// The sources that are judged by, each as often as it is.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let evaluations = self.evaluations.iter().flat_map(Evaluation::sources);
        let classifications = self.classifications.iter().flat_map(Classification::sources);
        evaluations.chain(classifications).chain(self.segmentations.iter().map(|segmentation| &*segmentation.queries))
    }

    /// The first kNN.
    pub fn knn(&self) -> Option<&KnnSpec> {
        self.evaluations.iter().find_map(|evaluation| match &evaluation.how {
            Judging::Knn(spec) => Some(spec),
            Judging::Linear(_) => None,
        })
    }
}

/// As it is written in run folders: those of versions that knew one kNN alone have it by itself.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    evaluations: Vec<Evaluation>,
    #[serde(default)]
    classifications: Vec<Classification>,
    #[serde(default)]
    segmentations: Vec<Segmentation>,
    #[serde(default)]
    knn: Option<KnnSpec>,
    reconstructions: Option<ReconstructionsSpec>,
}

impl From<Stored> for EvaluateSpec {
    fn from(stored: Stored) -> Self {
        let Stored { mut evaluations, classifications, segmentations, knn, reconstructions } = stored;
        let alone =
            |spec| Evaluation { name: "knn".to_owned(), output: "features".to_owned(), how: Judging::Knn(spec) };
        evaluations.extend(knn.map(alone));
        EvaluateSpec { evaluations, classifications, segmentations, reconstructions }
    }
}

/// Weighted kNN (Wu et al. 2018): votes exp(cosine / temperature) of the `k` nearest of `bank`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnnSpec {
    pub bank: String,
    pub queries: String,
    /// One, or several that are told side by side.
    #[serde(deserialize_with = "one_or_several")]
    pub k: Vec<usize>,
    pub temperature: f64,
    pub every: Duration,
    /// Pictures of the bank that vote, and queries that are classified.
    #[serde(default)]
    pub bank_limit: Limit,
    #[serde(default)]
    pub query_limit: Limit,
    /// Of those of the bank, the pictures that vote on what a model has to beat: raw pixels and the untrained encoder.
    #[serde(default = "baseline_limit")]
    pub baseline_limit: Limit,
}

/// Pictures of a bank that baselines take where nothing is said: with more their accuracy hardly changes, and each evaluation that
/// takes a run up again waits for them.
pub const BASELINE_LIMIT: Limit = Limit::Count(50_000);

/// Linear probing (He et al. 2022, appendix A.1): a linear classifier of frozen features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearSpec {
    pub train: String,
    pub val: String,
    pub every: Duration,
    pub solver: Solver,
    /// Pictures that are trained on: less than all are drawn evenly over the classes.
    pub train_limit: Limit,
    pub val_limit: Limit,
    /// Of those that are trained on, the ones for raw pixels and the untrained encoder.
    pub baseline_limit: Limit,
}

/// How a linear classifier is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Solver {
    /// By SGD with momentum, one classifier for each learning rate and weight decay; the best is told.
    Sgd { learning_rates: Vec<f64>, weight_decays: Vec<f64>, epochs: usize, batch_size: usize },
    /// Logistic regression until it has converged.
    Exact,
}

impl LinearSpec {
    /// Two a decade. Few pictures make few steps, which want large rates: 1 and more for the embedded digits.
    pub const LEARNING_RATES: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
    /// He et al. 2022's.
    pub const EPOCHS: usize = 90;
    pub const BATCH_SIZE: usize = 256;
}

impl Default for Solver {
    fn default() -> Solver {
        Solver::Sgd {
            learning_rates: LinearSpec::LEARNING_RATES.to_vec(),
            weight_decays: vec![0.0],
            epochs: LinearSpec::EPOCHS,
            batch_size: LinearSpec::BATCH_SIZE,
        }
    }
}

/// Runs of versions that knew one `k` alone have a number.
fn one_or_several<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(usize),
        Several(Vec<usize>),
    }
    Ok(match Written::deserialize(from)? {
        Written::One(one) => vec![one],
        Written::Several(several) => several,
    })
}

/// Of runs that were started before there was such a limit.
fn baseline_limit() -> Limit {
    BASELINE_LIMIT
}

/// How many of some pictures are taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Limit {
    /// So many, or all where there are fewer.
    Count(usize),
    /// That part of them, above 0 and up to 1.
    Share(f64),
}

impl Default for Limit {
    fn default() -> Limit {
        Limit::Share(1.0)
    }
}

impl Limit {
    /// Whether it takes all of any number of pictures.
    pub fn is_all(self) -> bool {
        self == Limit::default()
    }

    /// Of `pictures`: at least one, where there is one.
    pub fn of(self, pictures: usize) -> usize {
        let taken = match self {
            Limit::Count(count) => count,
            Limit::Share(share) => (share * pictures as f64).round() as usize,
        };
        taken.max(1).min(pictures)
    }
}

impl FromStr for Limit {
    type Err = String;

    /// As it is written: `50000` or `10%`.
    fn from_str(text: &str) -> Result<Limit, String> {
        let limit = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().map(|percent: f64| Limit::Share(percent / 100.0)),
            None => text.trim().parse().ok().map(Limit::Count),
        };
        match limit {
            Some(limit @ Limit::Count(1..)) => Ok(limit),
            Some(limit @ Limit::Share(share)) if share > 0.0 && share <= 1.0 => Ok(limit),
            _ => Err("it is neither a count of pictures such as 50000 nor a share such as 10%".to_owned()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReconstructionsSpec {
    pub count: usize,
    pub every: Duration,
    /// The view whose mean and std turn the pictures back into colours.
    pub view: String,
    /// The source that the pictures are taken from.
    pub source: String,
}
