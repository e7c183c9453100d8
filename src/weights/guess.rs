//! Which scheme a file's names follow, and what stands before them.
//!
//! Before: the names of a file's tensors, and those of the module. After: [`super::load`] takes each tensor from where it is.
//!
//! What counts is how many of the module's tensors are found; then whether the scheme's own signs are there, and then which prefix is the
//! likelier.

use std::collections::{BTreeSet, HashSet};

use super::scheme::{Part, Piece, Scheme, all};

/// Names of the module by which prefixes are looked for.
const PROBES: usize = 16;

/// Prefixes that are weighed, the most frequent first: a file that has more has been made for it.
const PREFIXES: usize = 64;

/// What a file's names were found to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    pub scheme: &'static Scheme,
    pub part: &'static Part,
    pub prefix: String,
    /// Tensors of the module that are there.
    pub found: usize,
}

/// How likely a prefix is, the likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The module's own name.
    Named,
    Listed(usize),
    Nothing,
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub enum NoGuess {
    Nothing,
    /// These prefixes are equally likely.
    Several(Vec<String>),
}

/// Where the tensors `wanted` of `module` are among `names`; `scheme` and `prefix` where they are known.
pub fn guess(
    names: &HashSet<&str>,
    wanted: &[&str],
    module: &str,
    scheme: Option<&str>,
    prefix: Option<&str>,
) -> Result<Guess, NoGuess> {
    let mut candidates: Vec<(Guess, bool, Rank)> = Vec::new();
    let step = wanted.len().div_ceil(PROBES).max(1);
    let probes: Vec<&str> = wanted.iter().step_by(step).copied().collect();
    for scheme in all().iter().filter(|known| scheme.is_none_or(|name| known.name == name)) {
        for part in &scheme.parts {
            let prefixes = match prefix {
                Some(prefix) => vec![prefix.to_owned()],
                None => prefixes(names, part, &probes),
            };
            for prefix_here in prefixes {
                let rank = rank(&prefix_here, part, module);
                if prefix.is_none() && scheme.only && !matches!(rank, Rank::Listed(_)) {
                    continue;
                }
                let found = wanted.iter().filter(|ours| source(names, part, &prefix_here, ours).is_some()).count();
                if found > 0 {
                    let signed = scheme.signs.iter().any(|sign| names.contains(&*format!("{prefix_here}{sign}")));
                    candidates.push((Guess { scheme, part, prefix: prefix_here, found }, signed, rank));
                }
            }
        }
    }
    // Stable: of what is alike the earlier scheme.
    candidates.sort_by_key(|(guess, signed, rank)| (usize::MAX - guess.found, !signed, *rank));
    let Some((best, signed, rank)) = candidates.first().cloned() else { return Err(NoGuess::Nothing) };
    let alike = candidates.iter().filter(|(other, s, r)| (other.found, *s, *r) == (best.found, signed, rank));
    let prefixes: BTreeSet<&str> = alike.map(|(other, ..)| other.prefix.as_str()).collect();
    match prefixes.len() {
        1 => Ok(best),
        _ => Err(NoGuess::Several(prefixes.into_iter().map(str::to_owned).collect())),
    }
}

/// Of what tensors of the file one of ours is made, with the prefix; `None` where they are not all there.
pub fn source(names: &HashSet<&str>, part: &Part, prefix: &str, ours: &str) -> Option<Vec<Piece>> {
    let prefixed = |piece: Piece| match piece {
        Piece::Tensor { name, index, of } => Piece::Tensor { name: format!("{prefix}{name}"), index, of },
        Piece::Zeros => Piece::Zeros,
    };
    let is_there = |piece: &Piece| match piece {
        Piece::Tensor { name, .. } => names.contains(&**name),
        Piece::Zeros => true,
    };
    let mut sources = part.sources(ours).map(|pieces| pieces.into_iter().map(prefixed).collect::<Vec<Piece>>());
    sources.find(|pieces| pieces.iter().all(is_there))
}

/// What stands before the names of `probes` in the file.
fn prefixes(names: &HashSet<&str>, part: &Part, probes: &[&str]) -> Vec<String> {
    let mut counted: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    for ours in probes {
        for pieces in part.sources(ours) {
            let Some(Piece::Tensor { name, .. }) = pieces.first() else { continue };
            for there in names {
                let Some(prefix) = there.strip_suffix(name.as_str()) else { continue };
                if prefix.is_empty() || prefix.ends_with('.') {
                    *counted.entry(prefix).or_default() += 1;
                }
            }
        }
    }
    let mut counted: Vec<(&str, usize)> = counted.into_iter().collect();
    counted.sort_by_key(|(prefix, count)| (usize::MAX - count, *prefix));
    counted.into_iter().take(PREFIXES).map(|(prefix, _)| prefix.to_owned()).collect()
}

fn rank(prefix: &str, part: &Part, module: &str) -> Rank {
    let last = |text: &str| text.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_owned();
    // At a dot: `target_backbone.` is not `backbone.`.
    let ends = |listed: &String| prefix == listed || prefix.ends_with(&format!(".{listed}"));
    if let Some(at) = part.prefixes.iter().position(ends) {
        let named = prefix.matches('.').count() == 1 && last(prefix) == last(module);
        return if named { Rank::Named } else { Rank::Listed(at) };
    }
    match prefix {
        "" => Rank::Nothing,
        _ if last(prefix) == last(module) => Rank::Named,
        _ => Rank::Other,
    }
}

/// Which scheme a file's names follow, where no module asks: the one that speaks of the most of them.
pub fn guess_alone(names: &HashSet<&str>) -> Option<(&'static Scheme, usize)> {
    let mut best: Option<(&'static Scheme, usize, bool)> = None;
    for scheme in all().iter().filter(|scheme| scheme.name != "own") {
        // A name that no transformer lacks tells the prefixes.
        let probes = ["blocks.0.norm1.weight", "patch_embed.proj.weight"];
        let Some(part) = scheme.parts.first() else { continue };
        for prefix in prefixes(names, part, &probes) {
            if scheme.only && !matches!(rank(&prefix, part, ""), Rank::Listed(_)) {
                continue;
            }
            let signed = scheme.signs.iter().any(|sign| names.contains(&*format!("{prefix}{sign}")));
            let inside = names.iter().filter_map(|name| name.strip_prefix(prefix.as_str()));
            let told = inside.filter(|name| scheme.parts.iter().any(|part| part.explains(name))).count();
            if best.is_none_or(|(_, most, s)| (told, signed || scheme.only) > (most, s)) {
                best = Some((scheme, told, signed || scheme.only));
            }
        }
    }
    best.map(|(scheme, told, _)| (scheme, told))
}
