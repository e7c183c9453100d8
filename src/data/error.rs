//! What can go wrong with data, in words for the user.
//!
//! **Invariant:** a message is one lower-case clause that names the value found and the value wanted; what to do about
//! it stands in [`DataError::help`].

use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum DataError {
    #[error("folder `{}` does not exist", path.display())]
    FolderNotFound {
        path: PathBuf,
        /// A sibling with a similar name, as the whole path.
        similar: Option<PathBuf>,
    },
    /// While a run read from it.
    #[error("folder `{}` was there when the run began and is gone", path.display())]
    FolderGone { path: PathBuf },
    #[error("`{}` is a file, not a folder", path.display())]
    NotAFolder { path: PathBuf },
    #[error("folder `{}` holds no jpg, jpeg, png or webp file", path.display())]
    EmptyFolder { path: PathBuf },
    /// Pictures beside class folders: a label for some of them only.
    #[error("folder `{}` holds both {pictures} pictures and {folders} folders of pictures", path.display())]
    Mixed { path: PathBuf, pictures: usize, folders: usize },
    #[error("unknown split `{split}` of digits, which has `train` and `val`")]
    UnknownSplit { split: String },
    #[error("batch of {batch} pictures, but source `{source_name}` has only {len}")]
    BatchTooLarge { batch: usize, len: usize, source_name: String },
    #[error(
        "an epoch of source `{source_name}` has {len} pictures, a step wants {}: `batch_size` {batch_size} times \
         `accumulate` {accumulate}",
        batch_size * accumulate
    )]
    AccumulationTooLong { batch_size: usize, accumulate: usize, len: usize, source_name: String },
    /// `limit` is the share that the pipeline allows; `last` says which picture failed last, and why.
    #[error("{broken} of {tried} pictures are broken, more than the allowed share of {limit}; the last is {last}")]
    TooManyBroken { broken: usize, tried: usize, limit: f64, last: String },
    /// Pictures of classes whose names the other source lacks: (class, pictures).
    #[error("{} of {classes} classes of `{other}` are not among those of `{bank}`, such as {}; `{bank}` has {}",
        unknown.len(), examples(unknown), listed(known))]
    UnknownClasses { bank: String, other: String, classes: usize, known: Vec<String>, unknown: Vec<(String, usize)> },
    #[error("the pipeline reads the labels of `data.{source_name}`, whose pictures have none")]
    LabelsMissing { source_name: String },
    /// All that were tried.
    #[error("none of {tried} pictures of `{source_name}` that were tried can be read; the last is {last}")]
    NoneReadable { source_name: String, tried: usize, last: String },
    #[error("the views of one sample start from two sources, `data.{first}` and `data.{other}`")]
    SeveralSources { first: String, other: String },
    #[error("the loader's threads cannot be started: {message}")]
    Threads { message: String },
    #[error("`{}` cannot be read", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl DataError {
    /// What the user may do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            DataError::FolderNotFound { similar: Some(similar), .. } => {
                Some(format!("did you mean `{}`?", similar.display()))
            }
            DataError::FolderNotFound { similar: None, .. } => {
                Some("a relative path starts at the folder the command runs in".to_owned())
            }
            DataError::FolderGone { .. } => Some(
                "put it back or mount it again, then go on with --resume: nothing was trained without it".to_owned(),
            ),
            DataError::NotAFolder { path } => {
                path.parent().filter(|p| !p.as_os_str().is_empty()).map(|p| format!("try `{}`", p.display()))
            }
            DataError::EmptyFolder { .. } => {
                Some("put pictures in PATH/CLASS/, or directly in PATH if they have no labels".to_owned())
            }
            DataError::Mixed { .. } => {
                Some("move the loose pictures into a class folder, or all of them into one folder".to_owned())
            }
            DataError::UnknownSplit { split } => ["train", "val"]
                .into_iter()
                .find(|name| split.starts_with(&name[..1]))
                .map(|name| format!("did you mean `{name}`?")),
            DataError::BatchTooLarge { len, .. } => Some(format!("set `batch_size` to at most {len}")),
            DataError::AccumulationTooLong { batch_size, len, .. } => {
                Some(format!("set `train.accumulate` to at most {}", len / batch_size))
            }
            DataError::TooManyBroken { .. } => {
                Some("check that the files are complete jpeg, png or webp pictures, or raise `max_broken`".to_owned())
            }
            DataError::UnknownClasses { other, classes: 1, unknown, .. } => Some(format!(
                "labels go by the names of folders: put the pictures of `{other}` in a folder for each class in the place of \
                 `{}`, or leave kNN out: --set evaluate.knn=none",
                unknown[0].0
            )),
            DataError::UnknownClasses { .. } => {
                Some("labels go by the names of folders: name those of one class alike in both".to_owned())
            }
            DataError::LabelsMissing { .. } => {
                Some("put its pictures in a folder for each class: PATH/CLASS/picture.jpg".to_owned())
            }
            DataError::NoneReadable { .. } => Some("check that the files are complete pictures".to_owned()),
            DataError::SeveralSources { first, .. } => Some(format!("let every view derive from `data.{first}`")),
            DataError::Threads { .. } => Some("ask for fewer: --threads 2".to_owned()),
            DataError::Io { source, .. } => Some(source.to_string()),
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
