//! The floors of `src/`: imports go down only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Ident, Item, UseTree, Visibility};

use crate::command::root;

/// Modules of one floor import those of the floors below, and themselves; what is listed behind a module is the one
/// thing of its own floor that it may import. The highest floor first.
const FLOORS: [&[(&str, &[&str])]; 10] = [
    &[("cli", &[])],
    &[("verify", &["train"]), ("train", &["eval"]), ("report", &["eval"]), ("eval", &[]), ("export", &[])],
    &[("data", &[]), ("run", &["data"]), ("backend", &[])],
    &[("plan", &[]), ("ranks", &[]), ("lsp", &[]), ("weights", &[])],
    &[("graph", &[])],
    &[("shape", &[])],
    &[("elab", &[]), ("format", &[])],
    &[("decl", &["spec", "op"]), ("tensor", &["op", "spec"]), ("syntax", &[]), ("op", &[]), ("spec", &[])],
    &[("diag", &[])],
    &[("source", &[]), ("wide", &[]), ("pattern", &[])],
];

/// Files of Rust below `folder` and the module that each is, as names from the crate's root down.
fn files(folder: &Path, module: &[String], found: &mut Vec<(PathBuf, Vec<String>)>) {
    for entry in fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("it can be read").path();
        let stem = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let below = || module.iter().cloned().chain([stem.clone()]).collect::<Vec<_>>();
        if path.is_dir() {
            files(&path, &below(), found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let is_its_folder = ["mod", "lib", "main"].contains(&stem.as_str());
            found.push((path.clone(), if is_its_folder { module.to_vec() } else { below() }));
        }
    }
}

/// What a file names of its crate: names below the root that `use`, paths in code and macros lead to.
struct Names<'w> {
    /// By which name the crate goes: `cmae` in the binary.
    word: &'w str,
    /// The module that is looked at, which `self` and `super` start from.
    module: Vec<String>,
    found: BTreeSet<String>,
}

impl Names<'_> {
    /// Notes what a path leads to, if it is one into the crate.
    fn note(&mut self, path: &[String]) {
        let up = path.iter().take_while(|name| *name == "super").count();
        let rest = &path[up..];
        if up > 0 {
            let below = self.module.len().saturating_sub(up);
            self.found.extend(self.module[..below].iter().chain(rest).next().cloned());
        } else if rest.first().is_some_and(|name| *name == self.word) {
            self.found.extend(rest.get(1).cloned());
        }
    }

    fn note_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(name) => self.note(&with(&name.ident)),
            UseTree::Glob(_) => self.note(before),
        }
    }

    /// Paths within a macro's text, whatever the macro makes of it.
    fn note_text(&mut self, text: &str) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut path: Vec<String> = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |length| start + length);
            if rest[..start].trim() != "::" {
                self.note(&path);
                path.clear();
            }
            path.push(rest[start..end].to_owned());
            rest = &rest[end..];
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.note_text(&item.tokens.to_string());
        visit::visit_macro(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

fn names(text: &str, word: &str, module: &[&str]) -> BTreeSet<String> {
    let file = syn::parse_file(text).expect("it compiles");
    let module = module.iter().map(|name| (*name).to_owned()).collect();
    let mut names = Names { word, module, found: BTreeSet::new() };
    names.visit_file(&file);
    names.found
}

/// What stands in the crate's root beside modules, by the module that it comes from: its own items belong above all modules but `cli`.
fn at_the_root() -> BTreeMap<String, Option<String>> {
    fn leaves(tree: &UseTree, first: Option<&Ident>, found: &mut BTreeMap<String, Option<String>>) {
        match tree {
            UseTree::Path(path) => leaves(&path.tree, first.or(Some(&path.ident)), found),
            UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, first, found)),
            UseTree::Name(name) => drop(found.insert(name.ident.to_string(), first.map(Ident::to_string))),
            UseTree::Rename(name) => drop(found.insert(name.rename.to_string(), first.map(Ident::to_string))),
            UseTree::Glob(_) => panic!("what a glob in lib.rs brings in cannot be told"),
        }
    }
    let text = fs::read_to_string(root("src/lib.rs")).expect("it is there");
    let mut found = BTreeMap::new();
    for item in syn::parse_file(&text).expect("it compiles").items {
        match item {
            Item::Use(item) if matches!(item.vis, Visibility::Public(_)) => leaves(&item.tree, None, &mut found),
            Item::Fn(item) => drop(found.insert(item.sig.ident.to_string(), None)),
            _ => {}
        }
    }
    found
}

