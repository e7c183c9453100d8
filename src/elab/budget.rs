//! What one pipeline may cost the compiler: values evaluated, calls within calls, items of a list, modules.
//!
//! **Invariant:** the language has no recursion and no loop without an end, but ends may lie years away: whatever a text can
//! repeat is counted here or in `shape::trace`, and refused past a limit that no pipeline comes near.

use crate::diag::{Code, Diagnostic, Reported};
use crate::source::Span;
use crate::spec::ViewOp;

use super::value::{Kind, Value};
use super::{Checked, Machine};

/// Expressions evaluated, and items handled, in all. The largest pipeline needs a hundredth.
const MAX_EVALUATIONS: usize = 2_000_000;
/// Expressions within expressions, through all calls: what the stack of a test's thread holds twice.
const MAX_DEPTH: usize = 500;
/// Items of a list, those of lists within it counted too.
pub const MAX_ITEMS: usize = 10_000;
/// Lists within lists.
const MAX_NESTED: usize = 32;
/// Copies that one `repeat` makes.
pub const MAX_REPEAT: i64 = 1_000;
/// Modules, copies included.
const MAX_MODULES: usize = 10_000;
/// Letters of a module's path.
const MAX_PATH: usize = 1_000;
/// Views and pieces of views.
const MAX_VIEWS: usize = 10_000;
/// Steps of a view, and steps within steps.
const MAX_STEPS: usize = 64;

/// What has been used up.
#[derive(Debug, Default)]
pub struct Budget {
    evaluations: usize,
    depth: usize,
}

impl Machine<'_> {
    /// Goes one expression or loop deeper; [`leave`](Self::leave) comes back.
    pub(super) fn enter(&mut self, span: Span) -> Checked<()> {
        self.spend(1, span)?;
        if self.budget.depth >= MAX_DEPTH {
            let message = format!("calls and expressions are nested more than {MAX_DEPTH} deep");
            return self.fail(
                Diagnostic::new(Code::TooLarge, message)
                    .label(span, "the innermost")
                    .help("call fewer functions and blocks within each other"),
            );
        }
        self.budget.depth += 1;
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.budget.depth -= 1;
    }

    /// Counts `items` evaluations.
    pub(super) fn spend(&mut self, items: usize, span: Span) -> Checked<()> {
        let spent = self.budget.evaluations > MAX_EVALUATIONS;
        // Told once; and who has been told so much has enough to mend.
        if spent || self.diagnostics.is_full() {
            return Err(Reported);
        }
        self.budget.evaluations = self.budget.evaluations.saturating_add(items);
        if self.budget.evaluations <= MAX_EVALUATIONS {
            return Ok(());
        }
        self.fail(
            Diagnostic::new(Code::TooLarge, format!("the pipeline takes more than {MAX_EVALUATIONS} evaluations"))
                .label(span, "too many here")
                .help("let loops run over fewer items, or repeat fewer modules"),
        )
    }

    pub(super) fn too_many_items<T>(&mut self, span: Span) -> Checked<T> {
        self.fail(
            Diagnostic::new(Code::TooLarge, format!("a list of more than {MAX_ITEMS} items"))
                .label(span, "too large")
                .help("make a shorter list, or several of them"),
        )
    }

    /// A value made of others, if it is not too large.
    pub(super) fn composed(&mut self, kind: Kind, span: Span) -> Checked<Value> {
        let value = Value::new(kind, span);
        let mut left = MAX_ITEMS;
        let fits = measure(&value, MAX_NESTED, &mut left);
        self.spend(MAX_ITEMS - left, span)?;
        match fits {
            Ok(()) => Ok(value),
            Err(Excess::Items) => self.too_many_items(span),
            Err(Excess::Nested) => self.fail(
                Diagnostic::new(Code::TooLarge, format!("lists are nested more than {MAX_NESTED} deep"))
                    .label(span, "too deep")
                    .help("write one list of all items"),
            ),
        }
    }

    /// How often `what` repeats.
    pub(super) fn repetitions(&mut self, count: &Value) -> Checked<i64> {
        match count.whole() {
            Some(n) if (1..=MAX_REPEAT).contains(&n) => Ok(n),
            Some(n) if n > MAX_REPEAT => self.fail(
                Diagnostic::new(Code::TooLarge, format!("`repeat` is {n}, {MAX_REPEAT} are the most"))
                    .label(count.span, "too many")
                    .help("write a number such as `12`"),
            ),
            _ => self.fail(super::misfit::wrong_type("`repeat`", count, "a whole number from 1")),
        }
    }

    /// Room for one more module at `path`.
    pub(super) fn room_for_module(&mut self, path: &str, span: Span) -> Checked<()> {
        let (what, limit) = match () {
            () if self.modules.len() >= MAX_MODULES => ("modules", MAX_MODULES),
            () if path.len() > MAX_PATH => ("letters in the path of a module", MAX_PATH),
            () => return Ok(()),
        };
        self.fail(
            Diagnostic::new(Code::TooLarge, format!("the pipeline makes more than {limit} {what}"))
                .label(span, "one too many")
                .help("repeat fewer blocks, or put fewer into each other"),
        )
    }

    /// Room for one more view with these steps.
    pub(super) fn room_for_view(&mut self, ops: &[ViewOp], span: Span) -> Checked<()> {
        let fits = if self.views.len() < MAX_VIEWS {
            few_steps(ops, span)
        } else {
            Err(Diagnostic::new(Code::TooLarge, format!("the pipeline makes more than {MAX_VIEWS} views"))
                .label(span, "one too many")
                .help("let loops run over fewer items"))
        };
        self.check(fits)
    }
}

/// Whether there are not too many steps, those within others counted too.
pub fn few_steps(ops: &[ViewOp], span: Span) -> Result<(), Diagnostic> {
    fn count(ops: &[ViewOp]) -> usize {
        let within = |op: &ViewOp| match op {
            ViewOp::RandomApply { ops, .. } => 1 + count(ops),
            _ => 1,
        };
        ops.iter().map(within).sum()
    }
    if count(ops) <= MAX_STEPS {
        return Ok(());
    }
    Err(Diagnostic::new(Code::TooLarge, format!("a view of more than {MAX_STEPS} steps"))
        .label(span, "one too many")
        .help("leave some of them out"))
}

enum Excess {
    Items,
    Nested,
}

/// Counts what a value holds down from `left`.
fn measure(value: &Value, nested: usize, left: &mut usize) -> Result<(), Excess> {
    let mut inner = |value: &Value| {
        *left = left.checked_sub(1).ok_or(Excess::Items)?;
        measure(value, nested.checked_sub(1).ok_or(Excess::Nested)?, left)
    };
    match &value.kind {
        Kind::Tuple(items) | Kind::List(items) => items.iter().try_for_each(inner),
        Kind::Record(fields) => fields.iter().try_for_each(|(_, field)| inner(field)),
        Kind::Range(range) => inner(&range.0).and_then(|()| inner(&range.1)),
        _ => Ok(()),
    }
}
