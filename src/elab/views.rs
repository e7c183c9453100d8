//! Views: steps applied to pictures, sizes followed from step to step.

use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::spec::{Filling, Interpolation, ViewFrom, ViewOp, ViewSpec, covering_size};
use crate::syntax::ast::Binding;

use super::args::{Bag, Builtin, as_pixels};
use super::budget::few_steps;
use super::misfit::wrong_type;
use super::scope::Scope;
use super::value::{Kind, Step, Value, View};
use super::{Checked, Machine};

/// View steps.
pub const STEPS: &[Builtin] = &[
    Builtin {
        name: "random_resized_crop",
        params: &["size", "scale?", "ratio?", "interpolation?"],
        make: |bag| step(bag, random_resized_crop),
    },
    Builtin { name: "random_crop", params: &["scale?", "ratio?"], make: |bag| step(bag, random_crop) },
    Builtin { name: "resize", params: &["size", "interpolation?", "cover?"], make: |bag| step(bag, resize) },
    Builtin { name: "center_crop", params: &["size"], make: |bag| step(bag, center_crop) },
    Builtin { name: "crop", params: &["size", "at?"], make: |bag| step(bag, crop) },
    Builtin { name: "random_shift", params: &["size", "by"], make: |bag| step(bag, random_shift) },
    Builtin { name: "random_flip", params: &["p?"], make: |bag| step(bag, random_flip) },
    Builtin { name: "random_apply", params: &["p", "step"], make: |bag| step(bag, random_apply) },
    Builtin {
        name: "color_jitter",
        params: &["brightness?", "contrast?", "saturation?", "hue?"],
        make: |bag| step(bag, color_jitter),
    },
    Builtin { name: "random_grayscale", params: &["p"], make: |bag| step(bag, random_grayscale) },
    Builtin { name: "gaussian_blur", params: &["sigma"], make: |bag| step(bag, gaussian_blur) },
    Builtin { name: "solarize", params: &["threshold?"], make: |bag| step(bag, solarize) },
    Builtin {
        name: "rand_augment",
        params: &["ops?", "magnitude?", "bins?", "color?"],
        make: |bag| step(bag, rand_augment),
    },
    Builtin {
        name: "random_erasing",
        params: &["p?", "scale?", "ratio?", "value?"],
        make: |bag| step(bag, random_erasing),
    },
    Builtin { name: "normalize", params: &["statistics?", "mean?", "std?"], make: |bag| step(bag, normalize) },
];

type Made = Result<ViewOp, Diagnostic>;

/// A recipe of one step.
fn step(bag: &Bag, make: fn(&Bag) -> Made) -> Result<Kind, Diagnostic> {
    Ok(Kind::Recipe(Rc::new(vec![Step { op: make(bag)?, span: bag.call }])))
}

/// The argument `size`, which every step that asks for it must be given.
fn size(bag: &Bag) -> Result<(usize, usize), Diagnostic> {
    bag.size("size").map(|size| size.unwrap_or((1, 1)))
}

fn flag(bag: &Bag, name: &str, default: bool) -> Result<bool, Diagnostic> {
    match bag.get(name) {
        None => Ok(default),
        Some(Value { kind: Kind::Bool(flag), .. }) => Ok(*flag),
        Some(value) => Err(wrong_type(&format!("`{name}`"), value, "true or false")),
    }
}

fn random_resized_crop(bag: &Bag) -> Made {
    Ok(ViewOp::RandomResizedCrop {
        size: size(bag)?,
        scale: bag.ratio_range("scale", (0.08, 1.0))?,
        ratio: bag.float_range("ratio", (3.0 / 4.0, 4.0 / 3.0))?,
        interpolation: interpolation(bag)?,
    })
}

fn random_crop(bag: &Bag) -> Made {
    Ok(ViewOp::RandomCrop {
        scale: bag.ratio_range("scale", (0.08, 1.0))?,
        ratio: bag.float_range("ratio", (3.0 / 4.0, 4.0 / 3.0))?,
    })
}

fn resize(bag: &Bag) -> Made {
    let (size, interpolation) = (size(bag)?, interpolation(bag)?);
    // One length is the short side's, unless told otherwise; two are both sides.
    let one_length = matches!(bag.get("size").map(|v| &v.kind), Some(Kind::Pixels(_)));
    let cover = flag(bag, "cover", one_length)?;
    Ok(if cover { ViewOp::ResizeCover { size, interpolation } } else { ViewOp::Resize { size, interpolation } })
}

