//! Patterns over dotted names: `encoder.blocks.{i}.attn.qkv.{rest}`.
//!
//! Mappings of `verify` and naming schemes of `weights` are written in them.
//!
//! **Invariant:** a match covers the whole name, and a placeholder that stands twice holds the same text both times.

use std::collections::BTreeMap;

/// What the placeholders of a match hold.
pub type Bindings = BTreeMap<String, String>;

/// Why a pattern could not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PatternError {
    #[error("`{pattern}` has a brace without its partner (help: write placeholders as `{{i}}` or `{{rest}}`)")]
    Brace { pattern: String },
    #[error(
        "`{pattern}` has a placeholder without a name (help: write `{{i}}` for one component, `{{rest}}` for any text)"
    )]
    Unnamed { pattern: String },
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    /// `{rest}` and names that start so stand for any text, dots too; others for one component.
    Placeholder {
        name: String,
        any: bool,
    },
}

/// A name with placeholders. Each stands for at least one character.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    pub fn parse(pattern: &str) -> Result<Pattern, PatternError> {
        let brace = || PatternError::Brace { pattern: pattern.to_owned() };
        let mut parts = Vec::new();
        let mut rest = pattern;
        while !rest.is_empty() {
            let text_end = rest.find(['{', '}']).unwrap_or(rest.len());
            if text_end > 0 {
                parts.push(Part::Text(rest[..text_end].to_owned()));
                rest = &rest[text_end..];
                continue;
            }
            let inside = rest.strip_prefix('{').ok_or_else(brace)?;
            let end = inside.find(['{', '}']).filter(|&end| inside[end..].starts_with('}')).ok_or_else(brace)?;
            let name = inside[..end].trim();
            if name.is_empty() {
                return Err(PatternError::Unnamed { pattern: pattern.to_owned() });
            }
            parts.push(Part::Placeholder { name: name.to_owned(), any: name.starts_with("rest") });
            rest = &inside[end + 1..];
        }
        Ok(Pattern { parts })
    }

    /// Names of the placeholders, each once.
    pub fn placeholders(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for part in &self.parts {
            if let Part::Placeholder { name, .. } = part
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        }
        names
    }

    /// What the placeholders hold where the pattern matches the whole of `name`; earlier ones take as little as they
    /// can.
    pub fn matches(&self, name: &str) -> Option<Bindings> {
        let mut bindings = Bindings::new();
        matches_from(&self.parts, name, &mut bindings).then_some(bindings)
    }

    /// The name with `bindings` filled in; a placeholder without a binding stays as it is written.
    pub fn fill(&self, bindings: &Bindings) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Placeholder { name, .. } => bindings.get(name).cloned().unwrap_or_else(|| format!("{{{name}}}")),
        };
        self.parts.iter().map(part).collect()
    }
}

fn matches_from(parts: &[Part], text: &str, bindings: &mut Bindings) -> bool {
    match parts {
        [] => text.is_empty(),
        [Part::Text(literal), rest @ ..] => {
            text.strip_prefix(literal.as_str()).is_some_and(|text| matches_from(rest, text, bindings))
        }
        [Part::Placeholder { name, any }, rest @ ..] => {
            if let Some(bound) = bindings.get(name) {
                let bound = bound.clone();
                return text.strip_prefix(bound.as_str()).is_some_and(|text| matches_from(rest, text, bindings));
            }
            for (at, character) in text.char_indices() {
                if character == '.' && !any {
                    return false;
                }
                let end = at + character.len_utf8();
                bindings.insert(name.clone(), text[..end].to_owned());
                if matches_from(rest, &text[end..], bindings) {
                    return true;
                }
                bindings.remove(name);
            }
            false
        }
    }
}

/// The candidate nearest to `name`, for did-you-mean; `None` where none is near.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Under 0.6 of the characters in common a proposal misleads more than it helps.
    let near = candidates.into_iter().map(|candidate| (strsim::normalized_levenshtein(name, candidate), candidate));
    let best = near.filter(|(score, _)| *score >= 0.6).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, candidate)| candidate.to_owned())
}
