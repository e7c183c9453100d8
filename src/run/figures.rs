//! The figures of a line of metrics, by name: what events, CSV and the terminal's view show of it.
//!
//! Before: [`super::metrics`] reads and writes lines. After: every reader of them names a figure in the same way.
//!
//! **Invariant:** each number of a line is a figure but its step, which says when, and its `wall_time`, which says so too.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// When a line was written, in seconds since 1970.
pub const WALL_TIME: &str = "wall_time";

/// Seconds since 1970; 0 before.
pub(super) fn wall_time(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A number of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure<'a> {
    /// `losses`, `monitors`, `evaluation`; `None` for figures of the line itself.
    pub group: Option<&'a str>,
    pub name: &'a str,
    pub value: f64,
}

impl Figure<'_> {
    /// `losses/reconstruction`, with `separator` between group and name.
    pub fn path(&self, separator: char) -> String {
        match self.group {
            Some(group) => format!("{group}{separator}{}", self.name),
            None => self.name.to_owned(),
        }
    }
}

/// The figures of `line`. What was not finite is `null` in JSON, and no figure.
pub fn figures(line: &Value) -> Vec<Figure<'_>> {
    let mut found = Vec::new();
    for (key, value) in line.as_object().into_iter().flatten() {
        match value {
            Value::Object(group) => {
                found.extend(group.iter().filter_map(|(name, value)| {
                    let value = value.as_f64()?;
                    Some(Figure { group: Some(key), name, value })
                }));
            }
            _ if key == "step" || key == WALL_TIME => {}
            _ => found.extend(value.as_f64().map(|value| Figure { group: None, name: key, value })),
        }
    }
    found
}

/// After how many steps `line` was taken.
pub fn step(line: &Value) -> Option<u64> {
    line.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{figures, step};

    #[test]
    fn every_number_but_the_step_has_a_name() {
        let line = json!({
            "step": 7,
            "wall_time": 1.5e9,
            "loss": 0.5,
            "losses": { "contrastive": 0.25, "lost": null },
            "note": "text",
        });
        let found: Vec<(String, f64)> = figures(&line).iter().map(|f| (f.path('/'), f.value)).collect();
        assert_eq!(found, [("loss".to_owned(), 0.5), ("losses/contrastive".to_owned(), 0.25)]);
        assert_eq!(step(&line), Some(7));
    }
}
