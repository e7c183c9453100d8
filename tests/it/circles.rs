//! Files of one folder of `src/` import without circles: each can be read after those that it builds on.
//!
//! A folder's own file (`mod.rs`) is its face: it speaks of its files and they may use what it defines, so it is none of them.
//! What it only passes on is an import of the file that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::command::root;

/// A module, by its path from the crate's root: `["plan", "fuse"]`.
type Module = Vec<String>;

/// What a file says of others.
#[derive(Default)]
struct File {
    /// Paths as they are written, made absolute, from whichever module of the file.
    paths: Vec<Vec<String>>,
    /// Names that the module has from elsewhere, by `use`: the absolute path of each.
    names: BTreeMap<String, Vec<String>>,
}

/// Reads a file's paths; `at` is the module that is read at the moment.
struct Reader {
    file: File,
    of: Module,
    at: Module,
}

impl Reader {
    /// A path that begins with `crate`, `self` or `super` made absolute; of others nothing is known.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut module = match path.first()?.as_str() {
            // The binary's files call the library by its name.
            "crate" | "cmae" => Module::new(),
            "self" | "super" => self.at.clone(),
            _ => return None,
        };
        let mut rest = &path[1..];
        if path[0] == "super" {
            module.pop();
        }
        while let Some(("super", behind)) = rest.split_first().map(|(first, behind)| (first.as_str(), behind)) {
            module.pop();
            rest = behind;
        }
        module.extend_from_slice(rest);
        Some(module)
    }

    fn seen(&mut self, path: &[String]) {
        self.file.paths.extend(self.absolute(path));
    }

    fn used(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let mut named = |name: String, path: Vec<String>| {
            self.seen(&path);
            // A module that a file declares can be named without `self`.
            let absolute = self.absolute(&path).unwrap_or_else(|| [self.at.clone(), path].concat());
            if self.at == self.of {
                self.file.names.insert(name, absolute);
            }
        };
        match tree {
            syn::UseTree::Path(path) => self.used(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) if name.ident == "self" => {
                named(before.last().cloned().unwrap_or_default(), before.to_vec());
            }
            syn::UseTree::Name(name) => named(name.ident.to_string(), with(&name.ident)),
            syn::UseTree::Rename(renamed) => named(renamed.rename.to_string(), with(&renamed.ident)),
            syn::UseTree::Glob(_) => self.seen(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.used(tree, before)),
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.used(&item.tree, &[]);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Tests of a file may look at whatever they need.
        let is_test = item.attrs.iter().any(|attr| {
            attr.path().is_ident("cfg") && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        });
        if is_test {
            return;
        }
        self.at.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.at.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.seen(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        // What a macro is given is no syntax yet: words joined by `::` are paths whatever it makes of them.
        let text = found.tokens.to_string().replace(" :: ", "::");
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
            self.seen(&word.split("::").map(str::to_owned).collect::<Vec<_>>());
        }
        visit::visit_macro(self, found);
    }
}

/// All modules below `folder`, whose own module is `of`.
fn read(folder: &Path, of: &Module, found: &mut BTreeMap<Module, File>) {
    for entry in fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("it can be read").path();
        let stem = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let inner = [of.clone(), vec![stem.clone()]].concat();
        if path.is_dir() {
            read(&path, &inner, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let is_face = ["mod", "lib", "main"].contains(&stem.as_str());
            let module = if is_face { of.clone() } else { inner };
            let text = fs::read_to_string(&path).expect("it can be read");
            let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut reader = Reader { file: File::default(), of: module.clone(), at: module.clone() };
            reader.visit_file(&syntax);
            // `lib.rs` and `main.rs` are both the root's.
            let file: &mut File = found.entry(module).or_default();
            file.paths.extend(reader.file.paths);
            file.names.extend(reader.file.names);
        }
    }
}

