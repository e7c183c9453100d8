//! Places of values in arenas, and which parts of an arena are free.

use std::fmt;
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The caller's tensors, which a run only reads.
    Params,
    /// The caller's gradients.
    Gradients,
    Floats,
    /// Numbers of bf16.
    Halves,
    Ints,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub space: Space,
    pub start: usize,
    pub len: usize,
}

impl Place {
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn overlaps(&self, other: &Place) -> bool {
        let (a, b) = (self.range(), other.range());
        self.space == other.space && a.start < b.end && b.start < a.end
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = match self.space {
            Space::Params => "param",
            Space::Gradients => "gradient",
            Space::Floats => "f",
            Space::Halves => "h",
            Space::Ints => "i",
        };
        write!(f, "{space}[{}..{}]", self.start, self.start + self.len)
    }
}

/// Free ranges of an arena that grows when none fits.
pub(super) struct Arena {
    /// Elements that places begin at whole multiples of.
    alignment: usize,
    /// In ascending order, never side by side.
    free: Vec<Range<usize>>,
    pub len: usize,
    /// Elements that are not free.
    pub held: usize,
}

impl Arena {
    pub fn new(alignment: usize) -> Self {
        Arena { alignment, free: Vec::new(), len: 0, held: 0 }
    }

    pub fn take(&mut self, len: usize) -> Range<usize> {
        let len = len.next_multiple_of(self.alignment);
        self.held += len;
        let fits = self.free.iter().enumerate().filter(|(_, range)| range.len() >= len);
        if let Some((at, _)) = fits.min_by_key(|(_, range)| range.len()) {
            let start = self.free[at].start;
            self.free[at].start += len;
            if self.free[at].is_empty() {
                self.free.remove(at);
            }
            return start..start + len;
        }
        // The last range, if it reaches the end, grows by what it lacks.
        let start = match self.free.last() {
            Some(last) if last.end == self.len => self.free.pop().map_or(self.len, |last| last.start),
            _ => self.len,
        };
        self.len = start + len;
        start..start + len
    }

    pub fn give(&mut self, range: Range<usize>) {
        let end = range.start + range.len().next_multiple_of(self.alignment);
        self.held -= end - range.start;
        let at = self.free.partition_point(|free| free.start < range.start);
        self.free.insert(at, range.start..end);
        if at + 1 < self.free.len() && self.free[at].end == self.free[at + 1].start {
            self.free[at].end = self.free.remove(at + 1).end;
        }
        if at > 0 && self.free[at - 1].end == self.free[at].start {
            self.free[at - 1].end = self.free.remove(at).end;
        }
    }
}
