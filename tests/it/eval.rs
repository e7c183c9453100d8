//! Evaluation: kNN against scikit-learn's digits, collapse figures by hand, pictures pixel by pixel, files read back.

use std::path::{Path, PathBuf};

use cmae::backend::host::HostSession;
use cmae::backend::{Backend, BackendError, Request, Results, Session};
use cmae::data::DataError;
use cmae::eval::collapse::collapse;
use cmae::eval::export::{ExportError, export_module};
use cmae::eval::features::{Batch, Features, FeaturesError, extract, raw_pixels, write_features};
use cmae::eval::knn::{KnnError, accuracy, knn};
use cmae::eval::pictures::{Pictures, PicturesError, grid, scale, write_png};
use cmae::graph::{Graph, Init, Layout, Program, TensorDecl, TensorKind};
use cmae::spec::{EmaMoment, EmaSpec, Role, Schedule};
use cmae::tensor::{HostTensor, InputValue, Inputs, OutputValue};
use cmae::verify::file::{Fixture, Values};

fn features(rows: &[&[f32]]) -> Features {
    Features { rows: rows.len(), dim: rows[0].len(), data: rows.concat() }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn floats(file: &Fixture, name: &str) -> Vec<f64> {
    file.tensor(name).expect("the fixture holds it").values.to_f64()
}

fn ints(file: &Fixture, name: &str) -> Vec<i64> {
    match &file.tensor(name).expect("the fixture holds it").values {
        Values::Int(values) => values.clone(),
        Values::Float(_) => panic!("{name} is float"),
    }
}

#[test]
fn knn_agrees_with_the_fixture() {
    let file = Fixture::read(&golden("knn_linear.safetensors")).expect("it is in the repository");
    let train = file.config.lookup("train").expect("in its config").as_u64().expect("a count") as usize;
    let all: Vec<f32> = floats(&file, "input.features").iter().map(|&x| x as f32).collect();
    let labels = ints(&file, "input.labels");
    let dim = all.len() / labels.len();
    let bank = Features { rows: train, dim, data: all[..train * dim].to_vec() };
    let queries = Features { rows: labels.len() - train, dim, data: all[train * dim..].to_vec() };
    for k in [1, 5, 20] {
        let found = knn(&bank, &labels[..train], &queries, k, 0.07, None).expect("the fixture is sound");
        assert_eq!(found.predictions, ints(&file, &format!("expect.knn{k}_predictions")), "k = {k}");
        let expected = floats(&file, &format!("expect.knn{k}_scores"));
        assert_eq!(found.scores.len(), expected.len());
        for (x, reference) in found.scores.iter().zip(expected) {
            assert!((f64::from(*x) - reference).abs() <= 1e-4, "k = {k}: {x}, expected {reference}");
        }
        let expected = file.config.lookup(&format!("accuracy.knn{k}")).expect("in its config");
        assert_eq!(found.accuracy(&labels[train..]), expected.as_f64().expect("a share"));
    }
}

#[test]
fn knn_gives_ties_to_the_lower_index() {
    // Rows 0 and 1 are the same direction: with k = 1 row 0 votes. With k = 2 classes 3 and 1 tie: class 1.
    let bank = features(&[&[2.0, 0.0], &[1.0, 0.0], &[0.0, 1.0]]);
    let query = features(&[&[5.0, 0.0]]);
    let labels = [3, 1, 0];
    assert_eq!(knn(&bank, &labels, &query, 1, 0.07, None).expect("sound").predictions, [3]);
    let both = knn(&bank, &labels, &query, 2, 0.07, None).expect("sound");
    assert_eq!((both.predictions, both.scores, both.classes), (vec![1], vec![0.0, 0.5, 0.0, 0.5], 4));
}

#[test]
fn knn_keeps_its_scores_at_tiny_temperatures() {
    let bank = features(&[&[1.0, 0.0], &[0.0, 1.0]]);
    let found = knn(&bank, &[0, 1], &features(&[&[1.0, 0.1]]), 2, 1e-4, None).expect("sound");
    assert_eq!(found.scores, [1.0, 0.0]);
}

#[test]
fn knn_refuses_what_makes_no_sense() {
    let bank = features(&[&[1.0, 0.0], &[0.0, 1.0]]);
    let run =
        |labels: &[i64], queries: &Features, k, t| knn(&bank, labels, queries, k, t, None).expect_err("it is wrong");
    assert_eq!(run(&[0], &bank, 1, 0.07), KnnError::Labels { rows: 2, labels: 1 });
    assert_eq!(run(&[0, 1], &features(&[&[1.0]]), 1, 0.07), KnnError::Dimensions { bank: 2, queries: 1 });
    assert_eq!(run(&[0, 1], &bank, 3, 0.07), KnnError::Neighbours { k: 3, rows: 2, own: false });
    assert_eq!(run(&[0, 1], &bank, 0, 0.07), KnnError::Neighbours { k: 0, rows: 2, own: false });
    assert_eq!(run(&[0, 1], &bank, 1, 0.0), KnnError::Temperature(0.0));
    assert_eq!(run(&[0, -1], &bank, 1, 0.07), KnnError::NegativeLabel(-1));
    let nan = features(&[&[1.0, 0.0], &[f32::NAN, 0.0]]);
    assert_eq!(run(&[0, 1], &nan, 1, 0.07), KnnError::NotFinite { which: "query", row: 1 });
    assert!(matches!(run(&[0, 1], &bank, 1, f64::NAN), KnnError::Temperature(_)));
    assert_eq!(accuracy(&[], &[]), 0.0);
}

#[test]
fn collapse_figures_of_hand_cases() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a}, expected {b}");

    let same = collapse(&features(&[&[3.0, 4.0], &[6.0, 8.0], &[0.3, 0.4]])).expect("finite");
    near(same.std, 0.0);
    near(same.effective_rank, 1.0);
    near(same.mean_cosine, 1.0);
    near(same.uniform_std, 0.5_f64.sqrt());

    // ± the axes: mean 0, so that each dimension's variance is 1/D; of 6 pairs 2 have cosine -1, 4 have 0.
    let spread = collapse(&features(&[&[1.0, 0.0], &[-1.0, 0.0], &[0.0, 1.0], &[0.0, -1.0]])).expect("finite");
    near(spread.std, spread.uniform_std);
    near(spread.effective_rank, 2.0);
    near(spread.mean_cosine, -1.0 / 3.0);

    // Singular values 3 and 1: entropy of (3/4, 1/4); fewer rows than dimensions takes the other Gram matrix.
    let entropy: f64 = -(0.75 * libm::log(0.75) + 0.25 * libm::log(0.25));
    let tall = features(&[&[3.0, 0.0], &[0.0, 1.0], &[0.0, 0.0]]);
    let wide = features(&[&[3.0, 0.0, 0.0], &[0.0, 1.0, 0.0]]);
    near(collapse(&tall).expect("finite").effective_rank, libm::exp(entropy));
    near(collapse(&wide).expect("finite").effective_rank, libm::exp(entropy));

    let zero = collapse(&features(&[&[0.0, 0.0], &[0.0, 0.0]])).expect("finite");
    assert_eq!((zero.std, zero.effective_rank, zero.mean_cosine), (0.0, 0.0, 0.0));
    assert_eq!(collapse(&features(&[&[f32::NAN, 0.0]])), None);
    assert_eq!(collapse(&Features::default()), None);
    assert_eq!(collapse(&features(&[&[1.0, 0.0]])).expect("finite").mean_cosine, 0.0);
}

