//! Figures of what a model's features are worth, and why there are none.
//!
//! Before: [`super::judge`] has made them. After: `run` logs them.

use std::fmt;

use super::classify::ClassifyError;
use super::collapse::Collapse;
use super::features::FeaturesError;
use super::knn::KnnError;
use super::shared::LeftOut;
use crate::data::DataError;

/// Figures of one set of features.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quality {
    /// Of each evaluation, by its name. None where nothing can be told by labels.
    pub accuracies: Vec<(String, Accuracy)>,
    /// Of the queries' features, by the output that they are. None for raw pixels.
    pub collapse: Vec<(String, Collapse)>,
    /// What was not judged, of each source.
    pub left_out: Vec<LeftOut>,
}

impl Quality {
    /// What the evaluation of this name found.
    pub fn accuracy(&self, name: &str) -> Option<&Accuracy> {
        self.accuracies.iter().find(|(of, _)| of == name).map(|(_, accuracy)| accuracy)
    }

    /// Of `features`.
    pub fn of_features(&self) -> Option<&Collapse> {
        self.collapse.iter().find(|(output, _)| output == "features").map(|(_, collapse)| collapse)
    }

    /// Adds what was found for other pictures.
    pub fn append(&mut self, other: Quality) {
        self.accuracies.extend(other.accuracies);
        for (output, collapse) in other.collapse {
            if !self.collapse.iter().any(|(known, _)| *known == output) {
                self.collapse.push((output, collapse));
            }
        }
        for left_out in other.left_out {
            if !self.left_out.contains(&left_out) {
                self.left_out.push(left_out);
            }
        }
    }
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Share of queries that are classified right: of kNN with several `k` by the first of them.
    pub share: f64,
    /// Where several settings were tried, each with its share, in their order.
    pub tried: Vec<(Setting, f64)>,
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

/// One of several settings of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    K(usize),
}

impl Setting {
    /// As names of figures end.
    pub fn key(&self) -> String {
        match self {
            Setting::K(k) => format!("k{k}"),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::K(k) => write!(f, "k = {k}"),
        }
    }
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

    /// What was tried, for a line: `k = 10: 91.0 %`.
    pub fn each(&self) -> Vec<String> {
        self.tried.iter().map(|(setting, share)| format!("{setting}: {:.1} %", share * 100.0)).collect()
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
    #[error(transparent)]
    Classify(#[from] ClassifyError),
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
