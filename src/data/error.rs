//! What can go wrong with data, in words for the user.
//!
//! **Invariant:** a message is one lower-case clause that names the value found and the value wanted; what to do about
//! it stands in [`DataError::help`].

use std::path::PathBuf;

use thiserror::Error;

use super::unknown_classes::UnknownClasses;
use crate::diag::Code;

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
    #[error("file `{}` does not exist", path.display())]
    FileNotFound {
        path: PathBuf,
        /// A sibling with a similar name, as the whole path.
        similar: Option<PathBuf>,
    },
    #[error("`{}` is no file", path.display())]
    NotAFile { path: PathBuf },
    /// Of a source that is read from other files than pictures.
    #[error("`{}` is no {kind}: {reason}", path.display())]
    WrongFormat {
        path: PathBuf,
        kind: &'static str,
        reason: String,
        /// What to do about it.
        help: String,
    },
    /// `passed` says what it holds instead.
    #[error("folder `{}` holds no {formats} {noun}", path.display())]
    EmptyFolder { path: PathBuf, formats: &'static str, noun: &'static str, passed: Vec<String> },
    /// Of pictures that were looked at.
    #[error("file `{}` does not exist, the label map of `{}`", path.display(), picture.display())]
    NoLabelMaps { path: PathBuf, picture: PathBuf },
    /// Pictures beside class folders: a label for some of them only.
    #[error("folder `{}` holds both {pictures} {noun}s and {folders} folders of {noun}s", path.display())]
    Mixed { path: PathBuf, pictures: usize, folders: usize, noun: &'static str },
    /// Of a source whose pictures have colour or are gray, and nothing else.
    #[error("pictures of `{call}` have {found} channel{}, `data.channels` says {channels}", if *found == 1 { "" } else { "s" })]
    NoSuchChannels { call: &'static str, found: usize, channels: usize },
    #[error("unknown split `{split}` of digits, which has `train` and `val`")]
    UnknownSplit { split: String },
    #[error("batch of {batch} pictures, but source `{source_name}` has only {len}")]
    BatchTooLarge { batch: usize, len: usize, source_name: String },
    /// `limit` is the share that the pipeline allows; `last` says which picture failed last, and why.
    #[error("{broken} of {tried} pictures are broken, more than the allowed share of {limit}; the last is {last}")]
    TooManyBroken { broken: usize, tried: usize, limit: f64, last: String },
    /// Boxed, for errors are small.
    #[error(transparent)]
    UnknownClasses(Box<UnknownClasses>),
    /// All that were tried.
    #[error("none of {tried} pictures of `{source_name}` that were tried can be read; the last is {last}")]
    NoneReadable { source_name: String, tried: usize, last: String },
    #[error("the views of one sample start from two sources, `data.{first}` and `data.{other}`")]
    SeveralSources { first: String, other: String },
    #[error("the loader's threads cannot be started: {message}")]
    Threads { message: String },
    #[error("a thread of the loader ended after {made} of {of} batches")]
    ThreadEnded { made: u64, of: u64 },
    #[error("`{}` cannot be read", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl DataError {
    /// Its section of the page about data.
    pub fn code(&self) -> Code {
        match self {
            DataError::FolderNotFound { .. }
            | DataError::FileNotFound { .. }
            | DataError::NoLabelMaps { .. }
            | DataError::UnknownSplit { .. } => Code::DataNotFound,
            DataError::FolderGone { .. } => Code::DataGone,
            DataError::NotAFolder { .. } => Code::DataNotAFolder,
            DataError::NotAFile { .. } | DataError::WrongFormat { .. } => Code::DataWrongFormat,
            DataError::EmptyFolder { .. } => Code::DataEmptyFolder,
            DataError::Mixed { .. } => Code::DataMixedFolder,
            DataError::NoSuchChannels { .. } => Code::DataChannels,
            DataError::BatchTooLarge { .. } => Code::DataTooFewPictures,
            DataError::TooManyBroken { .. } => Code::DataTooManyBroken,
            DataError::UnknownClasses { .. } => Code::DataUnknownClasses,
            DataError::NoneReadable { .. } => Code::DataNoneReadable,
            DataError::SeveralSources { .. } => Code::DataSeveralSources,
            DataError::Threads { .. } | DataError::ThreadEnded { .. } => Code::DataNoThreads,
            DataError::Io { .. } => Code::DataUnreadable,
        }
    }

    /// What the user may do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            DataError::FolderNotFound { similar: Some(similar), .. }
            | DataError::FileNotFound { similar: Some(similar), .. } => {
                Some(format!("did you mean `{}`?", similar.display()))
            }
            DataError::FolderNotFound { similar: None, .. } | DataError::FileNotFound { similar: None, .. } => {
                Some("a relative path starts at the folder the command runs in".to_owned())
            }
            DataError::NoLabelMaps { .. } => Some(
                "name the folder in which they lie as the pictures do, each a PNG of the picture's name".to_owned(),
            ),
            DataError::NotAFile { .. } => Some("name the file itself, plain or compressed by gzip".to_owned()),
            DataError::WrongFormat { help, .. } => Some(help.clone()),
            DataError::FolderGone { .. } => Some(
                "put it back or mount it again, then go on with --resume: nothing was trained without it".to_owned(),
            ),
            DataError::NotAFolder { path } => {
                path.parent().filter(|p| !p.as_os_str().is_empty()).map(|p| format!("try `{}`", p.display()))
            }
            DataError::EmptyFolder { passed, noun, .. } => {
                let wanted = match *noun {
                    "picture" | "array" => {
                        format!("put {noun}s in PATH/CLASS/, or directly in PATH if they have no labels")
                    }
                    _ => format!("name the folder that its {noun}s lie in"),
                };
                let found: Vec<&str> = passed.iter().map(String::as_str).chain([&*wanted]).collect();
                Some(found.join("\n"))
            }
            DataError::Mixed { noun, .. } => {
                Some(format!("move the loose {noun}s into a class folder, or all of them into one folder"))
            }
            DataError::NoSuchChannels { found, .. } => Some(format!("write `channels = {found}` in `data`")),
            DataError::UnknownSplit { split } => ["train", "val"]
                .into_iter()
                .find(|name| split.starts_with(&name[..1]))
                .map(|name| format!("did you mean `{name}`?")),
            DataError::BatchTooLarge { len, .. } => Some(format!("set `batch_size` to at most {len}")),
            DataError::TooManyBroken { .. } => {
                Some("mend or remove them, or allow more: --set data.max_broken=5%".to_owned())
            }
            DataError::UnknownClasses(unknown) => Some(unknown.help()),
            DataError::NoneReadable { .. } => Some("check that the files are complete pictures".to_owned()),
            DataError::SeveralSources { first, .. } => Some(format!("let every view derive from `data.{first}`")),
            DataError::Threads { .. } => Some("ask for fewer: --threads 2".to_owned()),
            DataError::ThreadEnded { .. } => {
                Some("a line above says why, please report it; --resume goes on from the last checkpoint".to_owned())
            }
            DataError::Io { source, .. } => Some(source.to_string()),
        }
    }
}
