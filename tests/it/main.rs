//! The one test binary.

mod accumulate;
mod bench;
mod codes;
mod command;
mod cpu;
mod docs;
mod eval;
mod golden;
mod lang;
mod layers;
mod loader;
mod masks;
mod methods;
mod ops;
mod optimizers;
mod pages;
mod pictures;
mod pipelines;
mod plans;
mod recompute;
mod runs;
mod schedules;
mod shapes;
mod states;
mod verify;
mod views;
