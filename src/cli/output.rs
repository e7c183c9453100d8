//! Results on stdout. Who reads only the first lines, as `head` does, closes the pipe: that is no error.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes to stdout; leaves the process where nobody reads on, or where stdout cannot be written to.
pub fn write(text: Arguments<'_>) {
    if let Err(error) = std::io::stdout().write_fmt(text) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("cannot write to stdout: {error}");
        std::process::exit(1);
    }
}

/// `print!` through [`write`].
macro_rules! out {
    ($($arguments:tt)*) => { $crate::cli::output::write(format_args!($($arguments)*)) };
}

/// `println!` through [`write`].
macro_rules! outln {
    () => { $crate::cli::output::write(format_args!("\n")) };
    ($($arguments:tt)*) => { $crate::cli::output::write(format_args!("{}\n", format_args!($($arguments)*))) };
}

pub(crate) use {out, outln};