fn center_crop(bag: &Bag) -> Made {
    Ok(ViewOp::CenterCrop { size: size(bag)? })
}

fn crop(bag: &Bag) -> Made {
    let at = match bag.get("at") {
        None => (0, 0),
        Some(value) => match value.items() {
            Some([row, column]) => (as_pixels("`at` of `crop`", row)?, as_pixels("`at` of `crop`", column)?),
            _ => return Err(wrong_type("`at` of `crop`", value, "a place such as (0px, 0px)")),
        },
    };
    Ok(ViewOp::Crop { size: size(bag)?, at })
}

fn random_shift(bag: &Bag) -> Made {
    Ok(ViewOp::RandomShift { size: size(bag)?, by: bag.pixel_range("by")? })
}

fn random_flip(bag: &Bag) -> Made {
    Ok(ViewOp::RandomFlip { p: bag.ratio("p", 0.5)? })
}

fn random_apply(bag: &Bag) -> Made {
    match bag.get("step").map(|v| v.kind.clone()) {
        Some(Kind::Recipe(steps)) => {
            let ops: Vec<ViewOp> = steps.iter().map(|s| s.op.clone()).collect();
            few_steps(&ops, bag.call)?;
            Ok(ViewOp::RandomApply { p: bag.ratio("p", 0.5)?, ops })
        }
        _ => {
            let value = bag.get("step").cloned().unwrap_or(Value::new(Kind::None, bag.call));
            Err(wrong_type("`step` of `random_apply`", &value, "a view step such as color_jitter(…)"))
        }
    }
}

fn color_jitter(bag: &Bag) -> Made {
    Ok(ViewOp::ColorJitter {
        brightness: bag.float("brightness", 0.0)?,
        contrast: bag.float("contrast", 0.0)?,
        saturation: bag.float("saturation", 0.0)?,
        hue: bag.float("hue", 0.0)?,
    })
}

fn random_grayscale(bag: &Bag) -> Made {
    Ok(ViewOp::RandomGrayscale { p: bag.ratio("p", 0.2)? })
}

fn gaussian_blur(bag: &Bag) -> Made {
    Ok(ViewOp::GaussianBlur { sigma: bag.float_range("sigma", (0.1, 2.0))? })
}

fn solarize(bag: &Bag) -> Made {
    Ok(ViewOp::Solarize { threshold: bag.count("threshold", 128)?.min(255) as u8 })
}

fn rand_augment(bag: &Bag) -> Made {
    let (ops, bins) = (bag.count("ops", 2)?, bag.count("bins", 31)?);
    let magnitude = match bag.get("magnitude") {
        // The weakest.
        Some(Value { kind: Kind::Int(0), .. }) => 0,
        _ => bag.count("magnitude", 9.min(bins - 1))?,
    };
    if magnitude >= bins {
        let message = format!("`magnitude` of `rand_augment` is {magnitude}, which is none of its {bins} bins");
        return Err(Diagnostic::new(Code::OutOfRange, message)
            .label(bag.get("magnitude").map_or(bag.call, |value| value.span), "they are numbered from 0")
            .help(format!("write `magnitude: {}` or less, or more `bins`", bins - 1)));
    }
    Ok(ViewOp::RandAugment { ops, magnitude, bins, color: flag(bag, "color", true)? })
}

fn random_erasing(bag: &Bag) -> Made {
    let filling = match bag.get("value") {
        None => Filling::Level(0),
        Some(Value { kind: Kind::Str(text), .. }) if &**text == "noise" => Filling::Noise,
        Some(value) => match value.whole().and_then(|level| u8::try_from(level).ok()) {
            Some(level) => Filling::Level(level),
            None => {
                return Err(wrong_type("`value` of `random_erasing`", value, "a level from 0 to 255, or \"noise\""));
            }
        },
    };
    Ok(ViewOp::RandomErasing {
        p: bag.ratio("p", 0.25)?,
        scale: bag.ratio_range("scale", (0.02, 0.33))?,
        ratio: bag.float_range("ratio", (0.3, 3.3))?,
        filling,
    })
}

