//! Weights of files into the tensors of modules.
//!
//! Before: an arena of initial values. After: what a module was trained to elsewhere stands in it; what the file has not and need not have
//! is as it was.
//!
//! **Invariant:** a tensor that is missing, left over, or of another shape is an error, unless the pipeline says that it may be.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use super::error::WeightsError;
use super::file::{ForeignTensor, open};
use super::fit::{Grids, fit, join};
use super::guess::{Guess, NoGuess, guess, source};
use super::scheme::{self, Piece};
use crate::diag::nearest;
use crate::graph::{Init, Program, TensorDecl, TensorKind};
use crate::spec::{AUTO_NAMES, Spec, WeightsSpec, glob_matches};
use crate::tensor::Element;

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Loaded {
    pub module: String,
    pub file: String,
    /// Name of the scheme, and what it is called in messages.
    pub names: String,
    pub title: String,
    pub prefix: String,
    /// Tensors of the module that are the file's.
    pub loaded: Vec<String>,
    /// Those of them that were changed, and how.
    pub changed: Vec<(String, String)>,
    /// Tensors of the module that the file has not.
    pub missing: Vec<String>,
    /// Fixed positions, which are the module's own.
    pub fixed: Vec<String>,
    /// Tensors of the file that the module has not.
    pub unexpected: Vec<String>,
    /// Tensors of the file that lie elsewhere: other networks, the optimizer's.
    pub outside: usize,
}

impl Loaded {
    /// What is told when a run starts.
    pub fn lines(&self) -> Vec<String> {
        let Loaded { module, file, title, prefix, .. } = self;
        let within = if prefix.is_empty() { String::new() } else { format!(" under `{prefix}`") };
        let mut lines = vec![format!("{module}: {} tensors of {file}{within}, names of {title}", self.loaded.len())];
        lines.extend(self.changed.iter().map(|(name, how)| format!("{module}: {name}: {how}")));
        let listed = |names: &[String]| match names {
            [first, second, third, rest @ ..] if !rest.is_empty() => {
                format!("{first}, {second}, {third} and {} more", rest.len())
            }
            names => names.join(", "),
        };
        for (names, what) in [
            (&self.missing, "not in the file, as the pipeline begins them"),
            (&self.fixed, "fixed, the pipeline's own"),
            (&self.unexpected, "of the file, passed over"),
        ] {
            if !names.is_empty() {
                lines.push(format!("{module}: {what}: {}", listed(names)));
            }
        }
        lines
    }
}

/// Fills the modules of `program` that begin with weights of files. Copies of them are to be made anew.
pub fn load<E: Element>(program: &Program, arena: &mut [E]) -> Result<Vec<Loaded>, WeightsError> {
    program.spec.weights.iter().map(|spec| module(program, spec, arena)).collect()
}

/// Tensors of a module, by their names in it.
fn wanted<'p>(program: &'p Program, module: &str) -> Vec<(&'p str, usize, &'p TensorDecl)> {
    let tensors = program.layout.tensors.iter().enumerate();
    let within = |(index, decl): (usize, &'p TensorDecl)| {
        let name = decl.path.strip_prefix(module)?.strip_prefix('.')?;
        let own = decl.kind != TensorKind::Ema && !matches!(decl.init, Init::CopyOf(_) | Init::Imported { .. });
        own.then_some((name, index, decl))
    };
    tensors.filter_map(within).collect()
}

