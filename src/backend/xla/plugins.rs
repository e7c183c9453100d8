//! Plugin files: where makers' wheels put them, found by looking at folders. No Python is run, and no library is opened.
//!
//! First the file that the user names, then the Python environments that a shell here would use, the active one first.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::pjrt::{CreateOption, OptionValue};

/// The variable that names a plugin file.
pub const VARIABLE: &str = "CMAE_PJRT_PLUGIN";

/// A plugin file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub maker: Maker,
    /// Where it came in a wheel that says so.
    pub wheel: Option<Wheel>,
}

/// A Python package as it was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wheel {
    pub name: String,
    pub version: String,
}

/// Whose devices a plugin drives, as its file's name tells; what it really drives, its client tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    Nvidia,
    Amd,
    Intel,
    Google,
    Apple,
    Cpu,
    Other,
}

impl Maker {
    /// Those that [`Maker::install`] knows a way to.
    pub const KNOWN: [Maker; 6] = [Maker::Nvidia, Maker::Amd, Maker::Intel, Maker::Google, Maker::Apple, Maker::Cpu];

    pub fn name(self) -> &'static str {
        match self {
            Maker::Nvidia => "NVIDIA",
            Maker::Amd => "AMD",
            Maker::Intel => "Intel",
            Maker::Google => "TPU",
            Maker::Apple => "Apple",
            Maker::Cpu => "CPU",
            Maker::Other => "other",
        }
    }

    /// What installs a plugin of this maker.
    pub fn install(self) -> Option<&'static str> {
        match self {
            Maker::Nvidia => Some("pip install 'jax-cuda13-plugin[with-cuda]'"),
            Maker::Amd => Some("pip install jax-rocm7-pjrt"),
            Maker::Intel => Some("pip install jax-oneapi-pjrt"),
            Maker::Google => Some("pip install libtpu"),
            Maker::Apple => Some("pip install jax-mlx-plugin"),
            Maker::Cpu => Some("pip install --no-deps lammps-jax-pjrt-cpu==0.11.2"),
            Maker::Other => None,
        }
    }

    /// Options of a client for training: by default it takes three quarters of the device's memory at once, and never more.
    ///
    /// What is left of it holds the device's own context, the code of kernels and the libraries' workspaces, some gigabytes.
    pub fn options(self) -> Vec<CreateOption> {
        match self {
            Maker::Nvidia | Maker::Amd => vec![
                CreateOption::new("preallocate", OptionValue::Bool(false)),
                CreateOption::new("memory_fraction", OptionValue::Float(0.9)),
            ],
            _ => Vec::new(),
        }
    }

    /// By the names of its file and of the folder that this lies in.
    fn of(path: &Path) -> Self {
        let mut names = path.iter().rev().take(2).map(|name| name.to_string_lossy().to_lowercase());
        let (file, folder) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        let has = |word: &str| file.contains(word) || folder.contains(word);
        // The processor last: `cpu` also stands in the names of what is built for hosts with a device.
        let words: [(&str, Maker); 9] = [
            ("cuda", Maker::Nvidia),
            ("rocm", Maker::Amd),
            ("oneapi", Maker::Intel),
            ("sycl", Maker::Intel),
            ("xpu", Maker::Intel),
            ("tpu", Maker::Google),
            ("metal", Maker::Apple),
            ("mlx", Maker::Apple),
            ("cpu", Maker::Cpu),
        ];
        words.iter().find(|(word, _)| has(word)).map_or(Maker::Other, |(_, maker)| *maker)
    }
}

