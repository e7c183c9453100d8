//! Where a command writes what its user names with `-o`.
//!
//! Before: a path from the command line. After: `tensor_file::write_atomically` puts the file there, beside and renamed.
//!
//! **Invariant:** what is overwritten is a plain file of the same kind that no run needs: never a checkpoint or another file of
//! a run, a device, a pipe or a folder. A link is written through, to a file for which the same holds.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::folder::{FILES, FOLDERS, SWEEP};
use super::lock::LOCK;
use super::shell;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tensors,
    Page,
    Picture,
    /// A graph of ONNX.
    Graph,
    /// numpy's.
    Array,
    /// Parquet.
    Table,
}

impl Kind {
    fn ending(self) -> &'static str {
        match self {
            Kind::Tensors => "safetensors",
            Kind::Page => "html",
            Kind::Picture => "png",
            Kind::Graph => "onnx",
            Kind::Array => "npy",
            Kind::Table => "parquet",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Kind::Tensors => "encoder.safetensors",
            Kind::Page => "report.html",
            Kind::Picture => "views.png",
            Kind::Graph => "encoder.onnx",
            Kind::Array => "features.npy",
            Kind::Table => "features.parquet",
        }
    }
}

/// Why a file cannot be written where its user wants it.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {what} (help: {help})", path.display())]
pub struct DestinationError {
    path: PathBuf,
    what: String,
    help: String,
}

/// The file that `path` means, with links followed; looked at before anything is computed for it.
///
/// `own` is the run whose report may be written over: it is made anew from what is there.
pub fn destination(path: &Path, kind: Kind, own: Option<&Path>) -> Result<PathBuf, DestinationError> {
    let refuse = |what: String, help: String| Err(DestinationError { path: path.to_owned(), what, help });
    let plain = || format!("name a plain file with -o, such as {}", kind.example());
    let found = fs::symlink_metadata(path);
    let real = match &found {
        Ok(found) if found.is_symlink() => match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return refuse(format!("it is a link that leads nowhere: {error}"), plain()),
        },
        Ok(_) => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        Err(_) => match new_file(path) {
            Ok(real) => real,
            Err((what, help)) => return refuse(what, help),
        },
    };
    if let Ok(there) = fs::metadata(&real) {
        if let Some(thing) = no_file(&there) {
            return refuse(format!("it is {thing}, and -o writes a file"), plain());
        }
        if there.permissions().readonly() {
            return refuse("it is there and may not be written to".to_owned(), "name another file with -o".to_owned());
        }
    }
    let ending = |path: &Path| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(kind.ending()));
    if !ending(path) || !ending(&real) {
        let named = path.with_extension(kind.ending());
        return refuse(format!("what is written is .{}", kind.ending()), format!("-o {}", shell::path(&named)));
    }
    match owner(&real) {
        Some((run, name)) if !(name == "report.html" && own.is_some_and(|own| is_same(own, &run))) => refuse(
            format!("it is {name} of {}, which would be lost", run.display()),
            "name a file outside of it with -o".to_owned(),
        ),
        _ => Ok(real),
    }
}

/// The folder that `path` means, which may not be there yet: for `files`, which are written over, and for nothing else.
///
/// What a run wrote is never among them, and what somebody keeps there is not mixed with.
pub fn folder(path: &Path, files: &[&str]) -> Result<PathBuf, DestinationError> {
    let refuse =
        |what: String, help: &str| Err(DestinationError { path: path.to_owned(), what, help: help.to_owned() });
    const NEW: &str = "name a new folder with -o, such as encoder";
    let real = match fs::canonicalize(path) {
        Ok(real) if real.is_dir() => real,
        Ok(_) => return refuse("it is a file, and a folder is written".to_owned(), NEW),
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            match new_file(path) {
                Ok(real) => real,
                Err((what, help)) => return refuse(what, &help),
            }
        }
        Err(error) => return refuse(error.to_string(), NEW),
    };
    if let Some((run, name)) = files.iter().find_map(|file| owner(&real.join(file))) {
        return refuse(
            format!("{name} is of {}, which would be lost", run.display()),
            "name a folder outside of it with -o",
        );
    }
    if real.is_dir() {
        let is_other = |name: &String| !files.contains(&name.as_str());
        let entries = fs::read_dir(&real).into_iter().flatten().flatten();
        let mut others: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(is_other).collect();
        others.sort();
        if let Some(first) = others.first() {
            return refuse(format!("it holds {first}, which is no part of what is written"), NEW);
        }
    }
    Ok(real)
}

