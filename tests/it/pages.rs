//! Markdown pages as tests: fenced blocks in their order, and rewriting them.
//!
//! `UPDATE_EXPECT=1` writes what came out where something else was expected.

use std::fs;
use std::path::PathBuf;

use crate::command::updates_expected;

/// A fenced block.
pub struct Fence {
    /// What stands behind the opening fence: `cmae`, `text`, `console`.
    pub info: String,
    pub text: String,
    /// The last heading before it.
    pub heading: String,
    /// Byte range of the text in the page.
    range: std::ops::Range<usize>,
}

pub struct Page {
    path: PathBuf,
    text: String,
    pub fences: Vec<Fence>,
    /// (fence, new text).
    changes: Vec<(usize, String)>,
}

impl Page {
    pub fn read(path: PathBuf) -> Page {
        let text = fs::read_to_string(&path).expect("the page is in the repository");
        let mut fences: Vec<Fence> = Vec::new();
        let (mut heading, mut open, mut at) = (String::new(), None::<(String, usize)>, 0);
        for line in text.split_inclusive('\n') {
            let next = at + line.len();
            match (line.trim_end().strip_prefix("```"), open.take()) {
                (Some(info), None) => open = Some((info.to_owned(), next)),
                (Some(_), Some((info, start))) => {
                    let text = text[start..at].to_owned();
                    fences.push(Fence { info, text, heading: heading.clone(), range: start..at });
                }
                (None, None) => {
                    if let Some(title) = line.strip_prefix('#') {
                        heading = title.trim_start_matches('#').trim().to_owned();
                    }
                }
                (None, still) => open = still,
            }
            at = next;
        }
        Page { path, text, fences, changes: Vec::new() }
    }

    /// Expects fence `index` to hold `found`; where it does not, says so, or notes the change.
    pub fn expect(&mut self, index: usize, found: &str) -> Result<(), String> {
        let fence = &self.fences[index];
        // Trailing blanks are no part of what a reader sees.
        let found: String = found.lines().flat_map(|line| [line.trim_end(), "\n"]).collect::<Vec<_>>().concat();
        if fence.text == found {
            return Ok(());
        }
        if updates_expected() {
            self.changes.push((index, found));
            return Ok(());
        }
        Err(format!(
            "{}, `{}`: expected\n{}\nfound\n{found}\n(UPDATE_EXPECT=1 takes what was found)",
            self.path.display(),
            fence.heading,
            fence.text,
        ))
    }

    /// Writes the changes, if there are any.
    pub fn finish(mut self) {
        if self.changes.is_empty() {
            return;
        }
        for (index, found) in self.changes.into_iter().rev() {
            self.text.replace_range(self.fences[index].range.clone(), &found);
        }
        fs::write(&self.path, self.text).expect("the page can be written");
    }
}
