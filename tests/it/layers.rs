//! The floors of `src/`: imports go down only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::root;

/// Modules of one floor import those of the floors below, and themselves; what is listed behind a module is the one
/// thing of its own floor that it may import. The highest floor first.
const FLOORS: [&[(&str, &[&str])]; 10] = [
    &[("cli", &[])],
    &[("verify", &["train"]), ("train", &["eval"]), ("report", &["eval"]), ("eval", &[])],
    &[("data", &["backend"]), ("run", &["backend", "data"]), ("backend", &[])],
    &[("plan", &[])],
    &[("graph", &[])],
    &[("shape", &[])],
    &[("elab", &[])],
    &[("decl", &["spec", "op"]), ("syntax", &[]), ("op", &[]), ("spec", &[])],
    &[("diag", &[])],
    &[("source", &[])],
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Modules that a text names behind `crate::` (in the binary, `cmae::`).
fn imported(text: &str, word: &str) -> BTreeSet<String> {
    let name = |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().map(str::to_owned);
    let mut found = BTreeSet::new();
    for part in text.split(word).skip(1) {
        match part.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                found.extend(list.split(',').filter_map(|item| name(item.trim())));
            }
            None => found.extend(name(part)),
        }
    }
    found
}

#[test]
fn imports_go_down_only() {
    let floor_of = |module: &str| FLOORS.iter().position(|floor| floor.iter().any(|(name, _)| *name == module));
    let mut paths = Vec::new();
    files(&root("src"), &mut paths);
    let (mut faults, mut checked) = (Vec::new(), 0);
    for path in paths {
        let relative = path.strip_prefix(root("src")).expect("it lies there").to_owned();
        let first = relative.components().next().expect("a file has a name").as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let Some(floor) = floor_of(module) else {
            faults.push(format!("`{module}` stands on no floor"));
            continue;
        };
        let beside = FLOORS[floor].iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, beside)| beside);
        let text = fs::read_to_string(&path).expect("it can be read");
        for import in imported(&text, if module == "cli" { "cmae::" } else { "crate::" }) {
            let Some(other) = floor_of(&import) else { continue };
            checked += 1;
            if import != module && other <= floor && !beside.contains(&import.as_str()) {
                faults.push(format!("{} imports `{import}`, which does not lie below `{module}`", relative.display()));
            }
        }
    }
    assert!(checked > 100, "the test finds the imports: {checked}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
