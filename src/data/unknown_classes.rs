//! Classes that one source has and another lacks, as an error says them.
//!
//! Before: `source` joins the labels of both. After: [`super::DataError`] holds it.

/// Pictures of classes that the other source lacks.
#[derive(Debug, thiserror::Error)]
#[error("{} of {classes} classes of `{other}` are not among those of `{bank}`, such as {}; `{bank}` has {}",
    unknown.len(), examples(unknown), listed(known))]
pub struct UnknownClasses {
    pub bank: String,
    pub other: String,
    /// Of the other source, with pictures.
    pub classes: usize,
    /// Those of the bank.
    pub known: Vec<String>,
    /// (class, pictures).
    pub unknown: Vec<(String, usize)>,
}

impl UnknownClasses {
    /// What the user may do about it.
    pub fn help(&self) -> String {
        match (self.classes, &self.unknown[..]) {
            (1, [(only, _)]) => format!(
                "labels go by the names of folders: put the pictures of `{}` in a folder for each class in the place of `{only}`, or \
                 leave kNN out: --set evaluate.knn=none",
                self.other
            ),
            _ => "labels go by the names of folders: name those of one class alike in both, or leave kNN out: --set \
                  evaluate.knn=none"
                .to_owned(),
        }
    }
}

/// Names that a message lists.
const LISTED: usize = 5;

/// The first of the classes, each with how many pictures it has.
fn examples(unknown: &[(String, usize)]) -> String {
    let example = |(class, count): &(String, usize)| match count {
        1 => format!("`{class}` (1 picture)"),
        n => format!("`{class}` ({n} pictures)"),
    };
    unknown.iter().take(2).map(example).collect::<Vec<_>>().join(" and ")
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let shown = names[..names.len().min(LISTED)].join("`, `");
    if more > 0 { format!("`{shown}` and {more} more") } else { format!("`{shown}`") }
}
