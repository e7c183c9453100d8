//! A folder that transformers loads: weights, settings, what becomes of pictures, and a model card.
//!
//! Before: [`super::transformers`] names the class. After: `from_pretrained(FOLDER)`.
//!
//! **Invariant:** weights are written first, whole, and what tells how to read them after: a folder that was not finished loads nowhere.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::card::{About, Card};
use super::decoder::Decoder;
use super::error::ExportError;
use super::module::{self, Written};
use super::preprocess;
use super::transformers::{self, Class};
use crate::graph::Program;
use crate::run::tensor_file::{self, FileTensor, WriteError, write_atomically};
use crate::tensor::Element;
use crate::weights::scheme::{self, Part};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const CARD: &str = "README.md";
const PICTURE: &str = "reconstructions.png";

/// What is written; what else a folder holds is not ours to mix with.
pub const FILES: [&str; 5] = [WEIGHTS, CONFIG, PREPROCESSOR, CARD, PICTURE];

/// What a folder is made of.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Path of the module.
    pub module: &'a str,
    /// Whether its decoder is left out, where there is one.
    pub encoder_only: bool,
    pub about: &'a About,
    /// As its user named it.
    pub shown: &'a Path,
}

/// Writes the module and, where it is the encoder of a masked autoencoder as transformers has it, its decoder into `folder`.
pub fn write<E: Element>(
    program: &Program,
    arena: &[E],
    asked: Asked<'_>,
    folder: &Path,
) -> Result<Written, ExportError> {
    let Asked { module, encoder_only, about, shown } = asked;
    let all = module::held(program, arena, module, &[])?;
    let no_network = |why| ExportError::NoNetwork { module: module.to_owned(), of: "transformers", why };
    let network = module::network(program, module).map_err(no_network)?;
    let encoder = transformers::encoder(&network).map_err(no_network)?;
    let autoencoder = Decoder::of(program, module, &network).ok().filter(|_| !encoder_only);
    let autoencoder =
        autoencoder.and_then(|decoder| Some((transformers::autoencoder(&network, &decoder).ok()?, decoder)));
    let mut left_out = network.left_out.clone();
    let kept = all.into_iter().filter(|tensor| !left_out.contains(&tensor.name)).collect();
    let (class, mut tensors) = match &autoencoder {
        Some((class, decoder)) => {
            let mut tensors = named(kept, class, "vit", true).map_err(no_network)?;
            let decoder = module::held(program, arena, &decoder.module, &[])?;
            tensors.extend(named(decoder, class, "decoder", true).map_err(no_network)?);
            (class, tensors)
        }
        None => (&encoder, named(kept, &encoder, "vit", false).map_err(no_network)?),
    };
    if let Some(end) = class.without {
        left_out.extend(tensors.iter().filter(|tensor| tensor.name.ends_with(end)).map(|tensor| tensor.name.clone()));
        tensors.retain(|tensor| !tensor.name.ends_with(end));
    }
    let of_folder = |folder: &Path| lines(class, &encoder, autoencoder.is_some(), folder);
    let path = |name: &str| folder.join(name);
    if !folder.is_dir() {
        std::fs::create_dir(folder).map_err(|source| WriteError::Io { path: folder.to_owned(), source })?;
    }
    // What another export left there is of other weights.
    for name in [PREPROCESSOR, PICTURE] {
        match std::fs::remove_file(path(name)) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(WriteError::Io { path: path(name), source }.into());
            }
            _ => {}
        }
    }
    tensor_file::write(&path(WEIGHTS), &tensors, &module::metadata(program, module))?;
    json(&path(CONFIG), &Value::Object(class.config.clone()))?;
    let preprocessing = preprocess::of(program);
    if let Some(preprocessing) = &preprocessing {
        json(&path(PREPROCESSOR), &preprocessing.config)?;
    }
    let picture = match &about.picture {
        Some(picture) => {
            let io = |path: &Path| {
                let path = path.to_owned();
                move |source| WriteError::Io { path, source }
            };
            let bytes = std::fs::read(picture).map_err(io(picture))?;
            write_atomically(&path(PICTURE), &bytes).map_err(io(&path(PICTURE)))?;
            Some(PICTURE)
        }
        None => None,
    };
    let unsaid = preprocessing.map_or(Vec::new(), |preprocessing| preprocessing.unsaid);
    // Where the folder will lie is not known here.
    let lines = of_folder(Path::new(folder.file_name().unwrap_or(folder.as_os_str())));
    let card =
        Card { pipeline: &program.spec.name, module, class: class.name, lines: &lines, picture, unsaid: &unsaid };
    let text = card.text(about);
    write_atomically(&path(CARD), text.as_bytes()).map_err(|source| WriteError::Io { path: path(CARD), source })?;
    Ok(Written { tensors: tensors.len(), lines: of_folder(shown), left_out })
}

/// Tensors under the names of a class; behind its prefix where it is a part of the whole.
fn named(tensors: Vec<FileTensor>, class: &Class, part: &str, within: bool) -> Result<Vec<FileTensor>, String> {
    let part: &Part = scheme::part(class.scheme, part).ok_or_else(|| format!("`{}` has no such part", class.scheme))?;
    let prefix = part.prefixes.first().map_or("", String::as_str);
    let no_name = |name| format!("transformers has no name for `{name}`");
    module::renamed(tensors, part, if within { prefix } else { "" }).map_err(no_name)
}

/// The Python that loads the folder and makes features.
fn lines(class: &Class, encoder: &Class, with_decoder: bool, folder: &Path) -> Vec<String> {
    let folder = format!("{:?}", folder.display().to_string());
    let mut lines = vec![
        "import transformers".to_owned(),
        format!("processor = transformers.AutoImageProcessor.from_pretrained({folder})"),
    ];
    if with_decoder {
        lines.push(format!("autoencoder = transformers.{}.from_pretrained({folder})", class.name));
    }
    lines.extend([
        format!("model = transformers.{}.from_pretrained({folder}{})", encoder.name, encoder.arguments),
        "out = model(**processor(images=[picture], return_tensors=\"pt\"))".to_owned(),
        format!("features = {}", encoder.features),
    ]);
    lines
}

fn json(path: &Path, value: &Value) -> Result<(), WriteError> {
    let text = format!("{value:#}\n");
    write_atomically(path, text.as_bytes()).map_err(|source| WriteError::Io { path: path.to_owned(), source })
}
