//! `cmaec bench --loader`: how fast pictures are read, decoded and drawn with all their views.

use cmae::data::loader::LoaderOptions;
use cmae::data::rate::rate;
use cmae::graph::Program;
use cmae::tensor::Pictures;
use serde_json::json;

use super::output::outln;
use super::pipeline;

pub fn show(program: &Program, data: &str, threads: usize, pictures: usize, as_json: bool) -> Result<(), String> {
    let spec = &program.spec;
    let source = pipeline::source(&spec.data, data)?;
    let options = LoaderOptions {
        seed: spec.train.seed,
        threads,
        prefetch: 1,
        max_broken: spec.data.max_broken,
        pictures: Pictures::Levels,
    };
    let rate = rate(&*source, &spec.views, &program.train.inputs, options, pictures)
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("{data}: none of {} pictures can be read", pictures.min(source.len())))?;
    let a_picture = |seconds: f64| seconds * 1e3 / rate.pictures as f64;
    if as_json {
        let line = json!({
            "pipeline": spec.name,
            "data": data,
            "threads": rate.threads,
            "pictures": rate.pictures,
            "broken": rate.broken,
            "pictures_per_second": rate.per_second(),
            "pictures_per_second_of_thread": rate.per_second_of_thread(),
            "read_ms": a_picture(rate.reading),
            "views_ms": a_picture(rate.drawing),
        });
        outln!("{line}");
        return Ok(());
    }
    outln!("{}: {} pictures of {data}, {} threads", spec.name, rate.pictures, rate.threads);
    outln!("loader    {:.1} pictures a second with all their views", rate.per_second());
    outln!("thread    {:.1} a second while it works", rate.per_second_of_thread());
    outln!("read      {:.2} ms a picture, the file and its pixels", a_picture(rate.reading));
    outln!("views     {:.2} ms a picture", a_picture(rate.drawing));
    if rate.broken > 0 {
        outln!("broken    {} could not be read", rate.broken);
    }
    Ok(())
}
