//! Memory that begins at the start of a cache line, which a vector's own does not: a load of 64 bytes touches one line, not two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, of the widest vector and of a tile's row.
const LINE: usize = 64;

/// Values whose number never changes.
#[derive(Debug)]
pub(super) struct Aligned<T> {
    /// A line longer than asked for.
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Aligned { values: Vec::new(), start: 0, len: 0 }
    }
}

impl<T: Copy> Aligned<T> {
    /// Where `value` is zero, the system hands them out without writing them.
    pub fn new(value: T, len: usize) -> Self {
        let spare = LINE / size_of::<T>() - 1;
        let values = vec![value; len + spare];
        // Nothing is wrong where it cannot be found out, as a checker of pointers has it: loads are slower.
        let start = Some(values.as_ptr().align_offset(LINE)).filter(|start| *start <= spare).unwrap_or(0);
        Aligned { values, start, len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.len]
    }
}
