//! `cmaec new`: a pipeline of one's own to begin with, from those that the program holds.

use std::io::{IsTerminal, stdin};
use std::ops::Range;
use std::path::{Path, PathBuf};

use cmae::data::source;
use cmae::diag::Diagnostics;
use cmae::format::format;
use cmae::run::tensor_file::write_atomically;
use cmae::source::{Sources, Span};
use cmae::spec::{CifarKind, SourceSpec, Split};
use cmae::syntax::ast::{Entry, Expr, Item, Pipeline, SectionKind, Use, Variant};
use cmae::syntax::parse_file;

use super::output::{self, outln};
use super::pipeline::{draw, in_words};

/// Begins a pipeline of your own with one that comes with the program.
///
/// Without a name it lists them. The file holds the whole method, with its comments, and your pictures in place of its own.
#[derive(clap::Args)]
pub struct Args {
    /// A pipeline that comes with the program, such as `mae_vitb`.
    #[arg(value_name = "METHOD")]
    method: Option<String>,
    /// The file that is written; by default METHOD.cmae.
    #[arg(short, long, value_name = "FILE", requires = "method")]
    output: Option<PathBuf>,
    /// Your pictures: a folder with `train` and `val` in it, or whatever `cmaec data check` takes.
    #[arg(long, value_name = "PATH", requires = "method")]
    data: Option<String>,
    /// Writes a variant instead: a few lines that say what differs, and the settings that it could change.
    #[arg(long, requires = "method")]
    variant: bool,
}

pub fn main(args: Args) -> Result<(), String> {
    let Some(method) = args.method else {
        list();
        return Ok(());
    };
    let method = method.strip_prefix("std::").unwrap_or(&method);
    let shipped = Shipped::find(method)?;
    let file = args.output.unwrap_or_else(|| PathBuf::from(format!("{method}.cmae")));
    let name = name_of(&file)?;
    if file.exists() {
        return Err(format!("{} is there already\nhelp: name another file by `-o FILE`", file.display()));
    }
    let pictures = match args.data {
        Some(path) => Some(Pictures::at(&path)?),
        None => shipped.ask()?,
    };
    let text = match args.variant {
        true => shipped.variant(&name, &file, pictures.as_ref()),
        false => shipped.whole(&name, &file, pictures.as_ref()),
    };
    write_atomically(&file, format(&text).as_bytes())
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    outln!("{}: {method}", file.display());
    if let Some(pictures) = &pictures {
        pictures.told().iter().for_each(|line| outln!("  {line}"));
    }
    let file = cmae::run::shell::word(&file.display().to_string());
    outln!("  cmaec check {file}");
    outln!("  cmaec run {file}");
    Ok(())
}

/// Each pipeline with the first line of its header.
fn list() {
    let width = Sources::shipped_names().map(str::len).max().unwrap_or(0);
    for name in Sources::shipped_names() {
        let text = Sources::shipped(name).unwrap_or_default();
        let about = text.lines().next().unwrap_or_default().trim_start_matches("// ");
        outln!("{name:width$}  {about}");
    }
    outln!("\ncmaec new mae_vitb -o mine.cmae --data PATH");
}

/// A file's stem, as the name of its pipeline.
fn name_of(file: &Path) -> Result<String, String> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if file.extension().is_none_or(|ending| ending != "cmae") {
        let named = file.with_extension("cmae");
        return Err(format!("{} does not end in `.cmae`\nhelp: -o {}", file.display(), named.display()));
    }
    let plain: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let plain = if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("_{plain}") } else { plain };
    let mut sources = Sources::new();
    let id = sources.add_text("-o", format!("pipeline {plain} {{}}"));
    let mut diagnostics = Diagnostics::default();
    match parse_file(&sources, id, &mut diagnostics) {
        Ok(_) if !diagnostics.has_errors() => Ok(plain),
        _ => Err(format!("`{plain}` is a word of the language, and no name\nhelp: -o my_{plain}.cmae")),
    }
}

/// The user's pictures, as `data` would name them.
struct Pictures {
    train: String,
    val: Option<String>,
    /// Where the pictures to judge by were looked for.
    missing: Option<String>,
}

