//! Naming schemes: what other programs call the tensors that modules of this language have.
//!
//! Before: a table of text for each, in `schemes/`, which says whose names they are. After: [`super::guess`] looks for them in a file, and
//! `export` writes them.
//!
//! ```text
//! # Comments.
//! title MAE (facebookresearch/mae)   what the scheme is called in messages
//! like timm                          the parts of another scheme, beside its own
//! sign decoder_embed.weight          a tensor that tells it from others that name the module's alike
//! prefix model.                      what may stand before the names, the likeliest first
//! only                               it counts with one of those prefixes alone
//!
//! [decoder]                          names of one kind of module
//! pred.{p} = decoder_pred.{p}        ours, and theirs, in both directions
//! a.bias   < b.bias + 0 + c.bias     when a file is read alone; parts are joined, and 0 stands for zeros
//! a.bias   < b.bias[0/3]             the first of three parts
//! ```
//! Placeholders are those of [`crate::pattern`].

use std::sync::OnceLock;

use crate::pattern::Pattern;

/// Tables by name, in the order in which they are tried.
const TABLES: &[(&str, &str)] = &[
    ("timm", include_str!("schemes/timm.txt")),
    ("mae", include_str!("schemes/mae.txt")),
    ("beit", include_str!("schemes/beit.txt")),
    ("moco_v3", include_str!("schemes/moco_v3.txt")),
    ("dino", include_str!("schemes/dino.txt")),
    ("lightly_train", include_str!("schemes/lightly_train.txt")),
    ("mmpretrain", include_str!("schemes/mmpretrain.txt")),
    ("transformers_vit", include_str!("schemes/transformers_vit.txt")),
    ("transformers_beit", include_str!("schemes/transformers_beit.txt")),
    ("transformers_dinov2", include_str!("schemes/transformers_dinov2.txt")),
    ("own", include_str!("schemes/own.txt")),
];

/// One program's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheme {
    pub name: &'static str,
    pub title: String,
    /// Whether it counts with its own prefixes alone.
    pub only: bool,
    pub signs: Vec<String>,
    pub parts: Vec<Part>,
}

/// Names of one kind of module.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub name: String,
    /// The likeliest first; each ends in a dot.
    pub prefixes: Vec<String>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub ours: Pattern,
    pub theirs: Vec<Term>,
    /// Whether it is also how their files are written.
    pub both: bool,
}

/// A part of one of our tensors, along its first axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    Tensor {
        name: Pattern,
        /// The part `index` of `of` equal ones; all of it is 0 of 1.
        index: usize,
        of: usize,
    },
    Zeros,
}

/// The same with its name filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Tensor { name: String, index: usize, of: usize },
    Zeros,
}

impl Part {
    /// What `ours` may be made of, the likeliest first.
    pub fn sources<'p>(&'p self, ours: &'p str) -> impl Iterator<Item = Vec<Piece>> + 'p {
        self.rows.iter().filter_map(move |row| {
            let bindings = row.ours.matches(ours)?;
            let piece = |term: &Term| match term {
                Term::Tensor { name, index, of } => {
                    Piece::Tensor { name: name.fill(&bindings), index: *index, of: *of }
                }
                Term::Zeros => Piece::Zeros,
            };
            Some(row.theirs.iter().map(piece).collect())
        })
    }

    /// What their files hold of `ours`: the names of its equal parts, in order.
    pub fn targets(&self, ours: &str) -> Option<Vec<String>> {
        self.rows.iter().filter(|row| row.both).find_map(|row| {
            let bindings = row.ours.matches(ours)?;
            let name = |term: &Term| match term {
                Term::Tensor { name, .. } => Some(name.fill(&bindings)),
                Term::Zeros => None,
            };
            row.theirs.iter().map(name).collect()
        })
    }

    /// Whether one of its rows speaks of a tensor that goes by `theirs`.
    pub fn explains(&self, theirs: &str) -> bool {
        let is_it = |term: &Term| matches!(term, Term::Tensor { name, .. } if name.matches(theirs).is_some());
        self.rows.iter().any(|row| row.theirs.iter().any(is_it))
    }
}

/// All schemes, in the order in which they are tried.
pub fn all() -> &'static [Scheme] {
    static ALL: OnceLock<Vec<Scheme>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut schemes: Vec<Scheme> = Vec::new();
        for (name, text) in TABLES {
            let read = parse(name, text, &schemes).expect("the tables that come with the program are read by a test");
            schemes.push(read);
        }
        schemes
    })
}

/// The part `name` of the scheme `scheme`.
pub fn part(scheme: &str, name: &str) -> Option<&'static Part> {
    all().iter().find(|known| known.name == scheme)?.parts.iter().find(|part| part.name == name)
}

