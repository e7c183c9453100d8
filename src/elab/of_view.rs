//! Operations that take a view and not its pictures: where it lies, and what its pixels belong to.

use std::rc::Rc;

use crate::diag::Reported;
use crate::source::Span;
use crate::syntax::ast::Argument;

use super::misfit::wrong_type;
use super::scope::Scope;
use super::section::whole;
use super::slots::Slot;
use super::value::{Kind, Value};
use super::{Checked, Machine};

/// Operations that take a view and not its pictures.
#[derive(Debug, Clone, Copy)]
pub enum OfView {
    /// Where it lies in its source's picture.
    Geometry,
    /// The pictures of the samples before.
    Beside,
    /// The class of each of its pixels.
    LabelMap,
}

impl OfView {
    pub const ALL: [OfView; 3] = [OfView::Geometry, OfView::Beside, OfView::LabelMap];

    /// That of the name.
    pub fn named(name: &str) -> Option<OfView> {
        OfView::ALL.into_iter().find(|of_view| of_view.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            OfView::Geometry => "geometry",
            OfView::Beside => "beside",
            OfView::LabelMap => "label_map",
        }
    }

    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            OfView::Geometry | OfView::Beside => &["view"],
            OfView::LabelMap => &["view", "classes"],
        }
    }

    /// What it is, for people.
    pub fn about(self) -> &'static str {
        match self {
            OfView::Geometry => {
                "`[B, 5]`: where a view lies in its source: top, left, height, width in shares of its sides, 1 where flipped."
            }
            OfView::Beside => {
                "`[B, C, H, W]`: the pictures of a view, each that of the sample before it in the batch, the first that of the \
                 last: what a picture is mixed with (`std::mixing`)."
            }
            OfView::LabelMap => {
                "Int `[B, H, W]`: the class of each pixel of a view, 0 to `classes` − 1, and −1 where it has none (`std::segmentation`)."
            }
        }
    }
}

impl Machine<'_> {
    /// `op::NAME(view)` of a view.
    pub(super) fn call_of_view(
        &mut self,
        of_view: OfView,
        first: Option<Value>,
        arguments: &[Argument],
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        let slots: Vec<Slot<'_>> = of_view.parameters().iter().map(|name| Slot::builtin(name)).collect();
        let op = format!("op::{}", of_view.name());
        let mut values = self.bind_arguments(&op, &slots, first, arguments, span, scope)?.into_iter().flatten();
        match values.next() {
            Some(Value { kind: Kind::View(index), .. }) => {
                let lost = || self.geometry_lost(index, span);
                let result = match (of_view, values.next()) {
                    (OfView::Beside, _) => self.tensors.beside(&self.views[index], span),
                    (OfView::Geometry, _) => {
                        lost().map_or_else(|| self.tensors.geometry(&self.views[index], span), Err)
                    }
                    (OfView::LabelMap, Some(classes)) => {
                        let classes = whole("`classes` of `op::label_map`", &classes);
                        let classes = classes.and_then(|classes| lost().map_or(Ok(classes), Err));
                        classes.and_then(|classes| self.tensors.label_map(&self.views[index], classes, span))
                    }
                    // It was bound, or that was an error.
                    (OfView::LabelMap, None) => return Err(Reported),
                };
                let tensor = self.check(result)?;
                Ok(Value::new(Kind::Tensor(tensor), span))
            }
            value => {
                let value = value.unwrap_or(Value::new(Kind::None, span));
                self.fail(wrong_type(&format!("`view` of `{op}`"), &value, "a view such as views.online"))
            }
        }
    }
}
