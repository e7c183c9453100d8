//! How one parameter is updated: the settings of `train` and the rules of `train.parameters`, looked up once.

use crate::graph::TensorDecl;
use crate::spec::{Duration, ParameterRule, Schedule, TrainSpec};

/// Settings of one trained tensor; see [`ParameterRule`].
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub weight_decay: Schedule,
    pub learning_rate: Schedule,
    pub learning_rate_factor: f64,
    pub adaptation: bool,
    pub frozen_until: Option<Duration>,
    /// False where no gradient can arrive: such a parameter stays as it is, as in PyTorch.
    pub reached: bool,
}

impl Group {
    /// For each setting the first rule that matches the parameter and gives that setting counts.
    pub fn new(train: &TrainSpec, decl: &TensorDecl, reached: bool) -> Group {
        let matching: Vec<&ParameterRule> =
            train.rules.iter().filter(|rule| rule.selector.matches(&decl.path, decl.role)).collect();
        let schedule = |of: fn(&ParameterRule) -> Option<&Schedule>, default: &Schedule| {
            matching.iter().find_map(|rule| of(rule)).unwrap_or(default).clone()
        };
        Group {
            weight_decay: schedule(|rule| rule.weight_decay.as_ref(), train.optimizer.weight_decay()),
            learning_rate: schedule(|rule| rule.learning_rate.as_ref(), &train.learning_rate),
            learning_rate_factor: matching.iter().find_map(|rule| rule.learning_rate_factor).unwrap_or(1.0),
            adaptation: matching.iter().find_map(|rule| rule.adaptation).unwrap_or(true),
            frozen_until: matching.iter().find_map(|rule| rule.frozen_until),
            reached,
        }
    }
}
