//! The files that a source's path names: one, those of a range in braces, or those of a folder.
//!
//! **Invariant:** the list hangs on the path and on names alone, never on the order of the file system.

use std::path::{Path, PathBuf};

use super::DataError;
use super::litter::is_litter;

/// Files that one path may name.
const MOST: u64 = 1_000_000;
/// Folders within folders that are looked into: links may lead in circles.
const DEEPEST: usize = 16;

/// What a source reads its pictures from.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Of its files' names, without the dot.
    pub ending: &'static str,
    /// What messages call such a file.
    pub noun: &'static str,
    /// As the language calls the source.
    pub call: &'static str,
    /// Whether files in folders within the folder count.
    pub below: bool,
}

/// The files that `pattern` names, in its order; those of a folder by their names.
pub fn paths(pattern: &str, kind: Kind) -> Result<Vec<PathBuf>, DataError> {
    let path = Path::new(pattern);
    if !path.is_dir() {
        return Ok(expand(pattern, kind)?.into_iter().map(PathBuf::from).collect());
    }
    let mut found = Vec::new();
    list(path, kind, if kind.below { DEEPEST } else { 0 }, &mut found)?;
    found.sort();
    if found.is_empty() {
        let (path, passed) = (path.to_owned(), Vec::new());
        return Err(DataError::EmptyFolder { path, formats: kind.ending, noun: kind.noun, passed });
    }
    Ok(found)
}

fn list(folder: &Path, kind: Kind, deeper: usize, found: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let error = |source| DataError::Io { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.file_name().is_none_or(is_litter) {
            continue;
        }
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(kind.ending)) {
            found.push(path);
        } else if deeper > 0 && path.is_dir() {
            list(&path, kind, deeper - 1, found)?;
        }
    }
    Ok(())
}

/// Each range in braces, `{000..999}`, counted through with as many digits as its ends have.
pub fn expand(pattern: &str, kind: Kind) -> Result<Vec<String>, DataError> {
    let Some((before, rest)) = pattern.split_once('{') else { return Ok(vec![pattern.to_owned()]) };
    let range = rest.split_once('}').and_then(|(range, after)| {
        let (first, last) = range.split_once("..")?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let ends = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        (is_number(first) && is_number(last) && ends.0 <= ends.1 && ends.1 - ends.0 < MOST).then_some((
            ends,
            first.len(),
            after,
        ))
    });
    let Some(((first, last), digits, after)) = range else {
        return Err(DataError::WrongFormat {
            path: pattern.into(),
            kind: "path of files",
            reason: "braces hold two numbers, the first no larger, such as `{000..999}`".to_owned(),
            help: format!("write `{}(\"PATH/{{000..999}}.{}\")`", kind.call, kind.ending),
        });
    };
    let behind = expand(after, kind)?;
    if (last - first + 1).saturating_mul(behind.len() as u64) > MOST {
        return Err(DataError::WrongFormat {
            path: pattern.into(),
            kind: "path of files",
            reason: format!("it names more than {MOST} files"),
            help: "name fewer".to_owned(),
        });
    }
    let numbered =
        (first..=last).flat_map(|number| behind.iter().map(move |after| format!("{before}{number:0digits$}{after}")));
    Ok(numbered.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_counted_through() {
        let kind = Kind { ending: "tar", noun: "shard", call: "tar_shards", below: false };
        let expanded = |pattern: &str| expand(pattern, kind).map_err(|error| error.to_string());
        assert_eq!(expanded("a.tar"), Ok(vec!["a.tar".to_owned()]));
        assert_eq!(
            expanded("s-{08..11}.tar").map(|all| all.join(" ")),
            Ok("s-08.tar s-09.tar s-10.tar s-11.tar".to_owned())
        );
        assert_eq!(expanded("{0..1}/{5..6}").map(|all| all.join(" ")), Ok("0/5 0/6 1/5 1/6".to_owned()));
        for wrong in ["{a..b}.tar", "{3..1}.tar", "{0..9", "{0,1}.tar", "{0..99999999}", "{0..9999}{0..9999}"] {
            assert!(expand(wrong, kind).is_err(), "{wrong}");
        }
    }
}
