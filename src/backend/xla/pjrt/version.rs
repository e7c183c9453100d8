//! Versions of the C API.

use std::fmt;

/// The oldest version whose layouts were held against ours.
pub const OLDEST: Version = Version { major: 0, minor: 81 };

/// A version of PJRT's C API: one with another `major` is another API, a greater `minor` adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: i32,
    pub minor: i32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
