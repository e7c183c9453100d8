//! One sample: the pictures and noise that a graph's inputs want, drawn from one image of a source.
//!
//! **Invariant:** a sample hangs on the image and its [`Key`] alone. A view that others derive from is drawn once a
//! sample, and they all start from that same picture.

use super::error::DataError;
use super::image::Image;
use super::rng::Key;
use super::view::{self, Draw};
use crate::decl::{InputDecl, InputKind};
use crate::spec::{ViewFrom, ViewOp, ViewSpec};

/// What to draw for the inputs of a graph; made once.
#[derive(Debug, Clone)]
pub struct SamplePlan {
    /// Parents stand before the views that derive from them.
    views: Vec<Planned>,
    inputs: Vec<Filled>,
    /// Name of the data source that the views start from; `None` for recipes.
    source: Option<String>,
}

#[derive(Debug, Clone)]
struct Planned {
    /// Stream of its random steps.
    stream: String,
    parent: Option<usize>,
    ops: Vec<ViewOp>,
    /// Mean and std of the step that ends an input view.
    normalize: Option<(Vec<f64>, Vec<f64>)>,
}

/// How an input's row is filled.
#[derive(Debug, Clone)]
enum Filled {
    View(usize),
    Noise { stream: String, len: usize },
    Label,
}

/// What one image became: a row for each float input, empty for labels.
pub type Rows = Vec<Vec<f32>>;

impl SamplePlan {
    /// The plan for `inputs`, whose views are among `views`.
    ///
    /// # Errors
    /// Where the views start from different sources: a sample is one image of one source.
    pub fn new(views: &[ViewSpec], inputs: &[InputDecl]) -> Result<SamplePlan, DataError> {
        let mut needed = vec![false; views.len()];
        let position = |name: &str| views.iter().position(|v| v.name == name);
        for input in inputs {
            if let InputKind::View { view } = &input.kind {
                let mut at = position(view);
                while let Some(index) = at {
                    needed[index] = true;
                    at = match &views[index].from {
                        ViewFrom::View(parent) => position(parent),
                        ViewFrom::Source(_) | ViewFrom::Recipe => None,
                    };
                }
            }
        }
        let mut plan = SamplePlan { views: Vec::new(), inputs: Vec::new(), source: None };
        let mut places = vec![None; views.len()];
        for (index, view) in views.iter().enumerate().filter(|(index, _)| needed[*index]) {
            let parent = match &view.from {
                ViewFrom::View(parent) => position(parent).and_then(|p| places[p]),
                ViewFrom::Recipe => None,
                ViewFrom::Source(name) => {
                    match &plan.source {
                        Some(first) if first != name => {
                            return Err(DataError::SeveralSources { first: first.clone(), other: name.clone() });
                        }
                        _ => plan.source = Some(name.clone()),
                    }
                    None
                }
            };
            let mut ops = view.ops.clone();
            let normalize = match ops.last() {
                Some(ViewOp::Normalize { mean, std }) => Some((mean.clone(), std.clone())),
                _ => None,
            };
            ops.truncate(ops.len() - usize::from(normalize.is_some()));
            places[index] = Some(plan.views.len());
            plan.views.push(Planned { stream: format!("views.{}", view.name), parent, ops, normalize });
        }
        for input in inputs {
            plan.inputs.push(match &input.kind {
                InputKind::View { view } => {
                    let place = position(view).and_then(|index| places[index]);
                    Filled::View(place.expect("the compiler checks that an input's view exists"))
                }
                InputKind::Noise => {
                    Filled::Noise { stream: input.name.clone(), len: input.ty.shape.iter().skip(1).product() }
                }
                InputKind::Label => Filled::Label,
            });
        }
        Ok(plan)
    }

    /// The data source that the views start from; `None` where all are recipes.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Draws a sample of `image`.
    ///
    /// # Errors
    /// Where the image is too small for a step that cuts a window out of it.
    pub fn draw(&self, image: &Image, key: Key) -> Result<Rows, String> {
        let mut pictures: Vec<Image> = Vec::with_capacity(self.views.len());
        for view in &self.views {
            let mut stream = key.stream(&view.stream);
            let mut picture = view.parent.map_or(image, |parent| &pictures[parent]).clone();
            for op in &view.ops {
                fits(op, &picture)?;
                picture = view::apply(op, picture, &mut stream);
            }
            pictures.push(picture);
        }
        let rows = self.inputs.iter().map(|input| match input {
            Filled::View(index) => match &self.views[*index].normalize {
                Some((mean, std)) => view::normalize(&pictures[*index], mean, std),
                None => Vec::new(),
            },
            Filled::Noise { stream, len } => {
                let mut stream = key.stream(stream);
                // 24 bits, as many as a float's significand: rounding never gives 1.
                (0..*len).map(|_| stream.below(1 << 24) as f32 / (1 << 24) as f32).collect()
            }
            Filled::Label => Vec::new(),
        });
        Ok(rows.collect())
    }
}

/// Whether a window lies within the image.
fn fits(op: &ViewOp, image: &Image) -> Result<(), String> {
    let (height, width) = match op {
        ViewOp::Crop { size, at } => (at.0 + size.0, at.1 + size.1),
        ViewOp::RandomShift { size, by } => (by.1 + size.0, by.1 + size.1),
        _ => return Ok(()),
    };
    if height <= image.height && width <= image.width {
        return Ok(());
    }
    Err(format!("{} x {} pixels are too few for a window that ends at {height} x {width}", image.height, image.width))
}
