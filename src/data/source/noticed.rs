//! What was seen of values that 8 bits do not hold: each kind is told once.

use std::sync::{Mutex, PoisonError};

use crate::data::decode::Deep;

#[derive(Default)]
pub struct Noticed(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    few: bool,
    clipped: bool,
    news: Vec<String>,
}

/// The source that a picture is of, as messages write it.
pub struct Of<'a> {
    /// The call without its range: `image_folder("PATH"`.
    pub call: &'a str,
    /// What of the values becomes black and white.
    pub range: (f64, f64),
    /// Between commas: `, of 16 bits,`.
    pub kind: &'a str,
}

impl Noticed {
    /// Notes what `deep` says of the picture `name`.
    pub fn note(&self, name: &str, deep: Deep, of: &Of<'_>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Deep { least, greatest, levels, clipped } = deep;
        let Of { call, range: (low, high), kind } = of;
        if clipped && !std::mem::replace(&mut seen.clipped, true) {
            seen.news.push(format!(
                "{name} has values from {least} to {greatest}, beyond `range: {low}..{high}`: what is outside becomes black or \
                 white"
            ));
        } else if !clipped && !std::mem::replace(&mut seen.few, true) {
            // The full range of so many bits, where they are whole.
            let is_whole = least >= 0.0 && (1.0..=65535.0).contains(&greatest) && greatest.fract() == 0.0;
            let (low, top) = match is_whole {
                true => (0.0, f64::from((greatest as u32 + 1).next_power_of_two() - 1)),
                false => (least, greatest),
            };
            seen.news.push(format!(
                "{name} keeps {levels} of 256 levels: its values{kind} run from {least} to {greatest}; write {call}, range: \
                 {low}..{top})"
            ));
        }
    }

    /// Since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).news)
    }
}
