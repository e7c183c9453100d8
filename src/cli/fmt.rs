//! `cmaec fmt`: lays `.cmae` files out.

use std::io::Read;
use std::path::{Path, PathBuf};

use cmae::diag::Diagnostics;
use cmae::format::format;
use cmae::run::tensor_file::write_atomically;
use cmae::source::Sources;
use cmae::syntax::parse_file;

use super::files::below;
use super::output::{errln, out, outln};
use super::pipeline::draw;

/// Lays `.cmae` files out: indentation, spaces, empty lines.
///
/// Lines stay as they were broken, and columns that were aligned on purpose stay aligned; nothing that means anything is changed.
#[derive(clap::Args)]
pub struct Args {
    /// Files, folders with all below them, or `-` for stdin, which goes to stdout. By default this folder.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Writes nothing, names each file that would be laid out anew, and fails where there is one.
    #[arg(long)]
    check: bool,
}

pub fn main(args: Args) -> Result<(), String> {
    if let [path] = &args.paths[..]
        && path == Path::new("-")
    {
        return stdin(args.check);
    }
    let (mut other, mut failures) = (0, Vec::new());
    let mut files = 0;
    for path in files_of(&args.paths)? {
        files += 1;
        match laid_out(&path) {
            Ok(None) => {}
            Ok(Some(_)) if args.check => {
                other += 1;
                outln!("{}", path.display());
            }
            Ok(Some(text)) => {
                other += 1;
                write(&path, &text)?;
                outln!("{}", path.display());
            }
            Err(error) => failures.push(error),
        }
    }
    if !failures.is_empty() {
        return Err(failures.join("\n"));
    }
    match (args.check, other) {
        (true, 1..) => Err(format!(
            "{other} of {files} files would be laid out anew\nhelp: cmaec fmt{}",
            args.paths.iter().map(|path| format!(" {}", path.display())).collect::<String>()
        )),
        _ => {
            errln!("{other} of {files} files laid out anew");
            Ok(())
        }
    }
}

fn stdin(check: bool) -> Result<(), String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("cannot read stdin: {error}"))?;
    let formatted = checked("stdin", text.clone())?;
    match check {
        true if formatted != text => Err("stdin would be laid out anew".to_owned()),
        true => Ok(()),
        false => {
            out!("{formatted}");
            Ok(())
        }
    }
}

/// The text of the file at `path` as it should stand, where it stands otherwise.
fn laid_out(path: &Path) -> Result<Option<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let formatted = checked(&path.display().to_string(), text.clone())?;
    Ok((formatted != text).then_some(formatted))
}

/// The layout of a text that parses; of another the errors that `check` would tell.
fn checked(name: &str, text: String) -> Result<String, String> {
    let mut sources = Sources::new();
    let mut diagnostics = Diagnostics::default();
    let id = sources.add_text(name, text.as_str());
    match parse_file(&sources, id, &mut diagnostics) {
        Ok(_) if !diagnostics.has_errors() => Ok(format(&text)),
        _ => Err(draw(diagnostics.list(), &sources)),
    }
}

/// In the place of what a link leads to, with the permissions that it had.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let write = || {
        let path = path.canonicalize()?;
        let permissions = path.metadata()?.permissions();
        write_atomically(&path, text.as_bytes())?;
        std::fs::set_permissions(&path, permissions)
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The files that `paths` name: themselves, or all below a folder.
fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(below(path)?),
            false => files.push(path.clone()),
        }
    }
    Ok(files)
}
