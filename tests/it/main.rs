//! The one test binary.

mod codes;
mod command;
mod eval;
mod golden;
mod lang;
mod layers;
mod loader;
mod ops;
mod pages;
mod pictures;
mod pipelines;
mod runs;
mod schedules;
mod shapes;
mod verify;
mod views;
