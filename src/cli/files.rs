//! The `.cmae` files that a folder holds, for commands that take folders.

use std::path::{Path, PathBuf};

/// All `.cmae` files below `folder`. Hidden ones are left out, and links to folders, which may lead in circles.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = open.pop() {
        let failed = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if kind.is_dir() && !is_hidden {
                open.push(path);
            } else if !kind.is_dir()
                && !is_hidden
                && path.extension().is_some_and(|ending| ending == "cmae")
                && path.is_file()
            {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    if found.is_empty() {
        return Err(format!(
            "{} holds no .cmae file\nhelp: name a folder of pipelines, such as `pipelines`",
            folder.display()
        ));
    }
    Ok(found)
}
