//! Operators between operands, joined by how tight they bind.

use std::iter::Peekable;

use pest::iterators::{Pair, Pairs};

use super::ast::{BinaryOp, Expr, ExprKind, UnaryOp};
use super::expr::{cover, join};
use super::level::Level;
use super::{Builder, Rule};
use crate::diag::{Code, Diagnostic};

/// What stands between two operands.
#[derive(Clone, Copy, PartialEq)]
enum Infix {
    Range,
    Binary(BinaryOp),
}

impl Infix {
    fn read(text: &str) -> Infix {
        match BinaryOp::ALL.into_iter().find(|op| op.symbol() == text) {
            Some(op) => Infix::Binary(op),
            // The one that makes no value of two.
            None => Infix::Range,
        }
    }

    /// How tight it binds.
    fn level(self) -> Level {
        match self {
            Infix::Range => Level::Range,
            Infix::Binary(op) => Level::of(op),
        }
    }
}

/// Signs, operands and operators, in the order of the text.
struct Parts<'p> {
    pairs: Peekable<Pairs<'p, Rule>>,
    /// Where in the text the last that was taken ends.
    end: usize,
}

impl<'p> Parts<'p> {
    fn take(&mut self) -> Option<Pair<'p, Rule>> {
        let pair = self.pairs.next()?;
        self.end = pair.as_span().end();
        Some(pair)
    }

    /// Where in the text the next begins.
    fn start(&mut self) -> usize {
        self.pairs.peek().map_or(self.end, |pair| pair.as_span().start())
    }
}

impl Builder<'_> {
    /// Operands with operators between them.
    pub(super) fn infixed(&self, pair: Pair<'_, Rule>) -> Expr {
        self.joined(Level::Or, &mut Parts { pairs: pair.into_inner().peekable(), end: 0 })
    }

    /// What operators of `least` or tighter join, up to the first that binds less.
    fn joined(&self, least: Level, parts: &mut Parts<'_>) -> Expr {
        let first = parts.start();
        let mut value = self.signed(parts);
        // What stood last at this place, and where the operand behind it begins.
        let mut last = None;
        while let Some(sign) = parts.pairs.peek().cloned() {
            let operator = Infix::read(sign.as_str());
            let level = operator.level();
            if level < least {
                break;
            }
            parts.take();
            let begins = parts.start();
            let right = match level.tighter() {
                Level::Unary => self.signed(parts),
                tighter => self.joined(tighter, parts),
            };
            match last {
                Some((before, middle)) if before == level && level.stands_once() => {
                    self.refuse_second(level, &sign, first, middle, parts.end)
                }
                _ => {
                    value = join(value, right, |a, b| match operator {
                        Infix::Range => ExprKind::Range(a, b),
                        Infix::Binary(op) => ExprKind::Binary(op, a, b),
                    });
                    last = Some((level, begins));
                }
            }
        }
        value
    }

    /// Tells of a second `sign` in what stands from `first` to `end`; `middle` is where the operand between both begins.
    fn refuse_second(&self, level: Level, sign: &Pair<'_, Rule>, first: usize, middle: usize, end: usize) {
        let text = sign.get_input();
        let before = text[first..sign.as_span().start()].trim_end();
        self.tell(match level {
            Level::Range => Diagnostic::new(Code::MissingValue, "a range has two ends")
                .label(self.span(sign), "here")
                .help(format!("leave out the third: `{before}`")),
            _ => Diagnostic::new(Code::OtherLanguage, "one comparison is made at a time")
                .label(self.span(sign), "a second one")
                .help(format!("write `{before} and {}`", text[middle..end].trim_end())),
        });
    }

    /// A value with the signs before it.
    fn signed(&self, parts: &mut Parts<'_>) -> Expr {
        let mut signs = Vec::new();
        let mut part = parts.take();
        while let Some(sign) = part.take_if(|part| part.as_rule() == Rule::unary_op) {
            let op = if sign.as_str().starts_with('-') { UnaryOp::Neg } else { UnaryOp::Not };
            signs.push((op, self.span(&sign)));
            part = parts.take();
        }
        let value = self.postfix(part.expect("the grammar has an operand behind signs and operators"));
        let begin = signs.first().map_or(value.span, |(_, span)| *span);
        let span = cover(begin, value.span);
        signs.into_iter().rev().fold(value, |value, (op, _)| Expr { kind: ExprKind::Unary(op, Box::new(value)), span })
    }
}
