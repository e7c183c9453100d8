//! Syntax: text → AST with spans, by the grammar in `grammar/cmae.pest`.
//!
//! Before: `source`. After: `elab`.
//!
//! **Invariant:** syntax looks nothing up; a tree says only what was written.

pub mod ast;
mod expr;
mod item;
mod print;

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::Pair;

use crate::diag::{Code, Diagnostic, Diagnostics, Reported};
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
    let text = &sources.get(id).text;
    match Grammar::parse(rule, text) {
        Ok(mut pairs) => Ok(pairs.next().expect("a parse gives the pair of its rule")),
        Err(error) => {
            let at = match error.location {
                InputLocation::Pos(at) => at,
                InputLocation::Span((at, _)) => at,
            };
            // The label covers the token that should not be there.
            let rest = text.get(at..).unwrap_or_default();
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
            let found = match rest.get(..length) {
                Some("") | None => "the end of the text".to_owned(),
                Some(token) => format!("`{}`", token.escape_debug()),
            };
            let mut expected: Vec<&str> = match &error.variant {
                ErrorVariant::ParsingError { positives, .. } => positives.iter().map(|r| describe(*r)).collect(),
                ErrorVariant::CustomError { .. } => Vec::new(),
            };
            expected.sort_unstable();
            expected.dedup();
            let expected = if expected.is_empty() { "something else".to_owned() } else { expected.join(", ") };
            let diagnostic = Diagnostic::new(Code::UnexpectedToken, format!("unexpected {found}"))
                .label(Span::new(id, at, at + length), "here")
                .help(format!("expected {expected}"));
            Err(diagnostics.push(diagnostic))
        }
    }
}

/// What a rule is called in messages.
fn describe(rule: Rule) -> &'static str {
    match rule {
        Rule::expr | Rule::conditional | Rule::or | Rule::and | Rule::comparison | Rule::range | Rule::sum => "a value",
        Rule::product | Rule::unary | Rule::postfix | Rule::primary | Rule::literal | Rule::number => "a value",
        Rule::unary_op | Rule::minus | Rule::kw_not | Rule::group | Rule::list | Rule::record => "a value",
        Rule::sum_op | Rule::product_op | Rule::compare_op | Rule::kw_and | Rule::kw_or | Rule::kw_if => "an operator",
        Rule::field | Rule::call | Rule::index => "`.`, `(` or `[`",
        Rule::name | Rule::word | Rule::path | Rule::dotted | Rule::loop_over => "a name",
        Rule::binding | Rule::assignment | Rule::statement | Rule::override_entry | Rule::initial | Rule::kw_init => {
            "`name = value`"
        }
        Rule::call_entry => "`name = value`",
        Rule::section | Rule::section_name | Rule::branch | Rule::train | Rule::export => "a section",
        Rule::kw_branch | Rule::kw_train | Rule::kw_export => "a section",
        Rule::item | Rule::block | Rule::function | Rule::pipeline | Rule::variant => "`pipeline`, `block` or `fn`",
        Rule::kw_pipeline | Rule::kw_block | Rule::kw_fn => "`pipeline`, `block` or `fn`",
        Rule::use_item | Rule::kw_use => "`use`",
        Rule::pipeline_param | Rule::kw_param | Rule::tensor_decl | Rule::block_entry => "`param`",
        Rule::kw_forward | Rule::forward => "`forward`",
        Rule::string => "a string",
        Rule::argument | Rule::comprehended => "an argument",
        Rule::shape | Rule::dim | Rule::rest_dims => "a shape such as `[B, N, dim]`",
        Rule::type_name | Rule::record_type => "a type such as `int`",
        Rule::time_unit => "`epochs` or `steps`",
        Rule::unit => "`%` or `px`",
        Rule::kw_when => "`when`",
        Rule::kw_frozen => "`frozen`",
        Rule::kw_role => "`role`",
        Rule::kw_repeat => "`repeat`",
        Rule::kw_for | Rule::comprehension | Rule::for_loop => "`for`",
        Rule::kw_in => "`in`",
        Rule::kw_add | Rule::addition => "`add`",
        Rule::EOI => "the end of the file",
        _ => "the rest of the construct",
    }
}
