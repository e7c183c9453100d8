//! One sample: the pictures and noise that a graph's inputs want, drawn from one image of a source.
//!
//! **Invariant:** a sample hangs on the image and its [`Key`] alone. A view that others derive from is drawn once a
//! sample, and they all start from that same picture.

use std::borrow::Cow;
use std::sync::Arc;

use super::error::DataError;
use super::image::Image;
use super::label_map::LabelMap;
use super::mask;
use super::rng::{Key, Stream};
use super::source::Source;
use super::view::geometry::Geometry;
use super::view::{self, Draw};
use crate::decl::{BlockMask, InputDecl, InputKind, MultiBlock};
use crate::spec::{Scaling, ViewFrom, ViewOp, ViewSpec};
use crate::tensor::Pictures;

/// What to draw for the inputs of a graph; made once.
#[derive(Debug, Clone)]
pub struct SamplePlan {
    /// Parents stand before the views that derive from them.
    views: Vec<Planned>,
    inputs: Vec<Filled>,
    /// Name of the data source that the views start from; `None` for recipes.
    source: Option<String>,
    pictures: Pictures,
}

#[derive(Debug, Clone)]
struct Planned {
    /// Stream of its random steps.
    stream: String,
    parent: Option<usize>,
    ops: Vec<ViewOp>,
    /// Of the step that ends an input view.
    scaling: Option<Arc<Scaling>>,
}

/// How an input's row is filled.
#[derive(Debug, Clone)]
enum Filled {
    View(usize),
    Noise {
        stream: String,
        len: usize,
    },
    BlockMask {
        stream: String,
        mask: BlockMask,
    },
    MultiBlock {
        stream: String,
        blocks: MultiBlock,
    },
    /// Of the view at that index.
    Geometry(usize),
    LabelMap {
        view: usize,
        size: (usize, usize),
        classes: usize,
    },
    /// By label, or for the batch as a whole.
    Elsewhere,
}

/// What one image became: a row for each input.
pub type Rows = Vec<Row>;

/// A sample's part of an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Ids as whole numbers; empty for what is filled for the batch.
    Floats(Vec<f32>),
    /// A picture's planes, for who normalises it.
    Levels(Vec<u8>, Arc<Scaling>),
}

/// How the pictures among a graph's inputs are scaled, where they come in bytes: an entry for each input.
pub type Scalings = Vec<Option<Arc<Scaling>>>;