fn normalize(bag: &Bag) -> Made {
    let statistics = |name: &str| -> Result<Vec<f64>, Diagnostic> {
        let value = match bag.get("statistics").map(|v| &v.kind) {
            Some(Kind::Record(fields)) => fields.iter().find(|(n, _)| &**n == name).map(|(_, v)| v.clone()),
            _ => bag.get(name).cloned(),
        };
        let what = format!("`{name}` of `normalize`");
        let Some(value) = value else {
            let given = |name: &str| bag.get(name).filter(|value| value.number().is_some() || value.items().is_some());
            let help = match (given("statistics"), given("mean"), given("std")) {
                // By their places, as others have them.
                (Some(mean), Some(std), None) => format!("write `normalize(mean: {mean}, std: {std})`"),
                (None, Some(_), None) => "add `std: 0.25`".to_owned(),
                (None, None, Some(_)) => "add `mean: 0.5`".to_owned(),
                _ => "write `normalize(imagenet)` or `normalize(mean: 0.5, std: 0.5)`".to_owned(),
            };
            return Err(Diagnostic::new(Code::MissingArgument, "`normalize` needs `mean` and `std`")
                .label(bag.call, "missing in this call")
                .help(help));
        };
        let items = value.items().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
        let numbers: Option<Vec<f64>> = items.iter().map(Value::number).collect();
        numbers.ok_or_else(|| wrong_type(&what, &value, "a number for each channel"))
    };
    let (mean, std) = (statistics("mean")?, statistics("std")?);
    if std.iter().any(|s| *s <= 0.0) {
        return Err(Diagnostic::new(Code::OutOfRange, "`std` of `normalize` is not above zero")
            .label(bag.call, "here")
            .help("write the standard deviation of values in 0..1, such as `0.25`"));
    }
    Ok(ViewOp::Normalize { mean, std })
}

fn interpolation(bag: &Bag) -> Result<Interpolation, Diagnostic> {
    match bag.string("interpolation")?.as_deref() {
        None | Some("bicubic") => Ok(Interpolation::Bicubic),
        Some("bilinear") => Ok(Interpolation::Bilinear),
        Some("lanczos") => Ok(Interpolation::Lanczos),
        Some(_) => {
            let value = bag.get("interpolation").cloned().expect("it was read just now");
            Err(wrong_type("`interpolation`", &value, "`bilinear`, `bicubic` or `lanczos`"))
        }
    }
}