#[test]
fn pictures_undo_the_normalisation() {
    // Two samples of 3 x 2 px, not square; each picture one colour, but for a corner of the first.
    let shape = [2, 3, 3, 2];
    let (mean, std) = ([0.5, 0.25, 0.0], [0.5, 0.25, 1.0]);
    let fill = |red: f32, green: f32, blue: f32| -> Vec<f32> {
        (0..2).flat_map(|_| [red, green, blue].into_iter().flat_map(|x| [x; 6])).collect()
    };
    let mut original = fill(1.0, -1.0, 0.0);
    original[0] = -1.0;
    let (masked, reconstructed) = (fill(0.0, 3.0, 0.2), fill(9.0, -9.0, f32::NAN));
    let pictures = |data| Pictures { shape, data };
    let image = grid(pictures(&original), pictures(&masked), pictures(&reconstructed), &mean, &std).expect("sound");

    let scale = scale(3, 2) as u32;
    assert_eq!(scale, 64);
    assert_eq!(image.dimensions(), (3 * (2 * scale + 2) + 2, 2 * (3 * scale + 2) + 2));
    assert_eq!(image.get_pixel(0, 0).0, [255; 3], "a line");
    assert_eq!(image.get_pixel(2, 2).0, [0, 0, 0], "the corner of the first picture");
    assert_eq!(image.get_pixel(2 + scale - 1, 2 + scale - 1).0, [0, 0, 0], "still the same pixel");
    assert_eq!(image.get_pixel(2 + scale, 2).0, [255, 0, 0]);
    assert_eq!(image.get_pixel(2, 2 + scale).0, [255, 0, 0]);
    let second = 2 + 2 * scale + 2;
    assert_eq!(image.get_pixel(second - 1, 2).0, [255; 3], "the line between two pictures");
    assert_eq!(image.get_pixel(second, 2).0, [128, 255, 51]);
    assert_eq!(image.get_pixel(second + 2 * scale + 2, 2).0, [255, 0, 0], "clamped, and NaN drawn black");
    assert_eq!(image.get_pixel(2, 2 + 3 * scale + 2).0, [255, 0, 0], "the second sample has no dark corner");
}

