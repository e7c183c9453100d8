//! Syntax: text → AST with spans, by the grammar in `grammar/cmae.pest`.
//!
//! Before: `source`. After: `elab`.
//!
//! **Invariant:** syntax looks nothing up; a tree says only what was written.

pub mod ast;
mod expr;
mod fault;
mod item;
mod limits;
mod print;
pub mod token;
mod unexpected;

use pest::Parser;
use pest::iterators::Pair;

use crate::diag::{Diagnostic, Diagnostics, Reported};
use crate::source::{SourceId, Sources, Span};

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/cmae.pest"]
struct Grammar;

/// Parses a whole file.
pub fn parse_file(sources: &Sources, id: SourceId, diagnostics: &mut Diagnostics) -> Result<ast::File, Reported> {
    let pair = parse(sources, id, Rule::file, diagnostics)?;
    Builder { source: id }.file(pair).map_err(|d| diagnostics.push(d))
}

/// Parses `NAME=VALUE` of the command line.
pub fn parse_override(
    sources: &Sources,
    id: SourceId,
    diagnostics: &mut Diagnostics,
) -> Result<ast::Override, Reported> {
    let pair = parse(sources, id, Rule::override_argument, diagnostics)?;
    let entry = pair.into_inner().next().expect("the grammar gives override_argument one entry");
    Builder { source: id }.override_entry(entry).map_err(|d| diagnostics.push(d))
}

/// Parses `NAME=A,B` of the command line; gives the override for each value.
pub fn parse_sweep(
    sources: &Sources,
    id: SourceId,
    diagnostics: &mut Diagnostics,
) -> Result<Vec<ast::Override>, Reported> {
    let pair = parse(sources, id, Rule::sweep_argument, diagnostics)?;
    let builder = Builder { source: id };
    let mut inner = pair.into_inner();
    let path = inner.next().expect("the grammar gives sweep_argument a path");
    let path: Vec<ast::Name> = path.into_inner().map(|p| builder.name(p)).collect();
    let values = inner.filter(|p| p.as_rule() == Rule::expr).map(|value| builder.expr(value));
    let change = |value| ast::Override { path: path.clone(), value, adds: false };
    values.map(|value| value.map(change)).collect::<Built<_>>().map_err(|d| diagnostics.push(d))
}

/// Parses an expression that stands by itself.
pub fn parse_expr(sources: &Sources, id: SourceId, diagnostics: &mut Diagnostics) -> Result<ast::Expr, Reported> {
    let pair = parse(sources, id, Rule::lone_expr, diagnostics)?;
    let expr = pair.into_inner().next().expect("the grammar gives lone_expr one expression");
    Builder { source: id }.expr(expr).map_err(|d| diagnostics.push(d))
}

/// Turns pairs into trees; an error here is a literal that does not fit its type.
struct Builder {
    source: SourceId,
}

type Built<T> = Result<T, Diagnostic>;

impl Builder {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        // Atomic rules end at the token; others may have taken in trailing white space.
        let text = span.as_str();
        Span::new(self.source, span.start(), span.start() + text.trim_end().len())
    }
}

fn parse<'s>(
    sources: &'s Sources,
    id: SourceId,
    rule: Rule,
    diagnostics: &mut Diagnostics,
) -> Result<Pair<'s, Rule>, Reported> {
    let source = sources.get(id);
    let sound = match source.fault {
        Some(fault) => Err(fault::diagnose(sources, id, fault)),
        None => limits::check(id, &source.text),
    };
    sound.map_err(|diagnostic| diagnostics.push(diagnostic))?;
    match Grammar::parse(rule, &source.text) {
        Ok(mut pairs) => Ok(pairs.next().expect("a parse gives the pair of its rule")),
        Err(error) => Err(diagnostics.push(unexpected::diagnose(id, &source.text, &error))),
    }
}