impl Pictures {
    fn at(path: &str) -> Result<Pictures, String> {
        let inside = |names: &[&str]| {
            let found = names.iter().map(|name| Path::new(path).join(name)).find(|inner| inner.is_dir());
            found.map(|inner| inner.display().to_string())
        };
        let call = |path: &str| source::recognise(path).map(|spec| call(&spec)).map_err(|error| in_words(&error));
        if let Some(train) = inside(&["train", "training"]) {
            let val = inside(&["val", "valid", "validation", "test"]);
            let missing = val.is_none().then(|| format!("{path} holds no folder `val`"));
            return Ok(Pictures { train: call(&train)?, val: val.as_deref().map(call).transpose()?, missing });
        }
        let spec = source::recognise(path).map_err(|error| in_words(&error))?;
        let val = match &spec {
            SourceSpec::Cifar { kind, path, .. } => {
                Some(self::call(&SourceSpec::Cifar { kind: *kind, path: path.clone(), split: Split::Val }))
            }
            _ => None,
        };
        let missing = val.is_none().then(|| format!("{path} holds no folder `train`: all of it is trained on"));
        Ok(Pictures { train: self::call(&spec), val, missing })
    }

    fn told(&self) -> Vec<String> {
        let mut lines = vec![format!("data.train = {}", self.train)];
        lines.extend(self.val.iter().map(|val| format!("data.val   = {val}")));
        lines
            .extend(self.missing.iter().map(|why| format!("{why}. Set `data.val`: evaluations judge by its pictures")));
        lines
    }
}

/// A source as the language calls it.
fn call(spec: &SourceSpec) -> String {
    let text = |path: &str| format!("\"{}\"", path.replace('\\', "/").replace('"', "\\\""));
    match spec {
        SourceSpec::Cifar { kind, path, split } => {
            let name = match kind {
                CifarKind::Cifar10 => "cifar10",
                CifarKind::Cifar100 => "cifar100",
            };
            let split = match split {
                Split::Train => "train",
                Split::Val => "val",
            };
            format!("{name}({}, \"{split}\")", text(path))
        }
        SourceSpec::Digits { split } => format!("digits(\"{split}\")"),
        SourceSpec::ImageFolder { path, .. } => format!("image_folder({})", text(path)),
        SourceSpec::Idx { images, labels } => match labels {
            Some(labels) => format!("idx({}, labels: {})", text(images), text(labels)),
            None => format!("idx({})", text(images)),
        },
        SourceSpec::Npy { path, .. } => format!("npy({})", text(path)),
        SourceSpec::Parquet { path, image, .. } if image == "image" => format!("parquet({})", text(path)),
        SourceSpec::Parquet { path, image, .. } => format!("parquet({}, image: \"{image}\")", text(path)),
        SourceSpec::TarShards { path, .. } => format!("tar_shards({})", text(path)),
        SourceSpec::Shapes(_) => "shapes()".to_owned(),
    }
}

/// A pipeline that comes with the program, read.
struct Shipped {
    method: String,
    sources: Sources,
    text: String,
    uses: Vec<Use>,
    items: Vec<Item>,
}

impl Shipped {
    fn find(method: &str) -> Result<Shipped, String> {
        let Some(text) = Sources::shipped(method) else {
            let near = cmae::diag::suggest(method, Sources::shipped_names());
            let help = near.unwrap_or_else(|| "`cmaec new` lists them".to_owned());
            return Err(format!("no pipeline `{method}` comes with the program\nhelp: {help}"));
        };
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let id = sources.add_text(format!("std::{method}"), text);
        let file = parse_file(&sources, id, &mut diagnostics).map_err(|_| draw(diagnostics.list(), &sources))?;
        Ok(Shipped { method: method.to_owned(), sources, text: text.to_owned(), uses: file.uses, items: file.items })
    }

    fn pipeline(&self) -> Option<&Pipeline> {
        self.items.iter().find_map(|item| match item {
            Item::Pipeline(pipeline) => Some(&**pipeline),
            _ => None,
        })
    }

    fn as_variant(&self) -> Option<&Variant> {
        self.items.iter().find_map(|item| match item {
            Item::Variant(variant) => Some(&**variant),
            _ => None,
        })
    }

    /// The value of `data.NAME`.
    fn source(&self, name: &str) -> Option<&Expr> {
        let sections = self.pipeline()?.sections.iter().filter(|section| section.kind == SectionKind::Data);
        sections.flat_map(|section| &section.entries).find_map(|entry| match entry {
            Entry::Binding(binding) if &*binding.name.text == name => Some(&binding.value),
            _ => None,
        })
    }