impl Machine<'_> {
    /// `left |> steps`, where `left` is a source, a view or steps, and `steps` are steps.
    pub fn extend_view(&mut self, left: &Value, steps: &Value, span: Span) -> Checked<Value> {
        let Kind::Recipe(more) = &steps.kind else {
            return self.fail(wrong_type("`|>` after a view", steps, "a view step such as crop(224px)"));
        };
        if let Kind::Recipe(first) = &left.kind {
            let all: Vec<Step> = first.iter().chain(more.iter()).cloned().collect();
            let ops: Vec<ViewOp> = all.iter().map(|step| step.op.clone()).collect();
            self.room_for_view(&ops, span)?;
            return Ok(Value::new(Kind::Recipe(Rc::new(all)), span));
        }
        let channels = self.channels();
        let mut view = match &left.kind {
            Kind::View(index) if self.views[*index].spec.name.is_empty() => self.views[*index].clone(),
            Kind::View(index) => {
                let parent = &self.views[*index].spec;
                let spec = ViewSpec {
                    name: String::new(),
                    from: ViewFrom::View(parent.name.clone()),
                    ops: Vec::new(),
                    size: parent.size,
                    channels: parent.channels,
                    normalized: parent.normalized,
                };
                View { spec, span }
            }
            Kind::Source(name) => View { spec: empty(ViewFrom::Source(name.to_string()), channels), span },
            _ => return self.fail(wrong_type("`|>`", left, "a data source or a view")),
        };
        for step in more.iter() {
            self.extend(&mut view.spec, step, left.span)?;
        }
        view.span = span;
        self.room_for_view(&view.spec.ops, span)?;
        self.views.push(view);
        Ok(Value::new(Kind::View(self.views.len() - 1), span))
    }

    /// `name = value [repeat n]` of the section `views`.
    pub fn bind_view(&mut self, binding: &Binding, scope: &Rc<Scope>) -> Checked<Value> {
        let name = &binding.name.text;
        if let Some(when) = &binding.when {
            return self.fail(
                Diagnostic::new(Code::UnknownSetting, format!("the view `{name}` has a `when`"))
                    .label(when.span, "views are always drawn when something reads them")
                    .help("remove it"),
            );
        }
        let Some(repeat) = &binding.repeat else {
            let value = self.eval(&binding.value, scope)?;
            let Kind::List(items) = &value.kind else { return self.name_view(name, &value) };
            let named: Checked<Vec<Value>> =
                items.iter().enumerate().map(|(i, v)| self.name_view(&format!("{name}.{i}").into(), v)).collect();
            return named.map(|views| Value::new(Kind::List(Rc::new(views)), value.span));
        };
        let count = self.eval(&repeat.count, scope)?;
        let n = self.repetitions(&count)?;
        let mut views = Vec::new();
        for i in 0..n {
            let inner = Scope::inside(scope);
            if let Some(index) = &repeat.index {
                inner.define(index, Value::new(Kind::Int(i), index.span));
            }
            let value = self.eval(&binding.value, &inner)?;
            views.push(self.name_view(&format!("{name}.{i}").into(), &value)?);
        }
        Ok(Value::new(Kind::List(Rc::new(views)), binding.name.span))
    }

    /// Adds a step to a view, which comes from `parent`.
    fn extend(&mut self, view: &mut ViewSpec, step: &Step, parent: Span) -> Checked<()> {
        if let Some((least, size)) = may_pad(view, step) {
            let (least, size) = (format!("{}px × {}px", least.0, least.1), (size.0, size.1));
            self.diagnostics.push(
                Diagnostic::new(
                    Code::ViewMayPad,
                    format!(
                        "`center_crop` takes {}px × {}px of a picture that may have no more than {least}: the rest is black",
                        size.0, size.1
                    ),
                )
                .label(step.span, format!("{}px × {}px", size.0, size.1))
                .label(parent, format!("covers {least}"))
                .help(format!("write `resize(({}px, {}px), cover: true)` before it", size.0, size.1)),
            );
        }
        let result = extend(view, step, parent);
        self.check(result)
    }

    /// Why there is no geometry of a view, where a step of it, or of one that it derives from, moves pixels as no box tells.
    pub fn geometry_lost(&self, index: usize, asked: Span) -> Option<Diagnostic> {
        let view = &self.views[index];
        let mut lineage = Some(view);
        while let Some(of) = lineage {
            if !of.spec.ops.iter().all(ViewOp::keeps_box) {
                let message = format!("no box tells where the pixels of the view `{}` come from", view.spec.name);
                return Some(
                    Diagnostic::new(Code::GeometryLost, message)
                        .label(asked, "its geometry is asked for here")
                        .label(of.span, "`rand_augment` turns and shears pictures")
                        .help("leave `rand_augment` out of this view, or ask for the geometry of another"),
                );
            }
            lineage = match &of.spec.from {
                ViewFrom::View(parent) => self.views.iter().find(|view| view.spec.name == *parent),
                ViewFrom::Source(_) | ViewFrom::Recipe => None,
            };
        }
        None
    }

    /// Gives a view its name; a recipe becomes a view without a source.
    pub fn name_view(&mut self, name: &Arc<str>, value: &Value) -> Checked<Value> {
        let mut view = match &value.kind {
            Kind::View(index) => self.views[*index].clone(),
            Kind::Recipe(steps) => {
                let mut view = View { spec: empty(ViewFrom::Recipe, self.channels()), span: value.span };
                self.diagnostics.enter(value.span, value.span);
                let extended = steps.iter().try_for_each(|step| self.extend(&mut view.spec, step, value.span));
                self.diagnostics.leave();
                extended?;
                view
            }
            Kind::Source(source) => {
                View { spec: empty(ViewFrom::Source(source.to_string()), self.channels()), span: value.span }
            }
            _ => return self.fail(wrong_type(&format!("the view `{name}`"), value, "a source and steps")),
        };
        view.spec.name = name.to_string();
        self.views.push(view);
        Ok(Value::new(Kind::View(self.views.len() - 1), value.span))
    }
}

fn empty(from: ViewFrom, channels: usize) -> ViewSpec {
    ViewSpec { name: String::new(), from, ops: Vec::new(), size: None, channels, normalized: false }
}

/// What the picture covers at least, and what a central crop takes of it, where that is more.
fn may_pad(view: &ViewSpec, step: &Step) -> Option<((usize, usize), (usize, usize))> {
    match (view.size, view.ops.last(), &step.op) {
        (None, Some(ViewOp::ResizeCover { size: least, .. }), ViewOp::CenterCrop { size })
            if size.0 > least.0 || size.1 > least.1 =>
        {
            Some((*least, *size))
        }
        _ => None,
    }
}

