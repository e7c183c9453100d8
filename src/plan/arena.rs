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
#[derive(Debug, Clone, Copy)]
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

/// Elements beside an arena that are free until they are written, for values that are not needed any more then.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub len: usize,
    /// Parts of it, and the step that writes each; the rest is written after the last.
    pub written: Vec<(Range<usize>, usize)>,
}

/// Where what was taken lies for good.
pub(super) struct Laid {
    /// As [`Arena`] gave them out, and as they are.
    spots: Vec<(usize, Spot)>,
    /// Of the arena; what lies in the room is no part of it.
    pub len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spot {
    pub start: usize,
    pub in_room: bool,
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
    /// memory management for deep neural net inference", have found to be nearest to the least; in `room` if there is a place, before
    /// all others what is needed at step `most`, when the arena holds most.
    pub fn lay_out(&self, room: &Room, most: usize) -> Laid {
        let mut order: Vec<usize> = (0..self.taken.len()).collect();
        order.sort_by_key(|i| (Reverse(self.taken[*i].len), *i));
        let mut spots: Vec<(usize, Option<Spot>)> = self.starts.iter().map(|start| (*start, None)).collect();
        let (mut in_room, mut own, mut len) = (room.laid(), Vec::with_capacity(order.len()), 0);
        let is_needed_then = |taken: Taken| taken.from <= most && most <= taken.to;
        for then in [true, false] {
            for index in order.iter().copied().filter(|i| is_needed_then(self.taken[*i]) == then) {
                let taken = self.taken[index];
                let start = lowest(&in_room, taken, self.alignment);
                // What is needed to the end would lie where something is written then.
                if taken.to < usize::MAX && start + taken.len <= room.len {
                    lay(&mut in_room, start, taken);
                    spots[index].1 = Some(Spot { start, in_room: true });
                }
            }
        }
        for index in order {
            let taken = self.taken[index];
            spots[index].1.get_or_insert_with(|| {
                let start = lowest(&own, taken, self.alignment);
                lay(&mut own, start, taken);
                len = len.max(start + taken.len);
                Spot { start, in_room: false }
            });
        }
        let spots = spots.into_iter().map(|(given, spot)| (given, spot.unwrap_or_default())).collect();
        Laid { spots, len }
    }
}

/// Puts `taken` where it is found in the order of where it begins.
fn lay(laid: &mut Vec<(usize, Taken)>, start: usize, taken: Taken) {
    laid.insert(laid.partition_point(|(other, _)| *other <= start), (start, taken));
}

/// The first element from which on as many are free as `taken` takes, of what is `laid` in the order of where it begins.
fn lowest(laid: &[(usize, Taken)], taken: Taken, alignment: usize) -> usize {
    let mut start = 0;
    for (other, beside) in laid {
        if beside.from > taken.to || taken.from > beside.to {
            continue;
        }
        if start + taken.len <= *other {
            break;
        }
        start = start.max((other + beside.len).next_multiple_of(alignment));
    }
    start
}

impl Room {
    /// Its parts as what is taken from when they are written to the end.
    fn laid(&self) -> Vec<(usize, Taken)> {
        let taken =
            |(part, from): &(Range<usize>, usize)| (part.start, Taken { len: part.len(), from: *from, to: usize::MAX });
        let mut laid: Vec<(usize, Taken)> = self.written.iter().map(taken).collect();
        laid.sort_by_key(|(start, _)| *start);
        laid
    }
}

impl Laid {
    /// Where what was given out to begin at `start` does.
    pub fn at(&self, start: usize) -> Spot {
        let index = self.spots.partition_point(|(given, _)| *given <= start);
        match self.spots[..index].last() {
            Some((given, spot)) => Spot { start: spot.start + (start - given), ..*spot },
            None => Spot { start, in_room: false },
        }
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
        let laid = arena.lay_out(&Room::default(), 0);
        assert_eq!(laid.len, 8 + 12);
        // Parts of a value move with it.
        let at: Vec<usize> = places.iter().map(|start| laid.at(*start).start).collect();
        assert_eq!(at, [8, 0, 12, 0]);
        assert_eq!(laid.at(places[2] + 3).start, 15);
        assert_eq!(Arena::new(4).lay_out(&Room::default(), 0).len, 0);
    }

    /// What is done with before its part of the room is written lies there, where it may begin; what is needed longer, or to the end,
    /// does not.
    #[test]
    fn room_is_used_until_it_is_written() {
        let mut arena = Arena::new(4);
        let places = [(8, 0), (4, 0), (4, 0), (4, 0)].map(|(len, at)| arena.take(len, at).start);
        for (place, at) in [(0, 5), (1, 3), (2, 6)] {
            arena.give(places[place], at);
        }
        let laid = arena.lay_out(&Room { len: 13, written: vec![(0..5, 4), (5..13, 6)] }, 0);
        let spots = places.map(|start| laid.at(start));
        let own = |start: usize| Spot { start, in_room: false };
        // The first would begin at 8, behind what is written in step 4, and reach beyond.
        assert_eq!(spots, [own(0), Spot { start: 0, in_room: true }, own(8), own(12)]);
        assert_eq!(laid.len, 16);
    }
}