/// The module that a path leads to, through what folders' faces pass on.
fn target(modules: &BTreeMap<Module, File>, path: &[String]) -> Option<Module> {
    let mut path = path.to_vec();
    // Names that lead in a circle would be no program; the count keeps the test from hanging on one.
    for _ in 0..16 {
        let len = (0..=path.len()).rev().find(|len| modules.contains_key(&path[..*len]))?;
        let module = path[..len].to_vec();
        match path.get(len).and_then(|name| modules[&module].names.get(name)) {
            Some(elsewhere) => path = [elsewhere.clone(), path[len + 1..].to_vec()].concat(),
            None => return Some(module),
        }
    }
    None
}

/// Who imports whom, among the files and folders of each folder.
type Imports = BTreeMap<Module, BTreeMap<String, BTreeSet<String>>>;

fn imports(modules: &BTreeMap<Module, File>) -> Imports {
    let mut imports = Imports::new();
    for (module, file) in modules {
        for other in file.paths.iter().filter_map(|path| target(modules, path)) {
            let shared = module.iter().zip(&other).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(shared), other.get(shared)) {
                let folder = imports.entry(module[..shared].to_vec()).or_default();
                folder.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    imports
}

/// Some circle among the files of one folder.
fn circle(files: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ended = BTreeSet::new();
    files.keys().find_map(|file| walk(files, file, &mut Vec::new(), &mut ended))
}

fn walk(
    files: &BTreeMap<String, BTreeSet<String>>,
    at: &str,
    way: &mut Vec<String>,
    ended: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(first) = way.iter().position(|file| file == at) {
        return Some(way[first..].iter().cloned().chain([at.to_owned()]).collect());
    }
    if ended.contains(at) {
        return None;
    }
    way.push(at.to_owned());
    let found = files.get(at).into_iter().flatten().find_map(|next| walk(files, next, way, ended));
    way.pop();
    ended.insert(at.to_owned());
    found
}

#[test]
fn files_of_a_folder_import_without_circles() {
    let mut modules = BTreeMap::new();
    read(&root("src"), &Module::new(), &mut modules);
    let imports = imports(&modules);
    let mut faults = Vec::new();
    // The first folders are the floors of `layers.rs`, which say more.
    for (folder, files) in imports.iter().filter(|(folder, _)| !folder.is_empty()) {
        faults.extend(circle(files).map(|circle| format!("src/{}: {}", folder.join("/"), circle.join(" → "))));
    }
    let count: usize = imports.values().flat_map(BTreeMap::values).map(BTreeSet::len).sum();
    assert!(count > 200 && imports.len() > 15, "the test finds the imports: {count} in {} folders", imports.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What the test above would find: by a name that the folder's face passes on, in a macro, over a folder within.
#[test]
fn circles_are_found() {
    let file = |of: &[&str], text: &str| {
        let module: Module = of.iter().map(|part| (*part).to_owned()).collect();
        let mut reader = Reader { file: File::default(), of: module.clone(), at: module.clone() };
        reader.visit_file(&syn::parse_file(text).expect("it is Rust"));
        (module, reader.file)
    };
    let found = |files: &[(&[&str], &str)]| {
        let modules: BTreeMap<Module, File> = files.iter().map(|(of, text)| file(of, text)).collect();
        imports(&modules).values().find_map(circle)
    };
    let face: (&[&str], &str) = (&["a"], "mod b; mod c; pub use b::B; pub use self::c::C as D;");
    let b: (&[&str], &str) = (&["a", "b"], "use super::D; pub struct B;");
    assert_eq!(found(&[face, b, (&["a", "c"], "pub struct C;")]), None);
    for c in ["use crate::a::{B, x::Y};", "fn f() { super::b::g(); }", "fn f() { vec![super::super::a::B] }"] {
        let circle = found(&[face, b, (&["a", "c"], c)]);
        assert_eq!(circle, Some(["b", "c", "b"].map(str::to_owned).to_vec()), "{c}");
    }
    let within: (&[&str], &str) = (&["a", "c", "d"], "use super::super::b::B;");
    assert!(found(&[face, b, (&["a", "c"], "mod d;"), within]).is_some());
    // A folder's face and what only tests import are no circle.
    let tests = "#[cfg(test)] mod tests { use super::super::b::B; }";
    assert_eq!(found(&[face, b, (&["a", "c"], tests)]), None);
}
