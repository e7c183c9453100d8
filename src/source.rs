//! Source texts, spans into them, and the compiler's one door to files.
//!
//! **Invariant:** the compiler reads a file through [`Sources::load`] and nowhere else, so that a test can compile from
//! memory and an error can always show the text it speaks of.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Index of a text in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u32);

/// Byte range in one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub source: SourceId,
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(source: SourceId, start: usize, end: usize) -> Self {
        Span { source, start: start as u32, end: end as u32 }
    }
}

/// One text with the name that messages show.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub text: Arc<str>,
    /// Why the text is not what the file says; it is shown, and not parsed.
    pub fault: Option<Fault>,
    /// Whether it is the standard library's.
    pub library: bool,
    /// Folder that `use` paths of this text are relative to.
    folder: Option<PathBuf>,
}

/// What keeps bytes from being a text of this language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// More than [`MAX_BYTES`].
    TooLong,
    /// Two bytes a letter, as Windows' "Unicode" is.
    Utf16,
    /// A byte that is no part of UTF-8, and where the text goes on after it.
    NotUtf8 { byte: u8, at: u32 },
    /// A byte 0, which no text holds, and where it stands.
    Zero { at: u32 },
}

/// Bytes of a file at most: the longest pipeline has ten thousand, and what is longer is another kind of file.
pub const MAX_BYTES: usize = 200_000;

/// The standard library's files as they were when the binary was built: (file name, text).
const STDLIB: &[(&str, &str)] = &[
    ("attention.cmae", include_str!("../stdlib/attention.cmae")),
    ("codebook.cmae", include_str!("../stdlib/codebook.cmae")),
    ("decoder.cmae", include_str!("../stdlib/decoder.cmae")),
    ("distributions.cmae", include_str!("../stdlib/distributions.cmae")),
    ("heads.cmae", include_str!("../stdlib/heads.cmae")),
    ("hog.cmae", include_str!("../stdlib/hog.cmae")),
    ("hybrid.cmae", include_str!("../stdlib/hybrid.cmae")),
    ("layers.cmae", include_str!("../stdlib/layers.cmae")),
    ("losses.cmae", include_str!("../stdlib/losses.cmae")),
    ("masks.cmae", include_str!("../stdlib/masks.cmae")),
    ("memory.cmae", include_str!("../stdlib/memory.cmae")),
    ("mixing.cmae", include_str!("../stdlib/mixing.cmae")),
    ("monitors.cmae", include_str!("../stdlib/monitors.cmae")),
    ("pictures.cmae", include_str!("../stdlib/pictures.cmae")),
    ("pooling.cmae", include_str!("../stdlib/pooling.cmae")),
    ("positions.cmae", include_str!("../stdlib/positions.cmae")),
    ("predictors.cmae", include_str!("../stdlib/predictors.cmae")),
    ("teachers.cmae", include_str!("../stdlib/teachers.cmae")),
    ("tokenizer.cmae", include_str!("../stdlib/tokenizer.cmae")),
    ("views.cmae", include_str!("../stdlib/views.cmae")),
    ("vit.cmae", include_str!("../stdlib/vit.cmae")),
];

/// All texts of one compilation.
#[derive(Debug, Default)]
pub struct Sources {
    sources: Vec<Source>,
    /// Read the standard library from this folder instead of the embedded one.
    stdlib: Option<PathBuf>,
    /// Files that stand in for the disk, by path.
    memory: Vec<(PathBuf, Arc<[u8]>)>,
}

impl Sources {
    pub fn new() -> Self {
        Sources::default()
    }

    /// Takes the standard library from `folder`.
    pub fn with_stdlib(folder: impl Into<PathBuf>) -> Self {
        Sources { stdlib: Some(folder.into()), ..Sources::default() }
    }

    /// Puts a file in memory that hides the one on disk.
    pub fn add_file(&mut self, path: impl Into<PathBuf>, contents: impl AsRef<[u8]>) {
        self.memory.push((path.into(), contents.as_ref().into()));
    }

    pub fn get(&self, id: SourceId) -> &Source {
        &self.sources[id.0 as usize]
    }