#[test]
fn pictures_of_one_channel_are_gray_and_large_ones_keep_their_size() {
    let shape = [1, 1, 130, 200];
    let data = vec![0.0; 130 * 200];
    let pictures = Pictures { shape, data: &data };
    let image = grid(pictures, pictures, pictures, &[0.2], &[1.0]).expect("sound");
    assert_eq!(image.dimensions(), (3 * 202 + 2, 134));
    assert_eq!(image.get_pixel(100, 100).0, [51; 3]);
    assert_eq!((scale(32, 32), scale(224, 224), scale(28, 28)), (4, 1, 5));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grid.png");
    write_png(&path, &image).expect("the folder is there");
    assert_eq!(image::open(&path).expect("a PNG").to_rgb8(), image);
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left beside it");
}

#[test]
fn pictures_refuse_what_cannot_be_drawn() {
    let data = vec![0.0; 16];
    let of = |shape| Pictures { shape, data: &data };
    let (many, one) = (of([1, 4, 2, 2]), of([1, 1, 4, 4]));
    // Of many channels the first three are drawn.
    let first = of([1, 3, 2, 2]);
    let first = Pictures { data: &first.data[..12], ..first };
    assert_eq!(grid(many, many, many, &[0.5; 4], &[1.0; 4]), grid(first, first, first, &[0.5; 3], &[1.0; 3]));
    let wrong = grid(one, of([1, 1, 2, 8]), one, &[0.0], &[1.0]);
    assert!(matches!(wrong, Err(PicturesError::Shape { name: "masked", .. })));
    assert!(matches!(grid(one, one, one, &[0.0; 3], &[1.0]), Err(PicturesError::Statistics { mean: 3, .. })));
    let short = of([2, 1, 4, 4]);
    assert!(matches!(grid(short, short, short, &[0.0], &[1.0]), Err(PicturesError::Length { found: 16, .. })));
}

/// Gives twice the sum of each picture, and the arena's first value.
struct Doubler;

impl Backend<f64> for Doubler {
    fn name(&self) -> &'static str {
        "doubler"
    }

    fn open<'p>(
        self: Box<Self>,
        program: &'p Program,
        tensors: Vec<f64>,
    ) -> Result<Box<dyn Session<f64> + 'p>, BackendError> {
        Ok(Box::new(HostSession::new(self, program, tensors)))
    }

    fn run_into(
        &mut self,
        _: &Graph,
        _: &Layout,
        arena: &[f64],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<f64>,
    ) -> Result<(), BackendError> {
        assert_eq!((request.gradients, request.outputs.as_slice()), (false, ["features".to_owned()].as_slice()));
        let InputValue::Float(pictures) = &inputs.batch[0].1 else { panic!("pictures are float") };
        let rows = pictures.shape[0];
        let each = pictures.data.len() / rows;
        let data =
            pictures.data.chunks(each).flat_map(|p| [2.0 * f64::from(p.iter().sum::<f32>()), arena[0]]).collect();
        let outputs = vec![OutputValue::Float(HostTensor { shape: vec![rows, 2], data })];
        *results = Results { outputs, ..Results::default() };
        Ok(())
    }
}

/// Batches of two 1 x 1 x 2 pictures: (1, 1), (2, 2) and (3, 3), padding.
fn batches() -> Vec<Result<Batch, DataError>> {
    let batch = |values: [f32; 4]| {
        let tensor = HostTensor { shape: vec![2, 1, 1, 2], data: values.to_vec() };
        vec![("views.eval".to_owned(), InputValue::Float(tensor))]
    };
    vec![Ok((batch([1.0, 1.0, 2.0, 2.0]), 2, vec![7, 8])), Ok((batch([3.0, 3.0, 9.0, 9.0]), 1, vec![9]))]
}