impl SamplePlan {
    /// The plan for `inputs`, whose views are among `views`; pictures are given in the form of `pictures`.
    ///
    /// # Errors
    /// Where the views start from different sources: a sample is one image of one source.
    pub fn new(views: &[ViewSpec], inputs: &[InputDecl], pictures: Pictures) -> Result<SamplePlan, DataError> {
        let mut needed = vec![false; views.len()];
        let position = |name: &str| views.iter().position(|v| v.name == name);
        for input in inputs {
            if let InputKind::View { view }
            | InputKind::Beside { view }
            | InputKind::Geometry { view }
            | InputKind::LabelMap { view, .. } = &input.kind
            {
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
        let mut plan = SamplePlan { views: Vec::new(), inputs: Vec::new(), source: None, pictures };
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
            let scaling = view.scaling().map(Arc::new);
            ops.truncate(ops.len() - usize::from(scaling.is_some()));
            places[index] = Some(plan.views.len());
            plan.views.push(Planned { stream: format!("views.{}", view.name), parent, ops, scaling });
        }
        let place = |view: &str| {
            let place = position(view).and_then(|index| places[index]);
            place.expect("the compiler checks that an input's view exists")
        };
        for input in inputs {
            let stream = input.name.clone();
            plan.inputs.push(match &input.kind {
                InputKind::View { view } | InputKind::Beside { view } => Filled::View(place(view)),
                InputKind::Geometry { view } => Filled::Geometry(place(view)),
                InputKind::LabelMap { view, classes } => {
                    let [_, height, width] = input.ty.shape[..] else {
                        unreachable!("the compiler types it [B, H, W]")
                    };
                    Filled::LabelMap { view: place(view), size: (height, width), classes: *classes }
                }
                InputKind::BlockMask(mask) => Filled::BlockMask { stream, mask: mask.clone() },
                InputKind::MultiBlock(blocks) => Filled::MultiBlock { stream, blocks: blocks.clone() },
                InputKind::Noise => Filled::Noise { stream, len: input.ty.shape.iter().skip(1).product() },
                InputKind::Label
                | InputKind::LabelBeside
                | InputKind::Random
                | InputKind::Normal
                | InputKind::Schedule(_)
                | InputKind::Joined => Filled::Elsewhere,
            });
        }
        Ok(plan)
    }

    /// The data source that the views start from; `None` where all are recipes.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// How the pictures are scaled that it gives in bytes: an entry for each input.
    pub fn scalings(&self) -> Scalings {
        let scaling = |input: &Filled| match (input, self.pictures) {
            (Filled::View(index), Pictures::Levels) => self.views[*index].scaling.clone(),
            _ => None,
        };
        self.inputs.iter().map(scaling).collect()
    }

    /// The label map of the picture at `index` of `source`, which is `image`, where an input shows it.
    ///
    /// # Errors
    /// Why it cannot be read, or is not that of the picture.
    pub fn label_map(&self, source: &dyn Source, index: usize, image: &Image) -> Result<Option<LabelMap>, String> {
        let most = self.inputs.iter().filter_map(|input| match input {
            Filled::LabelMap { classes, .. } => Some(*classes),
            _ => None,
        });
        let Some(classes) = most.min() else { return Ok(None) };
        let map = source.label_map(index).unwrap_or_else(|| Err("it has no label map".to_owned()))?;
        if (map.height, map.width) != (image.height, image.width) {
            return Err(format!(
                "its label map has {} x {} pixels, the picture {} x {}",
                map.width, map.height, image.width, image.height
            ));
        }
        match map.beyond(classes) {
            None => Ok(Some(map)),
            Some(class) => Err(format!("its label map holds class {class}, `op::label_map` names {classes}")),
        }
    }

    /// Draws a sample of `image`, whose pixels are of the classes of `label_map` where an input shows them.
    ///
    /// # Errors
    /// Where the image is too small for a step that cuts a window out of it, or would become too large.
    pub fn draw(&self, image: &Image, label_map: Option<&LabelMap>, key: Key) -> Result<Rows, String> {
        let mut pictures: Vec<(Image, Geometry)> = Vec::with_capacity(self.views.len());
        for view in &self.views {
            let mut stream = key.stream(&view.stream);
            let (parent, mut geometry) = match view.parent.map(|parent| &pictures[parent]) {
                Some((picture, geometry)) => (picture, *geometry),
                None => (image, Geometry::default()),
            };
            let picture = view::apply(&view.ops, Cow::Borrowed(parent), &mut stream, &mut geometry)?;
            pictures.push((picture, geometry));
        }
        let rows = self.inputs.iter().map(|input| match input {
            Filled::View(index) => match (&self.views[*index].scaling, self.pictures) {
                (Some(scaling), Pictures::Levels) => Row::Levels(view::planes(&pictures[*index].0), scaling.clone()),
                (Some(scaling), Pictures::Floats) => Row::Floats(view::normalize(&pictures[*index].0, scaling)),
                (None, _) => Row::Floats(Vec::new()),
            },
            Filled::Noise { stream, len } => Row::Floats(noise(&mut key.stream(stream), *len)),
            Filled::BlockMask { stream, mask } => Row::Floats(mask::block_mask(mask, &mut key.stream(stream))),
            Filled::MultiBlock { stream, blocks } => Row::Floats(mask::multi_block(blocks, &mut key.stream(stream))),
            Filled::Geometry(index) => Row::Floats(pictures[*index].1.row().to_vec()),
            Filled::LabelMap { view, size, .. } => {
                Row::Floats(label_map.map_or_else(Vec::new, |map| map.seen(&pictures[*view].1, *size)))
            }
            Filled::Elsewhere => Row::Floats(Vec::new()),
        });
        Ok(rows.collect())
    }
}

/// What is drawn for a batch as a whole, of one of the two kinds.
pub fn of_the_batch(kind: &InputKind, stream: &mut Stream, len: usize) -> Vec<f32> {
    match kind {
        InputKind::Normal => normal(stream, len),
        _ => noise(stream, len),
    }
}

/// Mean 0, deviation 1. Finite: a double's logarithm leaves them within ±8.6.
pub fn normal(stream: &mut Stream, len: usize) -> Vec<f32> {
    (0..len).map(|_| stream.normal() as f32).collect()
}

/// Uniform over [0, 1), in steps that a float holds: 24 bits, so that rounding never gives 1.
pub fn noise(stream: &mut Stream, len: usize) -> Vec<f32> {
    (0..len).map(|_| stream.below(1 << 24) as f32 / (1 << 24) as f32).collect()
}