#[test]
fn imports_go_down_only() {
    let floor_of = |module: &str| FLOORS.iter().position(|floor| floor.iter().any(|(name, _)| *name == module));
    for (module, beside) in FLOORS.iter().copied().flatten() {
        let there =
            |name: &str| root(&format!("src/{name}.rs")).is_file() || root(&format!("src/{name}/mod.rs")).is_file();
        assert!(there(module), "`{module}` stands on a floor, and there is no such module");
        assert!(
            beside.iter().all(|name| floor_of(name) == floor_of(module)),
            "`{module}`: {beside:?} are of its floor"
        );
    }
    let at_the_root = at_the_root();
    let mut paths = Vec::new();
    files(&root("src"), &[], &mut paths);
    let (mut faults, mut checked, mut used) = (Vec::new(), 0, BTreeSet::new());
    for (path, module) in paths {
        let path_names: Vec<&str> = module.iter().map(String::as_str).collect();
        // `lib.rs` and `main.rs` stand above all.
        let Some(first) = path_names.first() else { continue };
        let Some((own, beside)) = FLOORS.iter().copied().flatten().find(|(name, _)| name == first) else {
            faults.push(format!("`{first}` stands on no floor"));
            continue;
        };
        let floor = floor_of(own).expect("it was found there");
        let text = fs::read_to_string(&path).expect("it can be read");
        let word = if *own == "cli" { "cmae" } else { "crate" };
        for name in names(&text, word, &path_names) {
            let import = match at_the_root.get(&name) {
                Some(Some(module)) => module,
                Some(None) => "cli",
                None => &name,
            };
            let relative = path.strip_prefix(root("")).expect("it lies there").display();
            let Some(other) = floor_of(import) else {
                faults.push(format!("{relative} names `{name}`, which is neither a module nor in lib.rs"));
                continue;
            };
            checked += usize::from(import != *own);
            used.extend(beside.iter().find(|name| **name == import).map(|name| (*own, *name)));
            if import != *own && other <= floor && !beside.contains(&import) && *own != "cli" {
                faults.push(format!("{relative} imports `{import}`, which does not lie below `{own}`"));
            }
        }
    }
    assert!(checked > 300, "the test finds the imports: {checked}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (module, beside) in FLOORS.iter().copied().flatten() {
        for name in *beside {
            assert!(used.contains(&(module, name)), "`{module}` may import `{name}` and does not: leave it out");
        }
    }
}

#[test]
fn imports_of_every_spelling_are_seen() {
    let text = r#"
        use crate::{diag::{Code, suggest}, op as operations};
        pub use crate::spec::Spec;
        use super::super::graph::Graph;
        use std::{fmt, crate_like::other};
        fn f(x: crate::shape::Typed) -> Vec<crate::elab::Set> {
            let y = crate::plan::lower(x);
            println!("{} {:?}", crate::data::image::decode(y), super::Own);
            macro_rules! m { () => { $crate::backend::open() } }
            match y { crate::train::Some { .. } => vec![super::super::eval::knn] }
        }
        mod inner { use super::super::super::run::folder; use super::g; }
        trait T where Self: crate::verify::U {}
    "#;
    let found = names(text, "crate", &["report", "page"]);
    let expected = [
        "backend", "data", "diag", "elab", "eval", "graph", "op", "plan", "report", "run", "shape", "spec", "train",
        "verify",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(names("use cmae::{run::RunFolder, train}; use crate::cli;", "cmae", &["cli"]).len(), 2);
}