/// Adds a step after checking that it fits what comes before.
fn extend(view: &mut ViewSpec, step: &Step, parent: Span) -> Result<(), Diagnostic> {
    if view.normalized {
        return Err(Diagnostic::new(Code::ViewOrder, "a step follows `normalize`")
            .label(step.span, "works on pictures of 8 bits")
            .label(parent, "normalized already")
            .help("move `normalize` to the end"));
    }
    let mut op = step.op.clone();
    if needs_colour(&op) && view.channels != 3 {
        let plural = if view.channels == 1 { "" } else { "s" };
        let message = format!("a colour operation on images of {} channel{plural}", view.channels);
        let help = match op {
            ViewOp::RandAugment { .. } => "write `rand_augment(color: false)`, or `channels = 3` in `data`",
            _ => "remove it, or write `channels = 3` in `data`",
        };
        return Err(Diagnostic::new(Code::ColourMissing, message).label(step.span, "needs 3 channels").help(help));
    }
    let fits = |needed: (usize, usize), what: &str| match view.size {
        Some((height, width)) if needed.0 > height || needed.1 > width => {
            let message =
                format!("{what} needs {}px × {}px, the picture has {height}px × {width}px", needed.0, needed.1);
            Err(Diagnostic::new(Code::ViewTooSmall, message)
                .label(step.span, "reaches past the edge")
                .label(parent, format!("{height}px × {width}px"))
                .help(format!("make the picture {}px × {}px or larger", needed.0, needed.1)))
        }
        _ => Ok(()),
    };
    match &mut op {
        ViewOp::RandomResizedCrop { size, .. } | ViewOp::Resize { size, .. } => view.size = Some(*size),
        ViewOp::RandomCrop { .. } => view.size = None,
        ViewOp::ResizeCover { size, .. } => view.size = view.size.map(|picture| covering_size(picture, *size)),
        ViewOp::CenterCrop { size } => {
            fits(*size, "`center_crop`")?;
            view.size = Some(*size);
        }
        ViewOp::Crop { size, at } => {
            fits((size.0 + at.0, size.1 + at.1), "`crop`")?;
            view.size = Some(*size);
        }
        ViewOp::RandomShift { size, by } => {
            fits((size.0 + by.1, size.1 + by.1), "`random_shift`")?;
            view.size = Some(*size);
        }
        ViewOp::Normalize { mean, std } => {
            for values in [mean, std] {
                if values.len() == 1 {
                    *values = vec![values[0]; view.channels];
                }
                if values.len() != view.channels {
                    let message = format!(
                        "`normalize` has {} values, the images have {} channel{}",
                        values.len(),
                        view.channels,
                        if view.channels == 1 { "" } else { "s" }
                    );
                    let one = match view.channels {
                        1 => "0.5".to_owned(),
                        channels => format!("({})", vec!["0.5"; channels].join(", ")),
                    };
                    return Err(Diagnostic::new(Code::ColourMissing, message)
                        .label(step.span, "one value for each channel is wanted")
                        .help(format!("write `normalize(mean: {one}, std: {one})`, better with your data's values")));
                }
            }
            view.normalized = true;
        }
        ViewOp::RandomFlip { .. }
        | ViewOp::RandomApply { .. }
        | ViewOp::ColorJitter { .. }
        | ViewOp::RandomGrayscale { .. }
        | ViewOp::GaussianBlur { .. }
        | ViewOp::Solarize { .. }
        | ViewOp::RandAugment { .. }
        | ViewOp::RandomErasing { .. } => {}
    }
    view.ops.push(op);
    Ok(())
}

fn needs_colour(op: &ViewOp) -> bool {
    match op {
        ViewOp::ColorJitter { saturation, hue, .. } => *saturation > 0.0 || *hue > 0.0,
        ViewOp::RandomGrayscale { .. } => true,
        ViewOp::RandAugment { color, .. } => *color,
        ViewOp::RandomApply { ops, .. } => ops.iter().any(needs_colour),
        ViewOp::RandomResizedCrop { .. }
        | ViewOp::RandomCrop { .. }
        | ViewOp::Resize { .. }
        | ViewOp::ResizeCover { .. }
        | ViewOp::CenterCrop { .. }
        | ViewOp::Crop { .. }
        | ViewOp::RandomShift { .. }
        | ViewOp::RandomFlip { .. }
        | ViewOp::GaussianBlur { .. }
        | ViewOp::Solarize { .. }
        | ViewOp::RandomErasing { .. }
        | ViewOp::Normalize { .. } => false,
    }
}
