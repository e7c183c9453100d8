//! What becomes of a picture before a network sees it, as transformers' image processors are told.
//!
//! Before: the view that evaluation uses. After: `preprocessor_config.json`, and the normalisation in the metadata of other files.
//!
//! **Invariant:** what the settings cannot say is told, and never passed over.

use serde_json::{Value, json};

use crate::graph::{InputKind, Program};
use crate::spec::{Interpolation, Scaling, ViewOp, ViewSpec};

/// The view that a network sees, as settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// (height, width) of what the network sees.
    pub size: Option<(usize, usize)>,
    pub channels: usize,
    pub scaling: Option<Scaling>,
    pub config: Value,
    /// Steps of the view that no image processor has.
    pub unsaid: Vec<String>,
}

/// The view of the features, or else one of training.
fn view(program: &Program) -> Option<&ViewSpec> {
    let graphs = [program.features.as_ref(), Some(&program.train)].into_iter().flatten();
    let mut names = graphs.flat_map(|graph| &graph.inputs).filter_map(|input| match &input.kind {
        InputKind::View { view } => Some(view),
        _ => None,
    });
    names.find_map(|name| program.spec.views.iter().find(|view| view.name == *name))
}

/// What becomes of the pictures of `program`; `None` where it looks at none.
///
/// Source: transformers 5.24, `ViTImageProcessor` and `BitImageProcessor`.
pub fn of(program: &Program) -> Option<Preprocessing> {
    let view = view(program)?;
    let resample = |interpolation: Interpolation| match interpolation {
        // As Pillow counts them.
        Interpolation::Lanczos => 1,
        Interpolation::Bilinear => 2,
        Interpolation::Bicubic => 3,
    };
    let sides = |(height, width): (usize, usize)| json!({ "height": height, "width": width });
    let (mut resized, mut cropped, mut unsaid) = (None, None, Vec::new());
    for op in &view.ops {
        match op {
            ViewOp::Resize { size, interpolation } if resized.is_none() && cropped.is_none() => {
                resized = Some((sides(*size), resample(*interpolation)));
            }
            ViewOp::ResizeCover { size: (height, width), interpolation }
                if height == width && resized.is_none() && cropped.is_none() =>
            {
                resized = Some((json!({ "shortest_edge": height }), resample(*interpolation)));
            }
            ViewOp::CenterCrop { size } if cropped.is_none() => cropped = Some(sides(*size)),
            ViewOp::Normalize { .. } => {}
            other => unsaid.push(step_name(other)),
        }
    }
    let scaling = view.scaling();
    let mut config = json!({
        "image_processor_type": if cropped.is_some() { "BitImageProcessor" } else { "ViTImageProcessor" },
        // A picture in colour for three channels; for one, or more, what is given has as many.
        "do_convert_rgb": view.channels == 3,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": scaling.is_some(),
        "do_resize": resized.is_some(),
        "do_center_crop": cropped.is_some(),
    });
    let mut set = |key: &str, value: Value| config[key] = value;
    if let Some((size, resample)) = resized {
        set("size", size);
        set("resample", json!(resample));
    }
    cropped.into_iter().for_each(|size| set("crop_size", size));
    if let Some(Scaling { mean, std }) = &scaling {
        set("image_mean", json!(mean));
        set("image_std", json!(std));
    }
    Some(Preprocessing { size: view.size, channels: view.channels, scaling, config, unsaid })
}

/// `RandomFlip` of a step: what it is, without its numbers.
fn step_name(op: &ViewOp) -> String {
    let text = format!("{op:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