    /// Asks for the pictures, where somebody is there to say and the method does not bring its own.
    fn ask(&self) -> Result<Option<Pictures>, String> {
        let reads_files = |value: &Expr| self.sources.slice(value.span).contains("(\"data/");
        let brings_own = self.source("train").is_some_and(|value| !reads_files(value));
        if brings_own || !stdin().is_terminal() || !output::is_terminal() {
            return Ok(None);
        }
        output::message(format_args!("Your pictures (a folder with `train` and `val`; Enter leaves data/imagenet): "));
        let mut line = String::new();
        stdin().read_line(&mut line).map_err(|error| error.to_string())?;
        match line.trim() {
            "" => Ok(None),
            path => Pictures::at(path).map(Some),
        }
    }

    /// The whole text, under another name.
    fn whole(&self, name: &str, file: &Path, pictures: Option<&Pictures>) -> String {
        let bytes = |span: Span| span.start as usize..span.end as usize;
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        for item in &self.items {
            let own = item.name();
            if matches!(item, Item::Pipeline(_) | Item::Variant(_)) && *own.text == *self.method {
                edits.push((bytes(own.span), name.to_owned()));
            }
        }
        // What stood beside it is not beside the copy.
        for used in &self.uses {
            if let Use::Pipeline { module, .. } = used
                && let [pipeline] = &module[..]
            {
                edits.push((bytes(pipeline.span), format!("std::{}", pipeline.text)));
            }
        }
        let set = |name: &str, value: &str| self.source(name).map(|old| (bytes(old.span), value.to_owned()));
        if let Some(pictures) = pictures {
            edits.extend(set("train", &pictures.train));
            edits.extend(pictures.val.iter().filter_map(|val| set("val", val)));
            if let Some(variant) = self.as_variant() {
                let behind = variant.base.span.end as usize;
                let open = self.text[behind..].find('{').map_or(behind, |open| behind + open + 1);
                edits.push((open..open, format!("\n{}", settings(pictures).concat().trim_end())));
            }
        }
        edits.sort_by_key(|(place, _)| place.start);
        let mut text = self.text.clone();
        for (place, new) in edits.into_iter().rev() {
            text.replace_range(place, &new);
        }
        let run = |line: &str| match line.starts_with("// run:") {
            true => format!("// run:      cmaec run {}\n", file.display()),
            false => format!("{line}\n"),
        };
        text.lines().map(run).collect()
    }

    /// A variant of it, with settings that it could change as comments.
    fn variant(&self, name: &str, file: &Path, pictures: Option<&Pictures>) -> String {
        let method = &self.method;
        let mut text = format!(
            "// {method}, changed.\n// run:      cmaec run {}\n\nuse pipeline std::{method}\n\npipeline {name} = {method} with {{\n",
            file.display()
        );
        // A method under its own name would be a variant of itself.
        if name == method {
            text = text.replace(&format!("std::{method}\n"), &format!("std::{method} as base\n"));
            text = text.replace(&format!("= {method} with"), "= base with");
        }
        text += &pictures.map(settings).unwrap_or_default().concat();
        text += &self.could_change().concat();
        text + "}\n"
    }

    /// Parameters, and the settings that people change first.
    fn could_change(&self) -> Vec<String> {
        let Some(pipeline) = self.pipeline() else {
            return vec!["  // train.epochs = 100\n".to_owned()];
        };
        let shown = |value: &Expr| self.sources.slice(value.span).split_whitespace().collect::<Vec<_>>().join(" ");
        let params = pipeline.params.iter().map(|(name, value)| format!("  // {} = {}\n", name.text, shown(value)));
        let of = |kind: SectionKind, names: &'static [&'static str]| {
            let word = if kind == SectionKind::Data { "data" } else { "train" };
            let entries = pipeline.sections.iter().filter(move |section| section.kind == kind).flat_map(|s| &s.entries);
            entries.filter_map(move |entry| match entry {
                Entry::Binding(binding) if names.contains(&&*binding.name.text) => {
                    Some(format!("  // {word}.{} = {}\n", binding.name.text, shown(&binding.value)))
                }
                _ => None,
            })
        };
        let data = of(SectionKind::Data, &["batch_size"]);
        let train = of(SectionKind::Train, &["epochs", "optimizer", "learning_rate", "precision"]);
        params.chain(data).chain(train).collect()
    }
}

fn settings(pictures: &Pictures) -> Vec<String> {
    let val = pictures.val.iter().map(|val| format!("  data.val   = {val}\n"));
    std::iter::once(format!("  data.train = {}\n", pictures.train)).chain(val).collect()
}