    /// The text that `span` covers.
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.source).text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Adds a text that is no file, such as an override of the command line.
    pub fn add_text(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> SourceId {
        let text: Arc<str> = text.into();
        let fault = fault_of(&text);
        self.add(Source { name: name.into(), text, fault, library: false, folder: None })
    }

    /// Loads a file; a path that is loaded already gives the same id.
    pub fn load(&mut self, path: &Path) -> Result<SourceId, std::io::Error> {
        let name = path.display().to_string();
        if let Some(id) = self.find(&name) {
            return Ok(id);
        }
        let (text, fault) = match self.memory.iter().find(|(p, _)| p == path) {
            Some((_, contents)) => decode(contents),
            None => decode(&read(path)?),
        };
        let folder = Some(path.parent().unwrap_or(Path::new("")).to_path_buf());
        Ok(self.add(Source { name, text, fault, library: false, folder }))
    }

    /// Loads the file that `use a::b::item` names: `b.cmae` of the standard library where `a` is `std`, else `a/b.cmae`
    /// beside `from`. Gives the path that was looked for with the error.
    pub fn load_module(&mut self, from: SourceId, module: &[&str]) -> Result<SourceId, (String, std::io::Error)> {
        let mut relative = PathBuf::new();
        if let ["std", rest @ ..] = module {
            relative.extend(rest);
            relative.set_extension("cmae");
            if let Some(folder) = &self.stdlib {
                let path = folder.join(&relative);
                let loaded = self.load(&path).map_err(|error| (path.display().to_string(), error))?;
                self.sources[loaded.0 as usize].library = true;
                return Ok(loaded);
            }
            let file = relative.display().to_string();
            let name = format!("std/{file}");
            if let Some(id) = self.find(&name) {
                return Ok(id);
            }
            let Some((_, text)) = STDLIB.iter().find(|(n, _)| *n == file) else {
                return Err((name, std::io::ErrorKind::NotFound.into()));
            };
            return Ok(self.add(Source { name, text: (*text).into(), fault: None, library: true, folder: None }));
        }
        relative.extend(module);
        relative.set_extension("cmae");
        let path = match &self.get(from).folder {
            Some(folder) => folder.join(relative),
            None => relative,
        };
        self.load(&path).map_err(|error| (path.display().to_string(), error))
    }

    /// Module names of the standard library, for suggestions.
    pub fn stdlib_modules() -> impl Iterator<Item = &'static str> {
        STDLIB.iter().map(|(name, _)| name.trim_end_matches(".cmae"))
    }

    /// The module of the standard library that defines a block or function of this name.
    pub fn stdlib_home(item: &str) -> Option<&'static str> {
        let defines = |text: &str| ["block", "fn"].iter().any(|word| text.contains(&format!("\n{word} {item}(")));
        STDLIB.iter().find(|(_, text)| defines(text)).map(|(name, _)| name.trim_end_matches(".cmae"))
    }

    /// Names of the blocks and functions of the standard library, for suggestions.
    pub fn stdlib_items() -> impl Iterator<Item = &'static str> {
        let lines = STDLIB.iter().flat_map(|(_, text)| text.lines());
        lines.filter_map(|line| Some(line.strip_prefix("block ").or(line.strip_prefix("fn "))?.split_once('(')?.0))
    }

    fn find(&self, name: &str) -> Option<SourceId> {
        self.sources.iter().position(|s| s.name == name).map(|i| SourceId(i as u32))
    }

    fn add(&mut self, source: Source) -> SourceId {
        self.sources.push(source);
        SourceId(self.sources.len() as u32 - 1)
    }
}

/// A file's bytes, and one more than may be where there are more: a device may have no end.
fn read(path: &Path) -> Result<Vec<u8>, std::io::Error> {
    if path.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file, and what is wrong with it. The mark that editors on Windows put before UTF-8 is no part of it.
fn decode(bytes: &[u8]) -> (Arc<str>, Option<Fault>) {
    if bytes.len() > MAX_BYTES {
        // Enough to show where.
        return (String::from_utf8_lossy(&bytes[..200]).into(), Some(Fault::TooLong));
    }
    // Without a mark it shows by its zeros: every letter of this language's words is ASCII.
    let zeros = |first: usize| bytes.iter().skip(first).step_by(2).filter(|b| **b == 0).count();
    let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if marked || bytes.len() > 3 && zeros(0).max(zeros(1)) > bytes.len() / 4 {
        let little = bytes.starts_with(&[0xff, 0xfe]) || !marked && zeros(1) > zeros(0);
        let unit = |pair: &[u8; 2]| if little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) };
        let units: Vec<u16> = bytes.as_chunks().0.iter().map(unit).filter(|unit| *unit != 0xfeff).collect();
        return (String::from_utf16_lossy(&units).into(), Some(Fault::Utf16));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), fault_of(text)),
        Err(error) => {
            let at = error.valid_up_to();
            let text = String::from_utf8_lossy(bytes);
            (text.into(), Some(Fault::NotUtf8 { byte: bytes[at], at: at as u32 }))
        }
    }
}

fn fault_of(text: &str) -> Option<Fault> {
    if text.len() > MAX_BYTES {
        return Some(Fault::TooLong);
    }
    text.find('\0').map(|at| Fault::Zero { at: at as u32 })
}
