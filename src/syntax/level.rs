//! How tightly expressions hold together: what the reader joins by, and what the printer sets parentheses by.

use super::ast::BinaryOp;

/// From what binds the least. Operators of a level are read from the left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Pipe,
    Conditional,
    Or,
    And,
    Comparison,
    Range,
    Sum,
    Product,
    Unary,
    Postfix,
}

impl Level {
    pub fn of(op: BinaryOp) -> Level {
        match op {
            BinaryOp::Or => Level::Or,
            BinaryOp::And => Level::And,
            BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::Less
            | BinaryOp::LessEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterEqual => Level::Comparison,
            BinaryOp::Add | BinaryOp::Sub => Level::Sum,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => Level::Product,
        }
    }

    /// The next tighter; the tightest itself.
    pub fn tighter(self) -> Level {
        match self {
            Level::Pipe => Level::Conditional,
            Level::Conditional => Level::Or,
            Level::Or => Level::And,
            Level::And => Level::Comparison,
            Level::Comparison => Level::Range,
            Level::Range => Level::Sum,
            Level::Sum => Level::Product,
            Level::Product => Level::Unary,
            Level::Unary | Level::Postfix => Level::Postfix,
        }
    }

    /// Whether there is no chain of it: `a < b < c` is two comparisons, and a range has two ends.
    pub fn stands_once(self) -> bool {
        matches!(self, Level::Comparison | Level::Range)
    }
}
