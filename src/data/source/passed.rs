//! What a folder holds beside its pictures: counted, with an example of each kind, so that nothing is left out in silence.

use std::collections::BTreeMap;
use std::path::Path;

/// Why something is not among the pictures, or came there by another way; in the order in which it is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A folder below the root without a picture.
    EmptyClass,
    /// A folder whose name is another's in a different Unicode form.
    MergedClass,
    /// A picture of a format that is not read, by its ending.
    Unread(&'static str),
    OtherFile,
    Litter,
    /// A socket, a pipe, a device.
    Special,
    LinkToFolder,
    LinkInCircle,
    LinkToNothing,
    /// A folder or picture that is among the others already.
    SeenAlready,
}

/// Endings of pictures, films and archives that are not read.
const UNREAD: [&str; 40] = [
    "avif", "heic", "heif", "jxl", "jp2", "j2k", "jpx", "svg", "psd", "ico", "ppm", "pgm", "pbm", "pnm", "exr", "hdr",
    "tga", "qoi", "dds", "raw", "cr2", "cr3", "nef", "arw", "dng", "orf", "rw2", "pdf", "eps", "mp4", "avi", "mov",
    "mkv", "webm", "npy", "npz", "tar", "zip", "gz", "7z",
];

/// A count of each kind, and the first by name as an example.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    kinds: BTreeMap<Kind, (usize, String)>,
    /// What the others are called.
    noun: &'static str,
}

impl Passed {
    /// Beside what is called `noun`.
    pub fn new(noun: &'static str) -> Passed {
        Passed { kinds: BTreeMap::new(), noun }
    }

    /// Nothing yet, beside the same.
    pub fn like(&self) -> Passed {
        Passed::new(self.noun)
    }

    /// Adds what was counted apart.
    pub fn join(&mut self, other: Passed) {
        for (kind, (more, path)) in other.kinds {
            let (count, example) = self.kinds.entry(kind).or_insert_with(|| (0, path.clone()));
            *count += more;
            if path < *example {
                *example = path;
            }
        }
    }

    /// Counts `path`, which is as the user shall read it.
    pub fn add(&mut self, kind: Kind, path: &Path) {
        let path = path.display().to_string();
        let (count, example) = self.kinds.entry(kind).or_insert_with(|| (0, path.clone()));
        *count += 1;
        // The order of a folder's entries is not the same everywhere.
        if path < *example {
            *example = path;
        }
    }

    /// Counts a file that is not taken for a picture.
    pub fn add_file(&mut self, path: &Path) {
        let ending = path.extension().unwrap_or_default();
        // What ends otherwise than an array is no array that is not read.
        let unread = UNREAD.iter().filter(|_| self.noun == "picture").find(|known| ending.eq_ignore_ascii_case(known));
        self.add(unread.map_or(Kind::OtherFile, |ending| Kind::Unread(ending)), path);
    }

    /// A line for each kind.
    pub fn lines(&self) -> Vec<String> {
        let line = |(kind, (count, example)): (&Kind, &(usize, String))| line(kind, *count, example, self.noun);
        self.kinds.iter().map(line).collect()
    }
}

fn line(kind: &Kind, count: usize, example: &str, noun: &str) -> String {
    let (one, many) = match kind {
        Kind::EmptyClass => ("folder without a picture is no class", "folders without a picture are no classes"),
        Kind::MergedClass => (
            "folder is of another's class, whose name differs in its Unicode form only",
            "folders are of another's class, whose name differs in its Unicode form only",
        ),
        Kind::Unread(_) => ("file is not read", "files are not read"),
        Kind::OtherFile => ("file is no picture by its ending", "files are no pictures by their ending"),
        Kind::Litter => ("file or folder of a system is passed over", "files or folders of a system are passed over"),
        Kind::Special => ("entry is no file and no folder", "entries are no files and no folders"),
        Kind::LinkToFolder => ("link to a folder is followed", "links to folders are followed"),
        Kind::LinkInCircle => {
            ("link to a folder leads back to where it lies", "links to folders lead back to where they lie")
        }
        Kind::LinkToNothing => ("link leads nowhere", "links lead nowhere"),
        Kind::SeenAlready => ("link leads to what is read already", "links lead to what is read already"),
    };
    let ending = if let Kind::Unread(ending) = kind { format!("{ending} ") } else { String::new() };
    let (one, many) = (one.replace("picture", noun), many.replace("picture", noun));
    match count {
        1 => format!("1 {ending}{one}: `{example}`"),
        _ => format!("{count} {ending}{many}, such as `{example}`"),
    }
}
