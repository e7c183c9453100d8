//! From the third on, a training step allocates nothing, on none of its threads: counted by an allocator that stands before
//! the system's. A binary of its own, for the count is the whole process's.
#![allow(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cmae::backend::Compute;
use cmae::data::loader::{Loader, LoaderOptions};
use cmae::data::source;
use cmae::diag::{Diagnostics, render};
use cmae::graph::Program;
use cmae::source::Sources;
use cmae::spec::Clock;
use cmae::tensor::{InputValue, Pictures};
use cmae::train::{Trainer, init};
use serde::Deserialize;

/// Methods whose steps are counted: the main one, and its plain relative.
const PIPELINES: [&str; 2] = ["cmae_vitb", "mae_vitb"];
const STEPS: usize = 5;
/// Steps that may allocate: plans, arenas and scratch come with the first, and its results are the second's to use again.
const WARM_UP: usize = 2;

struct Watching;

static WATCHES: AtomicBool = AtomicBool::new(false);
/// Where allocations were made while they were watched.
static PLACES: Mutex<Vec<String>> = Mutex::new(Vec::new());
thread_local!(static IS_NOTING: Cell<bool> = const { Cell::new(false) });

fn note() {
    // To note a place allocates too; a thread that ends has no flag any more.
    if WATCHES.load(Ordering::SeqCst) && IS_NOTING.try_with(|noting| !noting.replace(true)).unwrap_or(false) {
        let place = Backtrace::force_capture().to_string();
        PLACES.lock().expect("nobody panics while he notes").push(place);
        IS_NOTING.set(false);
    }
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// What `tests/methods.ron` sets for a pipeline; the rest of the page is for other tests.
#[derive(Deserialize)]
struct Page {
    common: Vec<String>,
    methods: Vec<Method>,
}

#[derive(Deserialize)]
struct Method {
    pipeline: String,
    #[serde(default)]
    set: Vec<String>,
}

fn compile(pipeline: &str) -> Program {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/methods.ron")).expect("it is in the repository");
    let page: Page = ron::from_str(&text).expect("other tests read it too");
    let method = page.methods.iter().find(|method| method.pipeline == pipeline).expect("every pipeline is there");
    let sets: Vec<_> = page.common.iter().chain(&method.set).map(|set| set.as_str().into()).collect();
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    match cmae::compile(&mut sources, &mut diagnostics, &root.join(format!("pipelines/{pipeline}.cmae")), &sets) {
        Ok(compiled) => compiled.program,
        Err(_) => panic!("{pipeline}:\n{}", render(diagnostics.list(), &sources, false)),
    }
}

fn batches(program: &Program) -> Vec<Vec<(String, InputValue)>> {
    let data = &program.spec.data;
    let options = LoaderOptions { seed: 3, threads: 1, prefetch: 1, max_broken: 0.0, pictures: Pictures::Levels };
    let source = source::open(data.source("train").expect("every pipeline has one"), data.channels, data.max_pixels);
    let source = source.expect("digits are embedded");
    let (views, inputs) = (&program.spec.views, &program.train.inputs);
    let mut loader = Loader::start(source, views, inputs, data.batch_size, options, 0..STEPS as u64)
        .unwrap_or_else(|error| panic!("{}: {error}", program.spec.name));
    let mut next = || loader.next_batch().expect("there is one").expect("no digit is broken").inputs;
    (0..STEPS).map(|_| next()).collect()
}

/// What `work` allocates on any thread.
fn watched(work: impl FnOnce()) -> Vec<String> {
    WATCHES.store(true, Ordering::SeqCst);
    work();
    WATCHES.store(false, Ordering::SeqCst);
    std::mem::take(&mut *PLACES.lock().expect("nobody panics while he notes"))
}

#[test]
fn a_step_allocates_nothing_from_the_third_on() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads start");
    let on_each_thread = watched(|| drop(pool.broadcast(|_| std::hint::black_box(vec![0_u8; 64]))));
    assert!(on_each_thread.len() >= 2, "the allocator is not asked: {on_each_thread:?}");
    for pipeline in PIPELINES {
        let program = compile(pipeline);
        let batches = batches(&program);
        let places = pool.install(|| {
            let backend = f32::backend("cpu").expect("every build has it");
            let tensors = init::initialise(&program.layout, program.spec.train.seed);
            let session = backend.open(&program, tensors).expect("it takes any program");
            let mut trainer = Trainer::new(&program, session, Clock::new(1.0, STEPS as u64));
            let mut step = |batch: &Vec<(String, InputValue)>| {
                let report = trainer.step(batch).unwrap_or_else(|error| panic!("{error}"));
                trainer.session.reuse(report.results);
            };
            let (first, others) = batches.split_at(WARM_UP);
            first.iter().for_each(&mut step);
            watched(|| others.iter().for_each(step))
        });
        // The gemm crate takes the memory of its packed panels anew for each product, and the test runner's own thread, which no
        // step runs on, that of the channel on which it waits for this test.
        let others = ["gemm_common::gemm::", "test::run_tests_console"];
        let ours: Vec<&String> =
            places.iter().filter(|place| !others.iter().any(|other| place.contains(other))).collect();
        assert!(ours.is_empty(), "{pipeline}: {} allocations, the first at\n{}", ours.len(), ours[0]);
    }
}
