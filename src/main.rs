//! `cmaec`: the command line.

fn main() {}
