//! Arguments of one `op::NAME(…)`, read with the type that each must have.

use crate::diag::{Code, Diagnostic};
use crate::elab::{Kind, Tensor, Value, wrong_type};
use crate::op::PatchOrder;
use crate::source::Span;

use super::trace::Operand;

/// Arguments of one call, by position in the signature.
pub struct Args<'a> {
    pub op: &'a str,
    pub names: &'static [&'static str],
    pub values: &'a [Option<Value>],
    pub span: Span,
}

/// Patches along a side of a grid: as many as the largest picture has pixels.
const MAX_SIDE: usize = 65_536;

pub type Read<T> = Result<T, Diagnostic>;

impl Args<'_> {
    pub fn get(&self, name: &str) -> Option<&Value> {
        let index = self.names.iter().position(|n| n.trim_end_matches('?') == name)?;
        self.values[index].as_ref()
    }

    pub fn wrong(&self, name: &str, wanted: &str) -> Diagnostic {
        let what = format!("`{name}` of `op::{}` wants {wanted}", self.op);
        match self.get(name) {
            Some(value) => wrong_type(&format!("`{name}` of `op::{}`", self.op), value, wanted),
            None => Diagnostic::new(Code::MissingArgument, what).label(self.span, "missing in this call"),
        }
    }

    pub fn tensor(&self, name: &str) -> Read<(Tensor, Span)> {
        self.maybe_tensor(name)?.ok_or_else(|| self.wrong(name, "a tensor"))
    }

    pub fn maybe_tensor(&self, name: &str) -> Read<Option<(Tensor, Span)>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value { kind: Kind::Tensor(tensor), span, .. }) => Ok(Some((tensor.clone(), *span))),
            Some(_) => Err(self.wrong(name, "a tensor")),
        }
    }

    /// A tensor or a number.
    pub fn operand(&self, name: &str) -> Read<Operand> {
        self.get(name).and_then(Operand::of).ok_or_else(|| self.wrong(name, "a tensor or a number"))
    }

    pub fn float(&self, name: &str, default: Option<f64>) -> Read<f64> {
        match (self.get(name).map(Value::number), default) {
            (Some(Some(number)), _) => Ok(number),
            (None, Some(default)) => Ok(default),
            _ => Err(self.wrong(name, "a number")),
        }
    }

    pub fn count(&self, name: &str) -> Read<usize> {
        let value = self.get(name).and_then(Value::whole).and_then(|n| usize::try_from(n).ok());
        value.ok_or_else(|| self.wrong(name, "a whole number from 0"))
    }

    pub fn count_or(&self, name: &str, default: usize) -> Read<usize> {
        if self.get(name).is_some() { self.count(name) } else { Ok(default) }
    }

    pub fn flag(&self, name: &str) -> Read<bool> {
        match self.get(name).map(|v| &v.kind) {
            None => Ok(false),
            Some(Kind::Bool(b)) => Ok(*b),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// A tuple of whole numbers; one number is a tuple of one.
    pub fn counts(&self, name: &str) -> Read<Vec<usize>> {
        let Some(value) = self.get(name) else { return Err(self.wrong(name, "whole numbers")) };
        let items = value.items().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
        let counts: Option<Vec<usize>> =
            items.iter().map(|v| v.whole().and_then(|n| usize::try_from(n).ok())).collect();
        counts.ok_or_else(|| self.wrong(name, "whole numbers such as (2, 3)"))
    }

    /// The same, where one number may be −1: what `elements` leave for it.
    pub fn filled_counts(&self, name: &str, elements: usize) -> Read<Vec<usize>> {
        let items = self.get(name).and_then(Value::items).unwrap_or_default();
        let open: Vec<usize> = (0..items.len()).filter(|i| items[*i].whole() == Some(-1)).collect();
        let [open] = open.as_slice() else {
            let first = self.maybe_tensor("x")?.and_then(|(x, _)| x.ty.shape.first().copied()).unwrap_or(1);
            let filled = |(i, item): (usize, &Value)| match open.first() {
                Some(at) if *at == i => first.to_string(),
                _ => item.to_string(),
            };
            let shown: Vec<String> = items.iter().enumerate().map(filled).collect();
            return self.counts(name).map_err(|wrong| match open.len() {
                2.. => wrong.help(format!("one size may be left open: write `({})`", shown.join(", "))),
                _ => wrong,
            });
        };
        let others: Option<usize> = (0..items.len())
            .filter(|i| i != open)
            .map(|i| items[i].whole().and_then(|n| usize::try_from(n).ok()))
            .try_fold(1_usize, |product, n| product.checked_mul(n?));
        let Some(others) = others.filter(|n| *n > 0) else {
            return Err(self.wrong(name, "whole numbers such as (2, -1)"));
        };
        // Where it does not come out even, the rule of `reshape` says so with both numbers.
        let fill =
            |i: usize| if i == *open { (elements / others).max(1) } else { items[i].whole().unwrap_or(0) as usize };
        Ok((0..items.len()).map(fill).collect())
    }

    /// Axes, counted from the end where negative, sorted; all of them where none are given.
    pub fn axes(&self, name: &str, rank: usize) -> Read<Vec<usize>> {
        let Some(value) = self.get(name) else { return Ok((0..rank).collect()) };
        let items = value.items().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
        let mut axes = Vec::new();
        for item in items {
            let axis = item.whole().ok_or_else(|| self.wrong(name, "an axis such as 1 or (1, 2)"))?;
            axes.push(self.axis_in(axis, rank, item.span)?);
        }
        axes.sort_unstable();
        Ok(axes)
    }

    pub fn axis(&self, rank: usize) -> Read<usize> {
        let axis = self.get("axis").and_then(Value::whole).ok_or_else(|| self.wrong("axis", "an axis such as 1"))?;
        self.axis_in(axis, rank, self.get("axis").map_or(self.span, |v| v.span))
    }

    fn axis_in(&self, axis: i64, rank: usize, span: Span) -> Read<usize> {
        let resolved = if axis < 0 { axis + rank as i64 } else { axis };
        if (0..rank as i64).contains(&resolved) {
            return Ok(resolved as usize);
        }
        Err(Diagnostic::new(Code::OutOfRange, format!("axis {axis} of a tensor with {rank} axes"))
            .label(span, "out of range")
            .help(format!("write an axis from 0 to {}", rank.saturating_sub(1))))
    }

    /// (height, width) of a patch or picture, from lengths or whole numbers.
    pub fn size(&self, name: &str) -> Read<(usize, usize)> {
        let side = |value: &Value| match value.kind {
            Kind::Pixels(n) | Kind::Int(n) if n > 0 => Some(n as usize),
            _ => None,
        };
        let size = self.get(name).and_then(|value| match value.items() {
            Some([height, width]) => Some((side(height)?, side(width)?)),
            Some(_) => None,
            None => side(value).map(|s| (s, s)),
        });
        size.ok_or_else(|| self.wrong(name, "a size such as 16px"))
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> Read<(usize, usize)> {
        match self.counts("grid")?.as_slice() {
            [rows, columns] if *rows > MAX_SIDE || *columns > MAX_SIDE => {
                let message = format!("a grid of {rows} × {columns} patches, {MAX_SIDE} a side are the most");
                Err(Diagnostic::new(Code::TooLarge, message)
                    .label(self.get("grid").map_or(self.span, |value| value.span), "too large")
                    .help("write rows and columns such as (14, 14)"))
            }
            [rows, columns] if *rows > 0 && *columns > 0 => Ok((*rows, *columns)),
            _ => Err(self.wrong("grid", "rows and columns such as (14, 14)")),
        }
    }

    /// (low, high) of a range of numbers or ratios; a number is a range of one.
    pub fn range(&self, name: &str) -> Read<(f64, f64)> {
        let value = self.get(name);
        let range = value.and_then(|value| match &value.kind {
            Kind::Range(range) => Some((range.0.number()?, range.1.number()?)),
            _ => value.number().map(|n| (n, n)),
        });
        match range {
            Some((low, high)) if low <= high => Ok((low, high)),
            _ => Err(self.wrong(name, "a range such as 0.75..1.5")),
        }
    }

    pub fn order(&self) -> Read<PatchOrder> {
        match self.get("order").map(|v| &v.kind) {
            None => Ok(PatchOrder::RowColumnChannel),
            Some(Kind::Str(text)) if &**text == "row_column_channel" => Ok(PatchOrder::RowColumnChannel),
            Some(Kind::Str(text)) if &**text == "channel_row_column" => Ok(PatchOrder::ChannelRowColumn),
            Some(_) => Err(self.wrong("order", "\"row_column_channel\" or \"channel_row_column\"")),
        }
    }
}
