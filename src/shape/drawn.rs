//! What `evaluate` draws: `reconstructions`.

use crate::diag::{Code, Diagnostic, Reported};
use crate::elab::{Bound, Dims, Kind, Value};
use crate::spec::{EvaluateSpec, ReconstructionsSpec};

use super::evaluate::{Call, Outputs};

/// Parameters of `reconstructions`.
pub const RECONSTRUCTIONS: &[&str] = &["pictures", "view", "count?", "every?", "source?"];

/// Output names of the three pictures.
pub const PICTURES: [&str; 3] = ["original", "masked", "reconstructed"];

impl Bound<'_> {
    pub(super) fn reconstructions(
        &mut self,
        call: Call<'_>,
        spec: &mut EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        let Call { arguments, span, scope, .. } = call;
        if spec.reconstructions.is_some() {
            return self.machine.fail(
                Diagnostic::new(Code::DuplicateName, "`reconstructions` is called twice")
                    .label(span, "again here")
                    .help("remove one of them: a run has one"),
            );
        }
        let bag = self.machine.bind_builtin("reconstructions", RECONSTRUCTIONS, arguments, span, scope)?;
        let every = self.duration(bag.get("every"), "`every` of `reconstructions`")?;
        let wrong = |name: &str, wanted: &str| {
            let value = bag.get(name).cloned().unwrap_or(Value::new(Kind::None, span));
            let what = format!("`{name}` of `reconstructions` wants {wanted}, found {}", value.describe());
            let view = match &value.kind {
                Kind::Str(view) if name == "view" => Some(format!("write `views.{view}`")),
                _ if name == "view" => Some("write `views.online`, the view that `pictures` are of".to_owned()),
                _ if name == "pictures" => Some(
                    "write `reconstruction(online.pixels, views.online, mask: online.mask, patch_size)`".to_owned(),
                ),
                _ => None,
            };
            Diagnostic::new(Code::WrongType, what).label(value.span, "not this").maybe_help(view)
        };
        let fields = match bag.get("pictures").map(|v| &v.kind) {
            Some(Kind::Record(fields)) => fields.clone(),
            _ => {
                let wanted = "a record of `original`, `masked` and `reconstructed`";
                return self.machine.fail(wrong("pictures", wanted));
            }
        };
        for name in PICTURES {
            let Some((_, value)) = fields.iter().find(|(n, _)| &**n == name) else {
                return self.machine.fail(wrong("pictures", &format!("a record with `{name}`")));
            };
            let tensor = self.machine.to_tensor(&format!("`{name}`"), value)?;
            if tensor.ty.shape.len() != 4 {
                return self.machine.fail(
                    Diagnostic::new(
                        Code::ShapeMismatch,
                        format!("`{name}` wants [B, C, H, W], found {}", Dims(&tensor.ty.shape)),
                    )
                    .label(value.span, format!("this is {}", Dims(&tensor.ty.shape))),
                );
            }
            outputs.push((name.to_owned(), tensor.id));
        }
        let view = match bag.get("view").map(|v| &v.kind) {
            Some(Kind::View(index)) => self.machine.views[*index].spec.name.clone(),
            _ => return self.machine.fail(wrong("view", "a view such as views.online")),
        };
        let source = match bag.get("source").map(|v| &v.kind) {
            None if self.spec.data.source("val").is_some() => "val".to_owned(),
            None => "train".to_owned(),
            Some(Kind::Source(source)) => source.to_string(),
            Some(_) => return self.machine.fail(wrong("source", "a source such as data.val")),
        };
        let count = bag.count("count", 8);
        spec.reconstructions = Some(ReconstructionsSpec { count: self.machine.check(count)?, every, view, source });
        Ok(())
    }
}
