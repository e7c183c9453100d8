//! Syntax: text → AST with spans, by the grammar in `grammar/cmae.pest`.
//!
//! Before: `source`. After: `elab`.
//!
//! What the grammar refuses is read again by [`recover`]: each mistake is told, in the words of what was written, and the tree holds
//! the rest of the file, with [`ast::ExprKind::Unread`] where a value could not be read.
//!
//! **Invariant:** syntax looks nothing up; a tree says only what was written.

pub mod ast;
mod brackets;
mod expr;
mod fault;
mod forms;
mod heads;
mod infix;
mod item;
mod letters;
mod level;
mod limits;
mod mended;
mod numbers;
mod place;
mod print;
mod recover;
mod sections;
pub mod token;

use std::cell::RefCell;

use pest::Parser;
use pest::iterators::{Pair, Pairs};

use crate::diag::{Diagnostic, Diagnostics, Reported};
use crate::source::{SourceId, Sources, Span};
use mended::{Mended, UNREAD};

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/cmae.pest"]
struct Grammar;

/// Parses a whole file. Where it has errors, the tree holds what could be read all the same.
pub fn parse_file(sources: &Sources, id: SourceId, diagnostics: &mut Diagnostics) -> Result<ast::File, Reported> {
    read(sources, id, Rule::file, diagnostics, |builder, pair| builder.file(pair))
}

/// Parses `NAME=VALUE` of the command line.
pub fn parse_override(
    sources: &Sources,
    id: SourceId,
    diagnostics: &mut Diagnostics,
) -> Result<ast::Override, Reported> {
    whole(sources, id, Rule::override_argument, diagnostics, |builder, pair| {
        builder.override_entry(pair.into_inner().next().expect("the grammar gives override_argument one entry"))
    })
}

/// Parses `NAME=A,B` of the command line; gives the override for each value.
pub fn parse_sweep(
    sources: &Sources,
    id: SourceId,
    diagnostics: &mut Diagnostics,
) -> Result<Vec<ast::Override>, Reported> {
    whole(sources, id, Rule::sweep_argument, diagnostics, |builder, pair| {
        let mut inner = pair.into_inner();
        let path = builder.dotted(inner.next().expect("the grammar gives sweep_argument a path"));
        let last = path.last().expect("a path has a name");
        let values = inner.filter(|p| p.as_rule() == Rule::expr).map(|value| builder.expr(value));
        let changes = values.map(|value| ast::Change::Set(ast::Binding::plain(last.clone(), value)));
        changes.map(|change| ast::Override { path: path.clone(), change }).collect()
    })
}

/// Parses an expression that stands by itself.
pub fn parse_expr(sources: &Sources, id: SourceId, diagnostics: &mut Diagnostics) -> Result<ast::Expr, Reported> {
    whole(sources, id, Rule::lone_expr, diagnostics, |builder, pair| {
        builder.expr(pair.into_inner().next().expect("the grammar gives lone_expr one expression"))
    })
}

/// Turns pairs into trees. A literal that does not fit its type is told, and not read.
struct Builder<'m> {
    source: SourceId,
    /// The text that the pairs are of, where it is not the one that was written.
    mended: Option<&'m Mended>,
    told: RefCell<Vec<Diagnostic>>,
}

impl Builder<'_> {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        // Atomic rules end at the token; others may have taken in trailing white space.
        let range = span.start()..span.start() + span.as_str().trim_end().len();
        match self.mended {
            Some(mended) => mended.span(self.source, &range),
            None => Span::new(self.source, range.start, range.end),
        }
    }

    fn tell(&self, diagnostic: Diagnostic) {
        self.told.borrow_mut().push(diagnostic);
    }
}

/// The tree of a text without errors.
fn whole<T>(
    sources: &Sources,
    id: SourceId,
    rule: Rule,
    diagnostics: &mut Diagnostics,
    build: impl FnOnce(&Builder<'_>, Pair<'_, Rule>) -> T,
) -> Result<T, Reported> {
    let mut found = Diagnostics::default();
    let tree = read(sources, id, rule, &mut found, build);
    found.list().iter().for_each(|diagnostic| {
        diagnostics.push(diagnostic.clone());
    });
    if found.has_errors() { Err(Reported) } else { tree }
}

/// The tree of a text, with what is wrong in it told; none where nothing of it can be read.
fn read<T>(
    sources: &Sources,
    id: SourceId,
    rule: Rule,
    diagnostics: &mut Diagnostics,
    build: impl FnOnce(&Builder<'_>, Pair<'_, Rule>) -> T,
) -> Result<T, Reported> {
    let source = sources.get(id);
    let sound = match source.fault {
        Some(fault) => Err(fault::diagnose(sources, id, fault)),
        None => limits::check(id, &source.text),
    };
    sound.map_err(|diagnostic| diagnostics.push(diagnostic))?;
    let parsed = Grammar::parse(rule, &source.text).ok().filter(|_| !source.text.contains(UNREAD));
    if let Some(pairs) = parsed {
        return Ok(built(id, None, pairs, diagnostics, build));
    }
    let recovered = recover::recover(id, &source.text, rule);
    recovered.told.into_iter().for_each(|diagnostic| {
        diagnostics.push(diagnostic);
    });
    let mended = recovered.mended.ok_or(Reported)?;
    let pairs = Grammar::parse(rule, &mended.text).map_err(|_| Reported)?;
    Ok(built(id, Some(&mended), pairs, diagnostics, build))
}

fn built<T>(
    source: SourceId,
    mended: Option<&Mended>,
    mut pairs: Pairs<'_, Rule>,
    diagnostics: &mut Diagnostics,
    build: impl FnOnce(&Builder<'_>, Pair<'_, Rule>) -> T,
) -> T {
    let builder = Builder { source, mended, told: RefCell::default() };
    let tree = build(&builder, pairs.next().expect("a parse gives the pair of its rule"));
    builder.told.into_inner().into_iter().for_each(|diagnostic| {
        diagnostics.push(diagnostic);
    });
    tree
}
