//! The doors to stdout and stderr: results go to the one, progress and messages to the other.
//!
//! **Invariant:** nothing else in the program writes to either (`clippy.toml`), and nothing here panics: a reader that has
//! gone, as `head` does, is no error of ours.

#![expect(clippy::disallowed_methods, reason = "these are the doors")]

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Writes a result to stdout; leaves the process where nobody reads on, or where stdout cannot be written to.
pub fn write(text: Arguments<'_>) {
    if let Err(error) = io::stdout().write_fmt(text) {
        leave(&error);
    }
}

/// Stdout for a protocol of its own, which nothing else may write to then.
pub fn stream() -> io::Stdout {
    io::stdout()
}

/// Writes out what stdout holds back: a result that has no line's end, at the end of the program.
pub fn finish() {
    if let Err(error) = io::stdout().flush() {
        leave(&error);
    }
}

fn leave(error: &io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    message(format_args!("cannot write to stdout: {error}\n"));
    std::process::exit(1);
}

/// Writes a result to stdout, of work that matters more than who reads of it: a run goes on where nobody does.
pub fn offer(text: Arguments<'_>) {
    match io::stdout().write_fmt(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            message(format_args!("warning: cannot write to stdout: {error}\n"));
        }
        _ => {}
    }
}

/// Writes to stderr. There is nobody to tell where that fails: the terminal is gone, or a pipe's reader.
pub fn message(text: Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Whether messages go to a terminal.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
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

/// `eprintln!` through [`message`].
macro_rules! errln {
    ($($arguments:tt)*) => { $crate::cli::output::message(format_args!("{}\n", format_args!($($arguments)*))) };
}

pub(crate) use {errln, out, outln};
