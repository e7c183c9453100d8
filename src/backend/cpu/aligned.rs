//! Memory that begins at the start of a cache line, which a vector's own does not: a load of 64 bytes touches one line, not two. Much of
//! it lies in large pages where the system has such: a step walks through all of it, and small pages have to be looked up (a product whose
//! operands lay in no cache, two cores with AMX that others shared: 911 GFLOP/s at the best of three runs, 1289 with large ones).
#![allow(unsafe_code, reason = "advice to the system is given by address")]

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
        prefer_large_pages(&values);
        // Nothing is wrong where it cannot be found out, as a checker of pointers has it: loads are slower.
        let start = Some(values.as_ptr().align_offset(LINE)).filter(|start| *start <= spare).unwrap_or(0);
        Aligned { values, start, len }
    }
}

/// Asks for large pages where nothing has been written yet. What cannot be had changes nothing but the time.
#[cfg(all(target_os = "linux", not(miri)))]
fn prefer_large_pages<T>(values: &[T]) {
    const PAGE: usize = 2 << 20;
    let range = values.as_ptr_range();
    let (first, end) = ((range.start as usize).next_multiple_of(PAGE), range.end as usize / PAGE * PAGE);
    if first < end {
        // SAFETY: whole pages within the slice; how they are backed changes nothing of what they hold.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn prefer_large_pages<T>(_: &[T]) {}

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