#[test]
fn features_leave_out_the_padding() {
    let program = crate::verify::toy::program();
    let mut session = Box::new(Doubler).open(&program, vec![0.5; program.layout.total_len]).expect("it takes any");
    let found = extract(&mut *session, &Graph::default(), batches().into_iter());
    let (found, labels) = found.expect("sound");
    assert_eq!(found, features(&[&[4.0, 0.5], &[8.0, 0.5], &[12.0, 0.5]]));
    assert_eq!(labels, [7, 8, 9]);

    let (pixels, labels) = raw_pixels("views.eval", batches().into_iter()).expect("sound");
    assert_eq!(pixels, features(&[&[1.0, 1.0], &[2.0, 2.0], &[3.0, 3.0]]));
    assert_eq!(labels, [7, 8, 9]);

    let failing = batches().into_iter().chain([Err(DataError::FolderGone { path: "a".into() })]);
    assert!(matches!(raw_pixels("views.eval", failing), Err(FeaturesError::Data(DataError::FolderGone { .. }))));
    assert!(matches!(raw_pixels("views.x", batches().into_iter()), Err(FeaturesError::NoInput { .. })));
    let mut short = batches();
    short[0].as_mut().expect("sound").2.pop();
    assert!(matches!(raw_pixels("views.eval", short.into_iter()), Err(FeaturesError::Labels { labels: 1, .. })));
}

#[test]
fn features_are_written_with_labels_and_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let written = features(&[&[1.0, 2.0], &[3.0, 4.0]]);
    let names = ["a/1.png".to_owned(), "b/2.png".to_owned()];
    let classes = ["a".to_owned(), "b".to_owned()];
    write_features(&first, &written, &[0, 1], &names, &classes).expect("the folder is there");
    write_features(&second, &written, &[0, 1], &names, &classes).expect("the folder is there");
    assert_eq!(std::fs::read(&first).expect("written"), std::fs::read(&second).expect("written"), "equal bytes");

    let file = Fixture::read(&first).expect("a safetensors file");
    assert_eq!(file.tensor("features").expect("written").shape, [2, 2]);
    assert_eq!(floats(&file, "features"), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(ints(&file, "labels"), [0, 1]);
    let bytes = std::fs::read(&first).expect("written");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("sound");
    let metadata = header.metadata().clone().expect("written");
    assert_eq!(metadata["names"], r#"["a/1.png","b/2.png"]"#);
    assert_eq!(metadata["classes"], r#"["a","b"]"#);
    assert_eq!(metadata["format_version"], "1");
}

#[test]
fn a_module_is_exported_under_its_own_names() {
    let decl = |path: &str, shape: &[usize], kind| TensorDecl {
        path: path.to_owned(),
        shape: shape.to_vec(),
        role: Role::Weight,
        kind,
        init: Init::Zeros,
    };
    let layout = Layout::new(vec![
        decl("encoder.pos_embed", &[1, 2], TensorKind::Fixed),
        decl("encoder.norm.weight", &[2], TensorKind::Trained),
        decl("encoder2.norm.weight", &[2], TensorKind::Trained),
        decl("momentum.encoder.norm.weight", &[2], TensorKind::Ema),
    ]);
    let arena: Vec<f64> = (0..layout.total_len).map(|i| i as f64).collect();
    let ema = EmaSpec {
        name: "momentum".to_owned(),
        momentum: Schedule::Constant(0.5),
        when: EmaMoment::AfterStep,
        pairs: vec![("momentum.encoder.norm.weight".to_owned(), "encoder.norm.weight".to_owned())],
        shared: vec![("momentum.encoder.pos_embed".to_owned(), "encoder.pos_embed".to_owned())],
    };
    let program = Program { layout, emas: vec![ema], ..crate::methods::compile("quickstart", &[]) };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("encoder.safetensors");
    assert_eq!(export_module(&program, &arena, "momentum.encoder", &path).expect("sound"), 2);
    let file = Fixture::read(&path).expect("a safetensors file");
    assert_eq!((floats(&file, "norm.weight"), floats(&file, "pos_embed")), (vec![4.0, 5.0], vec![6.0, 7.0]));
    assert_eq!(export_module(&program, &arena, "encoder", &path).expect("sound"), 2);

    let file = Fixture::read(&path).expect("a safetensors file");
    let mut names: Vec<&str> = file.names().collect();
    names.sort_unstable();
    assert_eq!(names, ["norm.weight", "pos_embed"]);
    assert_eq!(floats(&file, "norm.weight"), [0.0, 1.0]);
    assert_eq!(floats(&file, "pos_embed"), [6.0, 7.0]);

    let missing = export_module(&program, &arena, "decoder", &path).expect_err("no such module");
    assert_eq!(missing.to_string(), "no module `decoder` has tensors (help: there are encoder, encoder2, momentum)");
    let broken = vec![f64::NAN; program.layout.total_len];
    let broken = export_module(&program, &broken, "encoder", &path);
    assert!(matches!(broken, Err(ExportError::NotFinite { .. })));
    assert_eq!(floats(&Fixture::read(&path).expect("still whole"), "norm.weight"), [0.0, 1.0]);
}
