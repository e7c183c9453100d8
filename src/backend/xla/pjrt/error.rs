//! What goes wrong with a plugin, in its own words.

use std::fmt;
use std::path::PathBuf;

use super::version::{OLDEST, Version};

/// Why a plugin could not be used, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PjrtError {
    #[error("`{}` cannot be loaded as a PJRT plugin: {reason}", .path.display())]
    Load { path: PathBuf, reason: String },
    #[error(
        "`{}` is no PJRT plugin: it has no function `GetPjrtApi` (help: `cmaec devices` lists the plugins of this machine)",
        .path.display()
    )]
    NoApi { path: PathBuf },
    #[error("`{}` gives no table of functions: {reason}", .path.display())]
    NoTable { path: PathBuf, reason: &'static str },
    #[error(
        "`{}` speaks version {found} of PJRT's C API, cmae speaks {OLDEST} and what comes after it (help: install a newer \
         plugin; `cmaec devices` says how)",
        .path.display()
    )]
    TooOld { path: PathBuf, found: Version },
    #[error(
        "`{}` speaks version {found} of PJRT's C API, cmae speaks those that begin with {}. (help: install an older plugin, \
         or a newer cmae)",
        .path.display(), OLDEST.major
    )]
    OtherVersion { path: PathBuf, found: Version },
    /// The plugin's table ends before this function, or leaves it out.
    #[error(
        "the plugin has no `{function}`: it speaks version {version} of PJRT's C API (help: install a newer plugin)"
    )]
    Missing { function: &'static str, version: Version },
    #[error("{function}: {message} ({code}){}", .code.help())]
    Plugin { function: &'static str, code: Code, message: String },
    #[error("{function} gave {what}, which PJRT does not allow")]
    Odd { function: &'static str, what: &'static str },
    #[error("a buffer of {shape:?} × {element} takes {expected} bytes, {found} were given")]
    Length { element: &'static str, shape: Vec<usize>, expected: usize, found: usize },
    #[error("the buffer holds {found}, {expected} were asked for")]
    Element { expected: &'static str, found: &'static str },
    #[error("the program runs on {expected} devices, arguments for {found} were given")]
    Devices { expected: usize, found: usize },
    #[error("devices of one program take as many arguments each, {first} and {other} were given")]
    Uneven { first: usize, other: usize },
    #[error("argument {argument} belongs to another client")]
    Foreign { argument: usize },
    #[error("argument {argument} lies on device {found}, the program takes it on device {expected}")]
    Elsewhere { argument: usize, found: usize, expected: usize },
    #[error("the client has no device {device}, it has {count} (help: devices count from 0)")]
    NoDevice { device: usize, count: usize },
    #[error("`{}` cannot be read: {reason}", .path.display())]
    Read { path: PathBuf, reason: String },
}

impl PjrtError {
    /// The plugin's own code, where the error is the plugin's.
    pub fn code(&self) -> Option<Code> {
        match self {
            PjrtError::Plugin { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// An error's kind; the numbers are the C API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
    /// One that is not in the C API's list.
    Other(i32),
}

impl Code {
    /// What to do about it, where that is known.
    fn help(self) -> &'static str {
        match self {
            Code::ResourceExhausted => {
                " (help: a smaller train.micro_batch takes less; another process may hold memory of the device)"
            }
            _ => "",
        }
    }

    pub(super) fn number(self) -> i32 {
        match self {
            Code::Other(number) => number,
            known => (1..=16).find(|number| Code::of(*number) == known).unwrap_or(2),
        }
    }

    pub(super) fn of(number: i32) -> Self {
        match number {
            1 => Code::Cancelled,
            2 => Code::Unknown,
            3 => Code::InvalidArgument,
            4 => Code::DeadlineExceeded,
            5 => Code::NotFound,
            6 => Code::AlreadyExists,
            7 => Code::PermissionDenied,
            8 => Code::ResourceExhausted,
            9 => Code::FailedPrecondition,
            10 => Code::Aborted,
            11 => Code::OutOfRange,
            12 => Code::Unimplemented,
            13 => Code::Internal,
            14 => Code::Unavailable,
            15 => Code::DataLoss,
            16 => Code::Unauthenticated,
            other => Code::Other(other),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::Cancelled => "cancelled",
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid argument",
            Code::DeadlineExceeded => "deadline exceeded",
            Code::NotFound => "not found",
            Code::AlreadyExists => "already exists",
            Code::PermissionDenied => "permission denied",
            Code::ResourceExhausted => "resource exhausted",
            Code::FailedPrecondition => "failed precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out of range",
            Code::Unimplemented => "not implemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data loss",
            Code::Unauthenticated => "unauthenticated",
            Code::Other(number) => return write!(f, "code {number}"),
        })
    }
}
