//! What `evaluate` judges classes of pixels by: `segment`.

use crate::decl::InputKind;
use crate::diag::{Code, Diagnostic, Reported};
use crate::elab::{Bag, Bound, Dims, Kind, Tensor, Value};
use crate::op::DType;
use crate::source::Span;
use crate::spec::{EvaluateSpec, Limit, Segmentation, ViewFrom};

use super::Trace;
use super::evaluate::{Call, Outputs};

/// Parameters of `segment`.
pub const SEGMENT: &[&str] = &["logits", "label_map", "queries?", "every?", "query_limit?"];

impl Bound<'_> {
    pub(super) fn segment(
        &mut self,
        call: Call<'_>,
        spec: &mut EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        self.named_once("segment", &call, spec)?;
        let bag = self.machine.bind_builtin("segment", SEGMENT, call.arguments, call.span, call.scope)?;
        let (logits, at) = self.pixels_of(&bag, "logits")?;
        let (label_map, map_at) = self.pixels_of(&bag, "label_map")?;
        let fits = matches!(logits.ty.shape[..], [b, h, w, k] if k > 0 && label_map.ty.shape == [b, h, w])
            && (logits.ty.dtype, label_map.ty.dtype) == (DType::Float, DType::Int);
        if !fits {
            let (found, beside) = (Dims(&logits.ty.shape), Dims(&label_map.ty.shape));
            return self.machine.fail(
                Diagnostic::new(
                    Code::ShapeMismatch,
                    format!(
                        "`segment` wants logits [B, H, W, K] and a label map [B, H, W], found {found} and {beside}"
                    ),
                )
                .label(at, format!("this is {found}"))
                .label(map_at, format!("this is {beside}"))
                .help(
                    "write `segment(upsample(logits, encoder.grid, image_size), op::label_map(views.eval, classes))`",
                ),
            );
        }
        let classes = logits.ty.shape[3];
        let taken = self.machine.tensors.call("argmax", vec![Some(Value::new(Kind::Tensor(logits), at))], at);
        let taken = self.machine.check(taken)?;
        let taken = self.machine.to_tensor("`logits` of `segment`", &taken)?;
        let every = self.duration(bag.get("every"), "`every` of `segment`")?;
        let queries = self.source_of("segment", "queries", "val", bag.get("queries"), call.span)?;
        self.check_label_maps(&queries, map_at)?;
        let query_limit = bag.limit("query_limit", Limit::default());
        let query_limit = self.machine.check(query_limit)?;
        let name = call.name.to_owned();
        let (output, wanted) = (format!("evaluate.{name}"), format!("evaluate.{name}.label_map"));
        outputs.push((output.clone(), taken.id));
        outputs.push((wanted.clone(), label_map.id));
        spec.segmentations.push(Segmentation { name, output, wanted, classes, queries, query_limit, every });
        Ok(())
    }

    /// The tensor of an argument, and where it stands.
    fn pixels_of(&mut self, bag: &Bag, name: &str) -> Result<(Tensor, Span), Reported> {
        match bag.get(name) {
            Some(value) if !matches!(value.kind, Kind::Poison) => {
                Ok((self.machine.to_tensor(&format!("`{name}` of `segment`"), value)?, value.span))
            }
            _ => Err(Reported),
        }
    }

    /// Looks whether the sources of training have the label maps that `trace` shows.
    pub(super) fn shown_label_maps(&mut self, trace: &Trace) {
        for input in &trace.inputs {
            let InputKind::LabelMap { view, .. } = &input.kind else { continue };
            let asked = trace.places.iter().find(|(name, _)| *name == input.name).map(|(_, span)| *span);
            let mut from = self.machine.views.iter().find(|known| known.spec.name == *view);
            let source = loop {
                match from.map(|view| &view.spec.from) {
                    Some(ViewFrom::View(parent)) => {
                        from = self.machine.views.iter().find(|known| known.spec.name == *parent);
                    }
                    Some(ViewFrom::Source(name)) => break name.clone(),
                    // A recipe is applied to what is trained on.
                    Some(ViewFrom::Recipe) | None => break "train".to_owned(),
                }
            };
            // It is an error of the text, which is told.
            let _ = self.check_label_maps(&source, asked.unwrap_or(self.pipeline.span));
        }
    }

    /// Refuses a source whose pictures have no label maps, which are asked for at `asked`.
    pub(super) fn check_label_maps(&mut self, source: &str, asked: Span) -> Result<(), Reported> {
        if self.spec.data.source(source).is_none_or(|spec| spec.has_label_maps()) {
            return Ok(());
        }
        let written = self.source_spans.iter().find(|(name, _)| name == source).map_or(asked, |(_, written)| *written);
        self.machine.fail(
            Diagnostic::new(Code::NoLabelMap, format!("pixels of data.{source} have no classes"))
                .label(asked, "they are asked for here")
                .label(written, "without label maps")
                .help("name the folder of their label maps: `image_folder(\"data/images\", label_maps: \"data/annotations\")`"),
        )
    }
}
