//! Labels of two sources, joined by the names of their classes.
//!
//! Before: both are opened, each with labels of its own. After: `eval` compares labels of pictures of both.
//!
//! **Invariant:** a label counts within its own source alone; across sources the class's name does, in Unicode's composed form,
//! for one file system gives back what another decomposed.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

use super::Source;
use crate::data::DataError;
use crate::data::unknown_classes::UnknownClasses;

/// For each class of `other`, its label among the classes of `bank`; −1 for a class that no picture has.
///
/// # Errors
/// Where pictures of `other` are of a class that no picture of `bank` has. `names` are those of `bank` and `other`.
pub fn join(bank: &dyn Source, other: &dyn Source, names: (&str, &str)) -> Result<Vec<i64>, DataError> {
    let composed = |name: &String| name.nfc().collect::<String>();
    let (in_bank, in_other) = (counts(bank), counts(other));
    let there = |label: &usize| in_bank[*label] > 0;
    let known: HashMap<String, i64> =
        (0..in_bank.len()).filter(there).map(|label| (composed(&bank.classes()[label]), label as i64)).collect();
    let mut joined = vec![-1; in_other.len()];
    let mut unknown = Vec::new();
    for (label, class) in other.classes().iter().enumerate() {
        match known.get(&composed(class)) {
            _ if in_other[label] == 0 => {}
            Some(found) => joined[label] = *found,
            None => unknown.push((class.clone(), in_other[label])),
        }
    }
    if unknown.is_empty() {
        return Ok(joined);
    }
    Err(DataError::UnknownClasses(Box::new(UnknownClasses {
        bank: names.0.to_owned(),
        other: names.1.to_owned(),
        classes: in_other.iter().filter(|count| **count > 0).count(),
        known: (0..in_bank.len()).filter(there).map(|label| bank.classes()[label].clone()).collect(),
        unknown,
    })))
}

/// Pictures of each class, by its number; empty where pictures have none.
pub fn counts(source: &dyn Source) -> Vec<usize> {
    let mut counts = vec![0; source.classes().len()];
    for index in 0..source.len() {
        if let Some(count) = source.label(index).and_then(|label| counts.get_mut(label as usize)) {
            *count += 1;
        }
    }
    counts
}