/// The plugin file that the environment names.
pub fn named() -> Option<PathBuf> {
    env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// All plugin files of this machine: `first` or the one that the environment names before the others.
pub fn find(first: Option<&Path>) -> Vec<Found> {
    let first = first.map(Path::to_path_buf).or_else(named);
    find_in(first.as_deref(), &site_packages())
}

/// [`find`] in the given folders of packages.
pub fn find_in(first: Option<&Path>, site_packages: &[PathBuf]) -> Vec<Found> {
    let mut found: Vec<Found> = first.iter().map(|path| found_at(path)).collect();
    for folder in site_packages {
        found.extend(files(folder).into_iter().map(|path| Found {
            maker: Maker::of(&path),
            wheel: wheel(folder, &path),
            path,
        }));
    }
    // One file may be reached in several ways: `lib64` is a link to `lib` in many environments.
    let mut seen = BTreeSet::new();
    found.retain(|plugin| seen.insert(fs::canonicalize(&plugin.path).unwrap_or_else(|_| plugin.path.clone())));
    found
}

/// The file that is named, with the wheel that it lies in.
fn found_at(path: &Path) -> Found {
    let folder = path.ancestors().find(|folder| is_site_packages(folder));
    let wheel = folder.and_then(|folder| wheel(folder, path));
    Found { path: path.to_owned(), maker: Maker::of(path), wheel }
}

fn is_site_packages(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == "site-packages" || name == "dist-packages")
}

/// Folders of packages of the Python environments here: the active ones, those of the interpreters on `PATH`, the system's
/// and the user's.
pub fn site_packages() -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let interpreters = env::split_paths(&path)
        .filter(|folder| ["python3", "python", "python.exe"].iter().any(|name| folder.join(name).is_file()))
        .filter_map(|folder| Some(folder.parent()?.to_owned()));
    let system = ["/usr/local", "/usr"].map(PathBuf::from);
    let user = env::home_dir().map(|home| home.join(".local"));
    let prefixes = active.chain(interpreters).chain(system).chain(user);
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in prefixes.flat_map(|prefix| packages_of(&prefix)) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// `PREFIX/lib/python3.11/site-packages` and what other systems have in its place.
fn packages_of(prefix: &Path) -> Vec<PathBuf> {
    let mut folders = vec![prefix.join("Lib/site-packages")];
    for lib in ["lib", "lib64"] {
        for python in entries(&prefix.join(lib)).into_iter().filter(|path| starts(path, "python3")) {
            folders.push(python.join("site-packages"));
            folders.push(python.join("dist-packages"));
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn starts(path: &Path, with: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(with))
}

/// What a folder holds, in the order of names; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Plugin files of one folder of packages.
///
/// Makers' wheels share the folder `jax_plugins` (or `xla_plugins`), with a folder in it for each; others have one of their own.
fn files(site_packages: &Path) -> Vec<PathBuf> {
    let own = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        (name == "libtpu" || name.contains("pjrt") || name.contains("xla_cpu")) && !name.ends_with("-info")
    };
    let shared = ["jax_plugins", "xla_plugins"].iter().flat_map(|name| entries(&site_packages.join(name)));
    let folders = shared.chain(entries(site_packages).into_iter().filter(own));
    folders.flat_map(|folder| entries(&folder)).filter(|path| is_plugin(path)).collect()
}

/// Whether a file's name is a plugin's, and not an extension of Python's beside it (`…_plugin_extension.so`, `….abi3.so`).
fn is_plugin(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let Some(stem) = [".so", ".dylib", ".dll"].iter().find_map(|ending| name.strip_suffix(ending)) else {
        return false;
    };
    let is_named_so = ["plugin", "pjrt", "libtpu"].iter().any(|word| stem.contains(word));
    is_named_so && !["extension", ".cpython", ".abi3"].iter().any(|word| stem.contains(word)) && path.is_file()
}

/// The wheel whose list of files has this one.
fn wheel(site_packages: &Path, path: &Path) -> Option<Wheel> {
    let file = path.strip_prefix(site_packages).ok()?;
    let line: Vec<String> = file.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    // A line of the list is `FILE,HASH,SIZE`.
    let line = format!("{},", line.join("/"));
    let infos =
        entries(site_packages).into_iter().filter(|path| path.extension().is_some_and(|end| end == "dist-info"));
    for info in infos {
        let files = fs::read_to_string(info.join("RECORD")).unwrap_or_default();
        if files.lines().any(|file| file.starts_with(&line)) {
            return described(&info);
        }
    }
    None
}

/// What a wheel says of itself.
fn described(info: &Path) -> Option<Wheel> {
    let text = fs::read_to_string(info.join("METADATA")).ok()?;
    let head = text.split("\n\n").next().unwrap_or_default();
    let field = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    Some(Wheel { name: field("Name:")?, version: field("Version:")? })
}