fn module<E: Element>(program: &Program, spec: &WeightsSpec, arena: &mut [E]) -> Result<Loaded, WeightsError> {
    let path = Path::new(&spec.file);
    let scheme = named_scheme(spec, path)?;
    let tensors = open(path)?;
    let names: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let by_name: HashMap<&str, &ForeignTensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let wanted = wanted(program, &spec.module);
    let ours: Vec<&str> = wanted.iter().map(|(name, ..)| *name).collect();
    let guessed = guess(&names, &ours, &spec.module, scheme, spec.prefix.as_deref());
    let guessed = guessed.map_err(|no| no_guess(no, spec, &tensors, &ours))?;
    let Guess { scheme, part, prefix, .. } = &guessed;
    let is_there = |name: &str| source(&names, part, prefix, name).is_some();
    let grids = Grids {
        here: grid(&program.spec, &spec.module),
        class_here: ours.contains(&"cls_token"),
        class_there: is_there("cls_token"),
    };
    let mut told = Loaded {
        module: spec.module.clone(),
        file: spec.file.clone(),
        names: scheme.name.to_owned(),
        title: scheme.title.clone(),
        prefix: prefix.clone(),
        loaded: Vec::new(),
        changed: Vec::new(),
        missing: Vec::new(),
        fixed: Vec::new(),
        unexpected: Vec::new(),
        outside: names.iter().filter(|name| !name.starts_with(prefix.as_str())).count(),
    };
    let (mut used, mut lacking, mut unfit) = (HashSet::new(), Vec::new(), Vec::new());
    for (name, index, decl) in wanted {
        let pieces = source(&names, part, prefix, name);
        for piece in pieces.iter().flatten() {
            if let Piece::Tensor { name, .. } = piece {
                used.insert(name.clone());
            }
        }
        // What the text itself determines is not the file's to say.
        if matches!(decl.init, Init::SinCos2d { .. }) {
            told.fixed.push(name.to_owned());
            continue;
        }
        let Some(pieces) = pieces else {
            match matches_one(&spec.missing, name) {
                true => told.missing.push(name.to_owned()),
                false => lacking.push(name.to_owned()),
            }
            continue;
        };
        let rows = decl.shape.first().copied().unwrap_or(1);
        let held = join(&pieces, rows, |name| by_name.get(name).map(|tensor| (*tensor).clone()))?;
        let fitted = match held {
            Some(held) => fit(name, &decl.shape, held, grids),
            None => Err(format!("`{name}` cannot be made of {}", of(&pieces, &by_name))),
        };
        match fitted {
            Ok((values, how)) => {
                arena[program.layout.range(index)].copy_from_slice(&values);
                told.loaded.push(name.to_owned());
                told.changed.extend(how.map(|how| (name.to_owned(), how)));
            }
            Err(why) => unfit.push(why),
        }
    }
    let (module, path) = (spec.module.clone(), path.to_owned());
    let sizes = sizes(&guessed, &by_name);
    if !unfit.is_empty() {
        let help = sizes.unwrap_or_else(|| "give the module the sizes of the file".to_owned());
        return Err(WeightsError::Shape { module, path, tensors: unfit, help });
    }
    if !lacking.is_empty() {
        let patterns = patterns(&lacking, &told.loaded);
        return Err(WeightsError::Missing { module, path, names: lacking, patterns });
    }
    let left = tensors.iter().filter(|tensor| !used.contains(&tensor.name));
    let left =
        left.filter_map(|tensor| Some((tensor.name.strip_prefix(prefix.as_str())?.to_owned(), tensor.is_float())));
    // Counts and indices are no weights.
    let (passed, left): (Vec<_>, Vec<_>) =
        left.partition(|(name, float)| !float || matches_one(&spec.unexpected, name));
    told.unexpected = passed.into_iter().map(|(name, _)| name).collect();
    if !left.is_empty() {
        let left: Vec<String> = left.into_iter().map(|(name, _)| name).collect();
        let used: Vec<String> =
            used.iter().filter_map(|name| Some(name.strip_prefix(prefix.as_str())?.to_owned())).collect();
        let patterns = patterns(&left, &used);
        // The sizes tell why blocks are left over.
        let blocks: HashSet<&str> = used.iter().filter_map(|name| block(name)).collect();
        let sizes = sizes.filter(|_| left.iter().filter_map(|name| block(name)).any(|of| !blocks.contains(of)));
        return Err(WeightsError::Unexpected {
            module,
            path,
            names: left,
            patterns,
            sizes: sizes.map(String::into_boxed_str),
        });
    }
    Ok(told)
}

fn matches_one(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| glob_matches(pattern, name))
}

/// The scheme that the pipeline names; `None` leaves it to the file.
fn named_scheme<'s>(spec: &'s WeightsSpec, path: &Path) -> Result<Option<&'s str>, WeightsError> {
    let known = || scheme::all().iter().map(|scheme| scheme.name);
    if spec.names == AUTO_NAMES {
        return Ok(None);
    }
    match known().any(|name| name == spec.names) {
        true => Ok(Some(&spec.names)),
        false => Err(WeightsError::UnknownScheme {
            module: spec.module.clone(),
            path: path.to_owned(),
            name: spec.names.clone(),
            known: known().map(str::to_owned).collect(),
            near: nearest(&spec.names, known()).map(Into::into),
        }),
    }
}

