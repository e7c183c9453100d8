//! Places of values in arenas, and how an arena is laid out.

use std::cmp::Reverse;
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

/// A run of elements that is taken from one step to another.
#[derive(Debug, Clone)]
struct Taken {
    len: usize,
    /// Steps in which it is, the last included.
    from: usize,
    to: usize,
}

/// An arena that is laid out when it is known how long each value is needed. Until then each has a place of its own, behind all that
/// were taken before it.
pub(super) struct Arena {
    /// Elements that places begin at whole multiples of.
    alignment: usize,
    taken: Vec<Taken>,
    /// Where each begins, in ascending order.
    starts: Vec<usize>,
    end: usize,
    /// Elements that are not free.
    pub held: usize,
}

/// Where what was taken lies for good.
pub(super) struct Laid {
    /// As [`Arena`] gave them out, and as they are.
    starts: Vec<(usize, usize)>,
    pub len: usize,
}

impl Arena {
    pub fn new(alignment: usize) -> Self {
        Arena { alignment, taken: Vec::new(), starts: Vec::new(), end: 0, held: 0 }
    }

    /// From step `at` on, to the end if it is not given back.
    pub fn take(&mut self, len: usize, at: usize) -> Range<usize> {
        let (start, len) = (self.end, len.next_multiple_of(self.alignment));
        if len > 0 {
            self.taken.push(Taken { len, from: at, to: usize::MAX });
            self.starts.push(start);
        }
        self.end += len;
        self.held += len;
        start..self.end
    }

    /// What was taken at `start` is not read after step `at`.
    pub fn give(&mut self, start: usize, at: usize) {
        if let Ok(index) = self.starts.binary_search(&start) {
            self.taken[index].to = at;
            self.held -= self.taken[index].len;
        }
    }

    /// The largest first, each as near to the beginning as what it is needed beside lets it, as Pisarchyk & Lee 2020, "Efficient
    /// memory management for deep neural net inference", have found to be nearest to the least.
    pub fn lay_out(&self) -> Laid {
        let mut order: Vec<usize> = (0..self.taken.len()).collect();
        order.sort_by_key(|i| (Reverse(self.taken[*i].len), *i));
        let mut starts = vec![(0, 0); order.len()];
        // In the order of where they begin.
        let mut laid: Vec<(usize, &Taken)> = Vec::with_capacity(order.len());
        let mut len = 0;
        for index in order {
            let taken = &self.taken[index];
            let mut start = 0;
            for (other, beside) in &laid {
                if beside.from > taken.to || taken.from > beside.to {
                    continue;
                }
                if start + taken.len <= *other {
                    break;
                }
                start = start.max(other + beside.len);
            }
            starts[index] = (self.starts[index], start);
            len = len.max(start + taken.len);
            laid.insert(laid.partition_point(|(other, _)| *other <= start), (start, taken));
        }
        Laid { starts, len }
    }
}

impl Laid {
    /// Where what was given out to begin at `start` does.
    pub fn at(&self, start: usize) -> usize {
        let index = self.starts.partition_point(|(given, _)| *given <= start);
        self.starts[..index].last().map_or(start, |(given, laid)| laid + (start - given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two values that last while short ones come and go: the last fits where the first two were.
    #[test]
    fn what_is_not_needed_at_once_lies_in_one_place() {
        let mut arena = Arena::new(4);
        let places: Vec<usize> =
            [(3, 0), (8, 0), (5, 1), (12, 2)].into_iter().map(|(len, at)| arena.take(len, at).start).collect();
        assert_eq!(arena.held, 4 + 8 + 8 + 12);
        arena.give(places[0], 1);
        arena.give(places[1], 1);
        assert_eq!(arena.held, 8 + 12);
        let laid = arena.lay_out();
        assert_eq!(laid.len, 8 + 12);
        // Parts of a value move with it.
        let at: Vec<usize> = places.iter().map(|start| laid.at(*start)).collect();
        assert_eq!(at, [8, 0, 12, 0]);
        assert_eq!(laid.at(places[2] + 3), 15);
        assert_eq!(Arena::new(4).lay_out().len, 0);
    }
}
