//! What tells a source from itself with pictures that came, went, or were renamed.
//!
//! Before: a source was opened. After: checkpoints keep its fingerprint, and a run that is taken up again compares.
//!
//! **Invariant:** it hangs on names and labels in their order, not on where the source lies, and on no picture's bytes: ten
//! million take seconds.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::Source;

/// Names that a change tells of those that came or went.
const NAMED: usize = 3;

/// What a source was when a checkpoint was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub pictures: usize,
    pub classes: Vec<String>,
    /// Over names and labels, in the order of the pictures.
    pub blake3: String,
}

impl Fingerprint {
    pub fn of(source: &(impl Source + ?Sized)) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        let mut feed = |name: &str, label: i64| {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&label.to_le_bytes());
        };
        for index in 0..source.len() {
            let (name, label) = (source.name(index), source.label(index).unwrap_or(-1));
            // Some file systems give another form of the same letters back than they were given.
            match name.is_ascii() {
                true => feed(&name, label),
                false => feed(&name.nfc().collect::<String>(), label),
            }
        }
        let classes = source.classes().iter().map(|class| class.nfc().collect()).collect();
        Fingerprint { pictures: source.len(), classes, blake3: hasher.finalize().to_hex().to_string() }
    }

    /// How `now` differs, as what follows the source's name; `None` where it does not.
    pub fn change(&self, now: &Fingerprint) -> Option<String> {
        if self == now {
            return None;
        }
        let counts = |f: &Fingerprint| match f.classes.len() {
            0 => pictures(f.pictures),
            1 => format!("{} in 1 class", pictures(f.pictures)),
            n => format!("{} in {n} classes", pictures(f.pictures)),
        };
        let missing = |from: &Fingerprint, other: &Fingerprint| -> Vec<String> {
            from.classes.iter().filter(|class| !other.classes.contains(class)).cloned().collect()
        };
        let (came, went) = (missing(now, self), missing(self, now));
        let mut parts = Vec::new();
        if (self.pictures, self.classes.len()) != (now.pictures, now.classes.len()) {
            parts.push(format!("had {} and has {}", counts(self), counts(now)));
        }
        for (what, names) in [("are new", &came), ("are gone", &went)] {
            if !names.is_empty() {
                let more = names.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let shown = names[..names.len().min(NAMED)].join("`, `");
                parts.push(format!("of its classes `{shown}`{more} {what}"));
            }
        }
        if parts.is_empty() {
            let short = |f: &Fingerprint| f.blake3[..f.blake3.len().min(12)].to_owned();
            parts.push(format!(
                "has {} as before, of other names or in another order: their sum was {} and is {}",
                counts(self),
                short(self),
                short(now)
            ));
        }
        Some(parts.join("; "))
    }
}

fn pictures(count: usize) -> String {
    match count {
        1 => "1 picture".to_owned(),
        n => format!("{n} pictures"),
    }
}
