//! The one test binary. What takes long is a command of its own, and the suite has a slice of it:
//!
//! ```text
//! cargo test --release --test it soak:: -- --ignored --nocapture              runs that are killed again and again
//! cargo test --release --test it ops::generated -- --ignored --nocapture      graphs drawn at random, planned and run
//! CMAE_TEST_BACKEND=xla cargo test --release --test it ops::                  every case of every op on a plugin, and no other backend
//! cargo test --release --test it as_written -- --ignored --nocapture          a step of every pipeline at its full size
//! cargo test --release --test it generators:: -- --ignored --nocapture        texts drawn at random (CMAE_INPUTS=1000000)
//! cargo test --release --test it xla_offline:: -- --ignored --nocapture      a step compiled for an H100 that is not here
//! cargo test --release --test it xla:: -- --ignored --nocapture                every pipeline in f64 on a device
//! cargo test --release --test it golden:: -- --ignored --nocapture            every method's reference on a plugin
//! cargo test --release --test it methods:: -- --ignored --nocapture           every pipeline trained on a plugin
//! cargo test --release --test it ranks:: -- --ignored --nocapture             every pipeline on 2 to 4 ranks, in f64 and f32
//! cargo test --release --test it editing:: -- --ignored --nocapture            every name of every pipeline renamed
//! CMAE_INPUTS=100000 cargo test --release --test it editing::                 edits of texts, and questions about them
//! CMAE_LAYOUTS=1000000 cargo test --release --test it format::                layouts drawn at random
//! CMAE_KILLS=20 cargo test --features mpi --test it mpi::a_rank_that_dies     kills of one of four ranks
//! cargo test --release --test decode -- --ignored --nocapture                 damaged pictures and sources, 10,000 of each format
//! .ci/miri                                                                    unsafe code under Miri, on nightly
//! ```

#![allow(clippy::disallowed_macros, reason = "the test runner catches what is printed")]

mod accumulate;
mod as_written;
mod bands;
mod bench;
mod bf16;
mod bytes;
mod cases;
mod check;
mod checkpoints;
mod circles;
mod codes;
mod command;
mod comparisons;
mod copies;
mod cpu;
mod data_codes;
mod data_sets;
mod docs;
mod editing;
mod editor;
#[path = "../edits.rs"]
mod edits;
mod eval;
mod events;
mod export;
mod fit;
mod folders;
mod format;
mod generators;
mod golden;
mod init;
mod inspect;
mod ir;
mod judged_runs;
mod judging;
mod kept_lists;
mod lang;
mod layers;
mod loader;
mod lsp;
#[path = "../made.rs"]
mod made;
mod masks;
mod mended;
mod methods;
mod mixing;
#[cfg(feature = "mpi")]
mod mpi;
mod new;
mod ops;
mod optimizers;
mod outlook;
mod outputs;
mod pages;
mod pictures;
mod pipelines;
mod plans;
mod prelude;
mod print;
mod probes;
mod ranks;
mod recompute;
mod recovery;
mod report;
mod runs;
mod schedules;
mod segment;
mod shapes;
mod sheets;
mod sketches;
mod soak;
mod sources;
mod states;
mod stored;
mod streams;
mod studies;
mod sweeps;
mod texts;
mod troubles;
mod tui;
mod variants;
mod verified;
mod verify;
mod views;
mod weights;
mod xla;
mod xla_devices;
mod xla_offline;
mod xla_pjrt;
mod xla_session;
