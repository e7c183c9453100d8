//! `cmaec show views`: the views of a pipeline in words, or drawn from its pictures as a contact sheet.

use std::path::{Path, PathBuf};

use cmae::backend::cpu;
use cmae::data::DataError;
use cmae::data::sample::{Row, Rows, SamplePlan};
use cmae::data::shown::{Samples, Shown, shown};
use cmae::data::source::Source;
use cmae::eval::hidden::hidden;
use cmae::eval::pictures::write_png;
use cmae::eval::sheet::{self, Sheet};
use cmae::graph::hiding::{Hiding, Hidings, hidings};
use cmae::graph::{InputKind, Program};
use cmae::ranks;
use cmae::run::destination::{Kind, destination};
use cmae::spec::{ViewFrom, ViewSpec};
use cmae::tensor::Pictures;

use super::output::{errln, outln};
use super::pipeline::{self, in_words};

/// Rows of a sheet, unless another number is asked for.
const COUNT: u16 = 8;

/// What draws a contact sheet; without any of it, `show views` tells the views in words.
#[derive(clap::Args)]
pub struct Drawing {
    /// Draws `views`, `patches`, `neighbours` or `reconstructions`, or computes a `value`, from pictures that lie here, as `cmaec data check PATH` takes it, or from a source of the pipeline: `data.val`.
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// Draws to this plain file; one that is there is written over. By default PIPELINE-patches.png here, and so on; `views` are drawn with
    /// --data or --count too.
    #[arg(short, long, value_name = "FILE.png")]
    output: Option<PathBuf>,
    /// Samples that are drawn, spread evenly over the source: 8 by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    count: Option<u16>,
}

impl Drawing {
    /// Where pictures lie.
    pub fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// The file that is named.
    pub fn output(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    /// The number of samples that is asked for.
    pub fn count(&self) -> Option<usize> {
        self.count.map(usize::from)
    }

    /// Whether any of it was given but where pictures lie.
    pub fn draws(&self) -> bool {
        self.output.is_some() || self.count.is_some()
    }

    /// Whether any of it was given.
    pub fn is_wanted(&self) -> bool {
        self.data.is_some() || self.output.is_some() || self.count.is_some()
    }
}

/// A column of the sheet that shows a view.
struct Column<'p> {
    view: &'p ViewSpec,
    /// Place among the training graph's inputs, and so in a sample's rows.
    input: usize,
    /// Channels, height and width.
    shape: (usize, usize, usize),
    /// Masks that hide some of it: each one more column. Places among all masks.
    masks: Vec<usize>,
}

pub fn show(program: &Program, drawing: &Drawing) -> Result<(), String> {
    if drawing.is_wanted() {
        return draw(program, drawing);
    }
    tell(program);
    Ok(())
}

fn tell(program: &Program) {
    for view in &program.spec.views {
        let size = view.size.map_or("of the picture".to_owned(), |(h, w)| format!("{h} × {w}"));
        outln!("{} = {}, {} channels, size {size}", view.name, origin(view), view.channels);
        view.ops.iter().for_each(|op| outln!("  {op:?}"));
    }
}

/// What a view starts from.
fn origin(view: &ViewSpec) -> String {
    match &view.from {
        ViewFrom::Source(name) => format!("data.{name}"),
        ViewFrom::View(name) => name.clone(),
        ViewFrom::Recipe => "any picture".to_owned(),
    }
}

