//! What a path that leads nowhere may have meant.

use std::path::{Path, PathBuf};

/// Least Jaro-Winkler similarity of a name worth proposing.
const SIMILAR: f64 = 0.8;

/// The sibling of `path` whose name is most like its own, among those that `is_wanted`.
pub fn similar(path: &Path, is_wanted: fn(&Path) -> bool) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let entries = std::fs::read_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).ok()?;
    let scored = entries.flatten().filter(|entry| is_wanted(&entry.path())).filter_map(|entry| {
        let sibling = entry.file_name().into_string().ok()?;
        Some((strsim::jaro_winkler(name, &sibling), sibling))
    });
    // The name settles ties: the order of `read_dir` is not the same everywhere.
    let best = scored.filter(|(score, _)| *score >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    Some(parent.join(best.1))
}
