//! Figures of what a model's features are worth, and why there are none.
//!
//! Before: [`super::judge`] has made them. After: `run` logs them.

use std::fmt;

use super::classify::ClassifyError;
use super::collapse::Collapse;
use super::features::FeaturesError;
use super::knn::KnnError;
use super::linear::Rate;
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
    /// Share of queries that are classified right: of kNN by the first `k`, of linear probing by the best that was tried.
    pub share: f64,
    /// What was tried, each with its share, in their order.
    pub tried: Vec<(Setting, f64)>,
    /// Of what `share` is, where the best of those tried was taken.
    pub best: Option<Setting>,
    /// The same for always answering the queries' most frequent class.
    pub chance: f64,
    pub queries: usize,
    /// Queries that lie in the bank themselves, each without a vote on itself.
    pub own: usize,
    /// Queries that a classifier was trained on.
    pub trained_on: usize,
    /// What those are called whose labels are known, and those that are asked for.
    pub words: (&'static str, &'static str),
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
    Rate(Rate),
    /// A fit that has converged.
    Exact,
}

impl Setting {
    /// As names of figures end.
    pub fn key(&self) -> String {
        match self {
            Setting::K(k) => format!("k{k}"),
            Setting::Rate(Rate { learning_rate, weight_decay: 0.0 }) => format!("lr{learning_rate}"),
            Setting::Rate(Rate { learning_rate, weight_decay }) => format!("lr{learning_rate}_wd{weight_decay}"),
            Setting::Exact => "exact".to_owned(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::K(k) => write!(f, "k = {k}"),
            Setting::Rate(Rate { learning_rate, weight_decay: 0.0 }) => write!(f, "learning rate {learning_rate}"),
            Setting::Rate(Rate { learning_rate, weight_decay }) => {
                write!(f, "learning rate {learning_rate}, weight decay {weight_decay}")
            }
            Setting::Exact => write!(f, "converged"),
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

    /// What was tried, for a line: the best (`learning rate 0.1`), or each of several (`k = 10: 91.0 %`).
    pub fn settings(&self) -> Vec<String> {
        match (self.best, &self.tried[..]) {
            (Some(best), _) => vec![best.to_string()],
            (None, [] | [_]) => Vec::new(),
            (None, tried) => tried.iter().map(|(it, share)| format!("{it}: {:.1} %", share * 100.0)).collect(),
        }
    }

    /// What it goes by where that is not all pictures as they are: `pooled to 32 × 32`, `bank 50000 of 1281167`.
    pub fn terms(&self) -> Vec<String> {
        let pooled = self.pooled.map(|(height, width)| format!("pooled to {height} × {width}"));
        let part =
            |name: &str, taken: Taken| (!taken.is_all()).then(|| format!("{name} {} of {}", taken.pictures, taken.of));
        let own = (self.trained_on > 0).then(|| format!("{} of {} were trained on", self.trained_on, self.queries));
        let (known, asked) = self.words;
        [pooled, part(known, self.bank), part(asked, self.asked), own].into_iter().flatten().collect()
    }
}

/// Why features could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    #[error("the pipeline has no features (help: add `evaluate {{ features = … }}` to it)")]
    NoFeatures,
    #[error("{by} wants labels: {why} (help: put pictures in a folder for each class, PATH/CLASS/picture.jpg)")]
    NoLabels { by: String, why: String },
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