fn no_guess(no: NoGuess, spec: &WeightsSpec, tensors: &[ForeignTensor], ours: &[&str]) -> WeightsError {
    let (module, path) = (spec.module.clone(), spec.file.clone().into());
    match no {
        NoGuess::Several(prefixes) => WeightsError::Several { module, path, prefixes },
        NoGuess::Nothing => {
            let some = |names: &mut dyn Iterator<Item = &str>| {
                let names: Vec<String> =
                    names.take(3).map(|name| format!("`{}`", name.chars().take(80).collect::<String>())).collect();
                if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
            };
            let there = some(&mut tensors.iter().map(|tensor| tensor.name.as_str()));
            let here = some(&mut ours.iter().copied());
            let what = format!("its tensors are named as {there}, the module's as {here}");
            let help = match &spec.prefix {
                Some(_) => "leave `prefix` out, or write what stands before the names".to_owned(),
                None => {
                    "`cmaec inspect FILE` lists what it holds; a module of your own goes by its own names".to_owned()
                }
            };
            WeightsError::NoMatch { module, path, what, help }
        }
    }
}

/// "`a` [2, 3] and `b` [3]", what a tensor was to be made of.
fn of(pieces: &[Piece], by_name: &HashMap<&str, &ForeignTensor>) -> String {
    let named = pieces.iter().filter_map(|piece| match piece {
        Piece::Tensor { name, .. } => {
            by_name.get(name.as_str()).map(|tensor| format!("`{name}` {:?} {}", tensor.shape, tensor.dtype))
        }
        Piece::Zeros => None,
    });
    named.collect::<Vec<_>>().join(" and ")
}

/// The fewest patterns that name `left` and, as far as can be, nothing of `others`.
fn patterns(left: &[String], others: &[String]) -> Vec<String> {
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let taken: HashSet<String> = others.iter().map(|name| first(name)).collect();
    let taken_blocks: HashSet<&str> = others.iter().filter_map(|name| block(name)).collect();
    let pattern = |name: &String| match (block(name), taken.contains(&first(name))) {
        // All of a block.
        (Some(block), true) if !taken_blocks.contains(block) => format!("{block}*"),
        // `blocks.12.norm1.weight`: of any block.
        (_, true) => {
            let any = |part: &str| if part.parse::<u64>().is_ok() { "*".to_owned() } else { part.to_owned() };
            name.split('.').map(any).collect::<Vec<_>>().join(".")
        }
        (_, false) if name.contains('.') => format!("{}.*", first(name)),
        (_, false) => name.clone(),
    };
    let patterns: BTreeSet<String> = left.iter().map(pattern).collect();
    match patterns.len() {
        0..=8 => patterns.into_iter().collect(),
        _ => vec!["*".to_owned()],
    }
}

/// `encoder.layer.3.` of `encoder.layer.3.norm1.weight`: up to the first number.
fn block(name: &str) -> Option<&str> {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len() + 1;
        if part.parse::<u64>().is_ok() {
            return name.get(..end);
        }
    }
    None
}

/// The sizes of the network in the file, as one writes them.
fn sizes(guess: &Guess, by_name: &HashMap<&str, &ForeignTensor>) -> Option<String> {
    let names: HashSet<&str> = by_name.keys().copied().collect();
    let shape = |ours: &str| -> Option<Vec<usize>> {
        match source(&names, guess.part, &guess.prefix, ours)?.as_slice() {
            [Piece::Tensor { name, of: 1, .. }] => Some(by_name.get(name.as_str())?.shape.clone()),
            _ => None,
        }
    };
    let depth =
        (0..).take_while(|i| source(&names, guess.part, &guess.prefix, &format!("blocks.{i}.norm1.weight")).is_some());
    let depth = depth.count();
    let patches = shape("patch_embed.proj.weight").filter(|shape| shape.len() == 4)?;
    let patch = match (patches[2], patches[3]) {
        (height, width) if height == width => format!("{height}px"),
        (height, width) => format!("({height}px, {width}px)"),
    };
    let ratio = shape("blocks.0.mlp.fc1.weight").map(|shape| shape[0] as f64 / patches[0].max(1) as f64);
    let ratio = ratio.map_or_else(String::new, |ratio| format!(", mlp_ratio: {ratio:?}"));
    Some(format!("the file's sizes are `patch_size: {patch}, embed_dim: {}, depth: {depth}{ratio}`", patches[0]))
}

/// Rows and columns of the patches of `module`, where it is a block of `model` that is told an image's size and a patch's.
fn grid(spec: &Spec, module: &str) -> Option<(usize, usize)> {
    let definition = spec.definitions.iter().find(|definition| definition.name == format!("model.{module}"))?;
    let arguments = &definition.block.as_ref()?.arguments;
    let size = |name: &str| {
        let (_, text) = arguments.iter().find(|(argument, _)| argument == name)?;
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
        let numbers: Vec<usize> = numbers.filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [side] => Some((side, side)),
            [height, width] => Some((height, width)),
            _ => None,
        }
    };
    let ((height, width), (rows, columns)) = (size("image_size")?, size("patch_size")?);
    Some((height.checked_div(rows)?, width.checked_div(columns)?))
}
