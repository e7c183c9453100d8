//! How far a tensor may lie from its reference: what a file advises, by the names of its tensors.

use serde::Serialize;

use crate::spec::glob_matches;

/// Largest distances that pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// Of max |x − reference| / max |reference|.
    pub max: f64,
    /// Of ‖x − reference‖ / ‖reference‖.
    pub rms: f64,
}

impl Tolerance {
    /// What holds where a file gives no advice: some hundred times the rounding of f32.
    pub const DEFAULT: Tolerance = Tolerance { max: 2e-5, rms: 1e-5 };
}

/// Tolerances by group. A group's name is a dotted prefix of tensor names; `*` stands for one component or more, and
/// within a component for any text: `grad`, `after.target`, `after.*.running_mean`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tolerances {
    pub groups: Vec<(String, Tolerance)>,
}

impl Tolerances {
    /// Group and tolerance of the most particular group that `name` lies in: the one with most components, of these
    /// the one with fewest `*`. So `after.*.running_mean` goes before `after.target`, and that before `after`.
    pub fn of(&self, name: &str) -> (&str, Tolerance) {
        let components: Vec<&str> = name.split('.').collect();
        let particular = |group: &str| (group.split('.').count(), std::cmp::Reverse(group.matches('*').count()));
        self.groups
            .iter()
            .filter(|(group, _)| is_prefix(&group.split('.').collect::<Vec<_>>(), &components))
            .max_by_key(|(group, _)| particular(group))
            .map_or(("default", Tolerance::DEFAULT), |(group, tolerance)| (group.as_str(), *tolerance))
    }
}

fn is_prefix(group: &[&str], name: &[&str]) -> bool {
    match (group, name) {
        ([], _) => true,
        (_, []) => false,
        (["*", group @ ..], [_, name @ ..]) => (0..=name.len()).any(|skipped| is_prefix(group, &name[skipped..])),
        ([first, group @ ..], [component, name @ ..]) => glob_matches(first, component) && is_prefix(group, name),
    }
}