/// Reads a table; `before` are the schemes that it may be like.
fn parse(name: &'static str, text: &str, before: &[Scheme]) -> Result<Scheme, String> {
    let mut scheme = Scheme { name, title: name.to_owned(), only: false, signs: Vec::new(), parts: Vec::new() };
    let (mut prefixes, mut own) = (Vec::new(), false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fault = || format!("{name}: `{line}`");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("title", title) => scheme.title = title.to_owned(),
            ("sign", sign) => scheme.signs.push(sign.to_owned()),
            ("only", "") => scheme.only = true,
            ("like", other) => {
                let other = before.iter().find(|scheme| scheme.name == other).ok_or_else(fault)?;
                // Its prefixes are its own.
                scheme.parts.extend(other.parts.iter().map(|part| Part { prefixes: Vec::new(), ..part.clone() }));
            }
            ("prefix", prefix) if prefix.ends_with('.') => match scheme.parts.last_mut().filter(|_| own) {
                Some(part) => part.prefixes.push(prefix.to_owned()),
                None => prefixes.push(prefix.to_owned()),
            },
            _ => match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                Some(part) => {
                    own = true;
                    scheme.parts.push(Part { name: part.to_owned(), prefixes: Vec::new(), rows: Vec::new() });
                }
                None => {
                    let row = row(line).ok_or_else(fault)?;
                    scheme.parts.last_mut().ok_or_else(fault)?.rows.push(row);
                }
            },
        }
    }
    for part in &mut scheme.parts {
        part.prefixes.extend(prefixes.iter().cloned());
    }
    Ok(scheme)
}

fn row(line: &str) -> Option<Row> {
    let (ours, sign, theirs) = match (line.split_once(" = "), line.split_once(" < ")) {
        (Some((ours, theirs)), _) => (ours, "=", theirs),
        (None, Some((ours, theirs))) => (ours, "<", theirs),
        (None, None) => return None,
    };
    let theirs = theirs.split(" + ").map(|text| term(text.trim())).collect::<Option<Vec<Term>>>()?;
    Some(Row { ours: Pattern::parse(ours.trim()).ok()?, theirs, both: sign == "=" })
}

fn term(text: &str) -> Option<Term> {
    if text == "0" {
        return Some(Term::Zeros);
    }
    let Some((name, part)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) else {
        return Some(Term::Tensor { name: Pattern::parse(text).ok()?, index: 0, of: 1 });
    };
    let (index, of) = part.split_once('/')?;
    let (index, of) = (index.parse().ok()?, of.parse().ok()?);
    (index < of).then_some(Term::Tensor { name: Pattern::parse(name).ok()?, index, of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_read_and_says_which_names_are_which() {
        let mut before = Vec::new();
        for (name, text) in TABLES {
            before.push(parse(name, text, &before).expect("a table is read"));
        }
        for scheme in &before {
            assert_ne!(scheme.title, scheme.name, "{} has a title", scheme.name);
            for part in &scheme.parts {
                assert!(!part.rows.is_empty(), "{} [{}]", scheme.name, part.name);
                for row in &part.rows {
                    let ours = row.ours.placeholders();
                    let filled = |term: &Term| match term {
                        Term::Tensor { name, .. } => name.placeholders().iter().all(|name| ours.contains(name)),
                        Term::Zeros => true,
                    };
                    assert!(row.theirs.iter().all(filled), "{}: {row:?}", scheme.name);
                    // A row that is written too can be read back: nothing is made up, nothing left out.
                    let whole = |term: &Term| matches!(term, Term::Tensor { of: 1, .. });
                    assert!(!row.both || row.theirs.iter().all(whole), "{}: {row:?}", scheme.name);
                }
            }
        }
    }

    #[test]
    fn ours_are_made_of_theirs() {
        let scheme = all().iter().find(|scheme| scheme.name == "transformers_vit").expect("it is there");
        let sources: Vec<Vec<Piece>> = scheme.parts[0].sources("blocks.3.attn.qkv.weight").collect();
        let of = |which: &str| Piece::Tensor {
            name: format!("encoder.layer.3.attention.attention.{which}.weight"),
            index: 0,
            of: 1,
        };
        assert_eq!(sources[0], [of("query"), of("key"), of("value")]);
        let named = |which: &str| format!("encoder.layer.3.attention.attention.{which}.bias");
        let targets = scheme.parts[0].targets("blocks.3.attn.qkv.bias");
        assert_eq!(targets, Some(["query", "key", "value"].map(named).to_vec()));
        assert_eq!(scheme.parts[0].targets("head.weight"), None);
        assert!(scheme.parts[0].explains("encoder.layer.11.output.dense.bias"));
        assert!(!scheme.parts[0].explains("pooler.dense.bias"));
    }
}