/// The path of a file that is not there yet, in a folder that is.
fn new_file(path: &Path) -> Result<PathBuf, (String, String)> {
    let elsewhere = || "name a file in a folder that is there with -o".to_owned();
    let Some(name) = path.file_name() else {
        return Err(("it names no file".to_owned(), elsewhere()));
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::canonicalize(folder) {
        Ok(real) if real.is_dir() => Ok(real.join(name)),
        Ok(_) => Err((format!("{} is a file, not a folder", folder.display()), elsewhere())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err((
            format!("there is no folder {}", folder.display()),
            format!("make it: mkdir -p {}, or name another file with -o", shell::path(folder)),
        )),
        Err(error) => Err((format!("{}: {error}", folder.display()), elsewhere())),
    }
}

/// What is there, if it is no plain file.
fn no_file(metadata: &Metadata) -> Option<&'static str> {
    if metadata.is_file() {
        return None;
    }
    if metadata.is_dir() {
        return Some("a folder");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    Some("a device")
}

/// The run, sweep or checkpoint that the file at `path` is part of, and which part: what it wrote itself, not what somebody
/// keeps beside.
fn owner(path: &Path) -> Option<(PathBuf, String)> {
    let folder = path.parent()?;
    let file = path.file_name()?.to_string_lossy().into_owned();
    if folder.join("state.ron").is_file() {
        return Some((folder.to_owned(), file));
    }
    path.ancestors().skip(1).find_map(|above| {
        let inside = path.strip_prefix(above).ok()?;
        let first = inside.components().next()?.as_os_str().to_string_lossy().into_owned();
        let is_run = above.join("program.ron").is_file();
        let is_file = inside.components().count() == 1;
        let of_run =
            is_run && if is_file { FILES.contains(&&*first) || first == LOCK } else { FOLDERS.contains(&&*first) };
        let of_sweep = is_file && (first == SWEEP || first == LOCK) && above.join(SWEEP).is_file();
        (of_run || of_sweep).then(|| (above.to_owned(), inside.display().to_string()))
    })
}

fn is_same(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).ok() == fs::canonicalize(b).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a run, a checkpoint of it that was copied out, and things that are no files.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = folder.path().join("run");
        let checkpoint = run.join("checkpoints/step-00000004");
        fs::create_dir_all(&checkpoint).expect("it is ours");
        fs::create_dir_all(folder.path().join("copied")).expect("it is ours");
        fs::create_dir_all(folder.path().join("folder.safetensors")).expect("it is ours");
        for file in ["run/program.ron", "run/report.html", "copied/state.ron", "old.safetensors", "fixed.safetensors"] {
            fs::write(folder.path().join(file), "old").expect("it is ours");
        }
        fs::write(checkpoint.join("model.safetensors"), "old").expect("it is ours");
        let mut permissions = fs::metadata(folder.path().join("fixed.safetensors")).expect("it is there").permissions();
        permissions.set_readonly(true);
        fs::set_permissions(folder.path().join("fixed.safetensors"), permissions).expect("it is ours");
        folder
    }

    fn refused(path: &Path, kind: Kind, own: Option<&Path>) -> String {
        destination(path, kind, own).expect_err("it must not be written").to_string()
    }

    #[test]
    fn plain_files_are_written_and_written_over() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        for name in ["new.safetensors", "old.safetensors", "NEW.SAFETENSORS", "run/encoder.safetensors"] {
            destination(&path(name), Kind::Tensors, None).unwrap_or_else(|error| panic!("{error}"));
        }
        let report = path("run/report.html");
        destination(&report, Kind::Page, Some(&path("run"))).unwrap_or_else(|error| panic!("{error}"));
        let error = refused(&report, Kind::Page, None);
        assert!(error.contains("it is report.html of") && error.contains("would be lost"), "{error}");
    }

    #[test]
    fn folders_are_new_or_hold_what_was_written_before() {
        let made = folder();
        let path = |name: &str| made.path().join(name);
        let files = ["model.safetensors", "config.json"];
        let real = super::folder(&path("encoder"), &files).unwrap_or_else(|error| panic!("{error}"));
        assert!(!real.exists());
        fs::create_dir(&real).expect("it is ours");
        fs::write(real.join("config.json"), "old").expect("it is ours");
        super::folder(&path("encoder"), &files).unwrap_or_else(|error| panic!("{error}"));
        fs::write(real.join("notes.txt"), "mine").expect("it is ours");
        for (name, part) in [
            ("encoder", "it holds notes.txt"),
            ("old.safetensors", "it is a file"),
            ("no/encoder", "there is no folder"),
            ("run/checkpoints/new", "would be lost"),
            ("copied", "would be lost"),
        ] {
            let error = super::folder(&path(name), &files).expect_err("it must not be written").to_string();
            assert!(error.contains(part) && error.contains("help: "), "{name}: {error}");
        }
    }

    #[test]
    fn what_a_run_needs_is_not() {
        let folder = folder();
        for name in [
            "run/checkpoints/step-00000004/model.safetensors",
            "run/checkpoints/step-00000004/new.safetensors",
            "run/checkpoints/new.safetensors",
            "copied/model.safetensors",
            "run/../run/events/x.safetensors",
        ] {
            let path = folder.path().join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).expect("it is ours");
            }
            let error = refused(&path, Kind::Tensors, None);
            assert!(error.contains("which would be lost (help: name a file outside"), "{name}: {error}");
        }
    }

    #[test]
    fn nor_what_is_no_file_or_of_another_kind() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        for (name, part) in [
            ("encoder.pth", "what is written is .safetensors (help: -o "),
            ("encoder", "what is written is .safetensors"),
            ("folder.safetensors", "it is a folder"),
            ("fixed.safetensors", "may not be written to"),
            ("no/where/x.safetensors", "help: make it: mkdir -p"),
            ("old.safetensors/x.safetensors", "is a file, not a folder"),
        ] {
            let error = refused(&path(name), Kind::Tensors, None);
            assert!(error.contains(part), "{name}: {error}");
        }
        assert!(refused(&path("encoder.pth"), Kind::Tensors, None).contains("encoder.safetensors"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_are_not_replaced() {
        use std::os::unix::fs::symlink;

        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        for (to, from) in [
            ("old.safetensors", "link.safetensors"),
            ("run/checkpoints/step-00000004/model.safetensors", "best.safetensors"),
            ("nowhere", "lost.safetensors"),
            ("run/program.ron", "program.safetensors"),
        ] {
            symlink(path(to), path(from)).expect("it is ours");
        }
        symlink(path("run/checkpoints"), path("inside")).expect("it is ours");
        let real = destination(&path("link.safetensors"), Kind::Tensors, None).expect("a link to a plain file");
        assert_eq!(real, fs::canonicalize(path("old.safetensors")).expect("it is there"));
        for (name, part) in [
            ("best.safetensors", "would be lost"),
            ("inside/x.safetensors", "would be lost"),
            ("lost.safetensors", "a link that leads nowhere"),
            ("program.safetensors", "what is written is .safetensors"),
        ] {
            let error = refused(&path(name), Kind::Tensors, None);
            assert!(error.contains(part), "{name}: {error}");
        }
        let made = std::process::Command::new("mkfifo").arg(path("pipe.safetensors")).status();
        assert!(made.expect("every Unix has it").success());
        assert!(refused(&path("pipe.safetensors"), Kind::Tensors, None).contains("it is a pipe"));
        for device in ["/dev/null", "/dev/stdout"] {
            refused(Path::new(device), Kind::Tensors, None);
        }
        assert!(refused(Path::new("/dev/null"), Kind::Page, None).contains("it is a device"));
    }
}