fn draw(program: &Program, drawing: &Drawing) -> Result<(), String> {
    let spec = &program.spec;
    let default = PathBuf::from(format!("{}-views.png", spec.name));
    let named: &Path = drawing.output.as_deref().unwrap_or(&default);
    let output = destination(named, Kind::Picture, None).map_err(|error| error.to_string())?;
    let words = |error: DataError| in_words(&error);
    let plan = SamplePlan::new(&spec.views, &program.train.inputs, Pictures::Levels).map_err(words)?;
    let own = plan.source().ok_or_else(|| {
        format!("no view of pipeline `{}` that its training takes in starts from a source\nhelp: views {{ NAME = data.train |> … }}", spec.name)
    })?;
    let data = drawing.data.clone().unwrap_or_else(|| format!("data.{own}"));
    let source = pipeline::source(&spec.data, &data).map_err(|error| match drawing.data {
        Some(_) => error,
        None => format!("{error}\nhelp: --data PATH draws pictures that lie elsewhere"),
    })?;
    let found = hidings(&program.train);
    let columns = columns(program, &found.shown);
    let count = usize::from(drawing.count.unwrap_or(COUNT)).min(source.len());
    let cells: Vec<(usize, usize)> = columns
        .iter()
        .flat_map(|column| {
            let (cell, _) = sheet::cell(column.shape.1, column.shape.2);
            std::iter::repeat_n(cell, 1 + column.masks.len())
        })
        .collect();
    let side = cells.iter().map(|(height, _)| *height).max().unwrap_or(1);
    let cells: Vec<(usize, usize)> = std::iter::once((side, side)).chain(cells).collect();
    // Refused, where it is too large, before anything is read.
    Sheet::new(&cells, count).map_err(|error| error.to_string())?;
    let Samples { shown: samples, broken } = shown(&*source, &plan, spec.train.seed, count, &data).map_err(words)?;
    broken.iter().for_each(|(name, reason)| errln!("warning: {name}: {reason}; it is passed over"));

    let rows: Vec<&Rows> = samples.iter().map(|sample| &sample.rows).collect();
    let masks = hidden(&program.train, &found.shown, &rows, &mut *cpu::cpu(ranks::alone()))
        .map_err(|error| error.to_string())?;
    let mut drawn = Sheet::new(&cells, samples.len()).map_err(|error| error.to_string())?;
    for (row, sample) in samples.iter().enumerate() {
        drawn.put(row, 0, &sheet::source(&sample.picture, side));
        let mut place = 1;
        for column in &columns {
            // A view of the training graph ends in `normalize`, and the plan gives it in bytes.
            let Row::Levels(levels, _) = &sample.rows[column.input] else { continue };
            let picture = sheet::view(levels, column.shape);
            drawn.put(row, place, &picture);
            for (at, mask) in column.masks.iter().enumerate() {
                let darkened = sheet::darkened(&picture, &masks[*mask][row], found.shown[*mask].grid);
                drawn.put(row, place + 1 + at, &darkened);
            }
            place += 1 + column.masks.len();
        }
    }
    let image = drawn.into_image();
    write_png(&output, &image).map_err(|error| format!("cannot write {}: {error}", named.display()))?;
    legend(program, &data, &columns, &found);
    names(&*source, &samples);
    let (width, height) = image.dimensions();
    outln!();
    outln!("{}: {} samples, {width} × {height} pixels", named.display(), samples.len());
    Ok(())
}

/// A column for each view that the training graph takes in, with its masks.
fn columns<'p>(program: &'p Program, masks: &[Hiding]) -> Vec<Column<'p>> {
    let of_input = |(input, declared): (usize, &cmae::graph::InputDecl)| {
        let InputKind::View { view: name } = &declared.kind else { return None };
        let view = program.spec.views.iter().find(|view| view.name == *name)?;
        let [_, channels, height, width] = declared.ty.shape[..] else { return None };
        let masks = masks.iter().enumerate().filter(|(_, mask)| mask.view == *name).map(|(at, _)| at).collect();
        Some(Column { view, input, shape: (channels, height, width), masks })
    };
    program.train.inputs.iter().enumerate().filter_map(of_input).collect()
}

/// What each column shows, in their order, and what none shows.
fn legend(program: &Program, data: &str, columns: &[Column<'_>], found: &Hidings) {
    outln!("columns");
    outln!("  1  {data}, as it is read, fitted into the cell");
    let mut number = 1;
    for column in columns {
        let (channels, height, width) = column.shape;
        let scale = match sheet::cell(height, width).1 {
            1 => String::new(),
            scale => format!(", each pixel drawn {scale} × {scale}"),
        };
        number += 1;
        outln!("  {number}  {} = {} |> …, {height} × {width}{scale}", column.view.name, origin(column.view));
        for mask in &column.masks {
            let Hiding { name, grid: (rows, columns), .. } = &found.shown[*mask];
            number += 1;
            outln!("  {number}  {} with what `{name}` hides darkened: {rows} × {columns} patches", column.view.name);
        }
        if channels == 2 || channels > 3 {
            outln!("     of {channels} channels, {}", if channels == 2 { "the first" } else { "the first three" });
        }
    }
    // What columns derive from.
    let mut above: Vec<&ViewSpec> = Vec::new();
    let mut next: Vec<&ViewSpec> = columns.iter().map(|column| column.view).collect();
    while let Some(view) = next.pop() {
        let ViewFrom::View(parent) = &view.from else { continue };
        let Some(parent) = program.spec.views.iter().find(|view| view.name == *parent) else { continue };
        if !above.iter().chain(&next).any(|view| view.name == parent.name) {
            above.push(parent);
            next.push(parent);
        }
    }
    let is_column = |view: &&ViewSpec| columns.iter().any(|column| column.view.name == view.name);
    let unseen: Vec<&str> = above.iter().filter(|view| !is_column(view)).map(|view| view.name.as_str()).collect();
    if !unseen.is_empty() {
        outln!("  no column: {}, which the graph does not take in itself", unseen.join(", "));
    }
    for name in &found.others {
        outln!("  not shown: `{name}`, which hangs on more than the sample brings, or hides patches of no single view");
    }
}

fn names(source: &dyn Source, samples: &[Shown]) {
    outln!("rows");
    for (row, sample) in samples.iter().enumerate() {
        let class = source.label(sample.index).and_then(|label| source.classes().get(usize::try_from(label).ok()?));
        let class = class.map_or(String::new(), |class| format!(", class `{class}`"));
        outln!("  {}  {}{class}", row + 1, source.name(sample.index));
    }
}
