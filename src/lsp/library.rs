//! The standard library, and the pipelines of the program, as files that editors can open: written out where somebody goes to them.
//!
//! **Invariant:** what stands in a file is the text that was compiled; files are read-only, since changing them changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::source::Source;

/// The file of a source: its own, or one that holds the library's text.
pub fn file(source: &Source) -> Option<PathBuf> {
    let name = match (source.name.strip_prefix("std/"), source.name.strip_prefix("std::")) {
        (Some(name), _) if source.library => name.to_owned(),
        (_, Some(pipeline)) => format!("{pipeline}.cmae"),
        _ => return Some(PathBuf::from(&source.name)),
    };
    let path = folder()?.join(format!("std-{}", &blake3::hash(source.text.as_bytes()).to_hex()[..12])).join(name);
    if fs::read(&path).is_ok_and(|there| there == source.text.as_bytes()) {
        return Some(path);
    }
    write(&path, &source.text).ok()?;
    Some(path)
}

/// Whether a file is the library's, written out.
pub fn holds(path: &Path) -> bool {
    folder().is_some_and(|folder| path.starts_with(folder))
}

/// What may be thrown away at any time, of this user.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("LOCALAPPDATA")).or_else(|| Some(set("HOME")?.join(".cache")));
    Some(cache.unwrap_or_else(std::env::temp_dir).join("cmae"))
}

/// Beside, and then in its place: another editor may be reading it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(file.path(), text)?;
    let mut permissions = file.as_file().metadata()?.permissions();
    permissions.set_readonly(true);
    file.as_file().set_permissions(permissions)?;
    file.persist(path)?;
    Ok(())
}
