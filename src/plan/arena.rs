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
    /// Numbers of bf16 where floats could lie, two for one.
    Halves,
    /// The same in the caller's gradients, from the first cache line on: [`LINE`] floats are room for where that begins.
    SpareHalves,
    Ints,
}

/// Floats of a cache line.
pub const LINE: usize = 16;

impl Space {
    pub fn is_halves(self) -> bool {
        matches!(self, Space::Halves | Space::SpareHalves)
    }

    /// What numbers of bf16 lie in, and else itself.
    pub fn of_floats(self) -> Space {
        match self {
            Space::Halves => Space::Floats,
            Space::SpareHalves => Space::Gradients,
            other => other,
        }
    }
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
        let is_one_kind = self.space == other.space;
        let (a, b) = if is_one_kind { (self.range(), other.range()) } else { (self.lies(), other.lies()) };
        self.space.of_floats() == other.space.of_floats() && a.start < b.end && b.start < a.end
    }

    /// The elements of its arena that it may touch: floats, where it holds numbers of bf16.
    pub fn lies(&self) -> Range<usize> {
        let floats = self.start / 2..(self.start + self.len).div_ceil(2);
        match self.space {
            Space::Halves => floats,
            Space::SpareHalves => floats.start..floats.end + LINE,
            _ => self.range(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = match self.space {
            Space::Params => "param",
            Space::Gradients => "gradient",
            Space::Floats => "f",
            Space::Halves => "h",
            Space::SpareHalves => "gradient.h",
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

/// Values of one kind, that [`lay_out`] gives places to when it is known how long each is needed. Until then each has a place of its own,
/// behind all that were taken before it.
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

/// Floats beside arenas that are free until they are written, for values that are not needed any more then.
#[derive(Debug, Default)]
pub(super) struct Room {
    len: usize,
    /// What lies in it, and what is written to it to stay, in the order of where it begins.
    laid: Vec<(usize, Taken)>,
}

/// How the values of an [`Arena`] lie among others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// Elements in the place of one of the largest.
    pub per: usize,
    /// What a value takes beside its own in a [`Room`].
    pub spare: usize,
}

/// Where what was taken lies for good.
pub(super) struct Laid {
    /// As [`Arena`] gave them out, and as they are.
    spots: Vec<(usize, Spot)>,
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
}

/// A value of one of several arenas, measured in the largest elements of these.
#[derive(Debug, Clone, Copy)]
struct Value {
    /// Which arena.
    of: usize,
    /// Which of its values.
    index: usize,
    taken: Taken,
    alignment: usize,
}

/// Where the values of each of `arenas` lie among one another, and how much they take.
///
/// In `room`, of which the arena takes nothing, lies what has a place there: what is needed at step `most`, when there is most, before all
/// others, and of it either the largest or what is needed longest, whichever leaves less. The rest by size, see [`own`].
pub(super) fn lay_out<const N: usize>(arenas: [(&Arena, Fit); N], room: &Room, most: usize) -> ([Laid; N], usize) {
    let values = |(of, (arena, fit)): (usize, &(&Arena, Fit))| {
        let (per, alignment) = (fit.per, arena.alignment / fit.per);
        let whole = |taken: &Taken| Taken { len: taken.len / per, ..*taken };
        let values = arena.taken.iter().map(whole).enumerate();
        values.map(|(index, taken)| Value { of, index, taken, alignment }).collect::<Vec<_>>()
    };
    let values: Vec<Value> = arenas.iter().enumerate().flat_map(values).collect();
    let is_not_then = |value: &Value| value.taken.from > most || most > value.taken.to;
    let (mut largest, mut longest) = (values.clone(), values);
    largest.sort_by_key(|value| (is_not_then(value), Reverse(value.taken.len), value.of, value.index));
    longest.sort_by_key(|value| {
        (is_not_then(value), Reverse(value.taken.to), Reverse(value.taken.len), value.of, value.index)
    });
    let laid = [largest, longest].map(|order| {
        let mut spots = arenas.map(|(arena, _)| vec![None; arena.starts.len()]);
        within(room, &order, arenas.map(|(_, fit)| fit), &mut spots);
        let len = own(order, arenas.map(|(_, fit)| fit), &mut spots);
        (spots, len)
    });
    let [first, second] = laid;
    let (mut spots, len) = if second.1 < first.1 { second } else { first };
    let laid = std::array::from_fn(|of| {
        let spots = std::mem::take(&mut spots[of]).into_iter().map(Option::unwrap_or_default);
        Laid { spots: arenas[of].0.starts.iter().copied().zip(spots).collect() }
    });
    (laid, len)
}

/// Gives what has a place in `room` that place, one value after the other.
fn within<const N: usize>(room: &Room, order: &[Value], fits: [Fit; N], spots: &mut [Vec<Option<Spot>>; N]) {
    let mut laid = room.laid.clone();
    for Value { of, index, taken, alignment } in order.iter().copied() {
        let Fit { per, spare } = fits[of];
        let taken = Taken { len: taken.len + spare, ..taken };
        let start = lowest(&laid, taken, alignment);
        // What is needed to the end would lie where something is written then.
        if taken.to < usize::MAX && start + taken.len <= room.len {
            lay(&mut laid, start, taken);
            spots[of][index] = Some(Spot { start: start * per, in_room: true });
        }
    }
}

/// Gives the others places in the arena, and how much they take: the largest first, each as near to the beginning as what it is needed
/// beside lets it, as Pisarchyk & Lee 2020, "Efficient memory management for deep neural net inference", have found to be nearest to the
/// least.
fn own<const N: usize>(mut order: Vec<Value>, fits: [Fit; N], spots: &mut [Vec<Option<Spot>>; N]) -> usize {
    order.sort_by_key(|value| (Reverse(value.taken.len), value.of, value.index));
    let (mut laid, mut len) = (Vec::with_capacity(order.len()), 0);
    for Value { of, index, taken, alignment } in order {
        spots[of][index].get_or_insert_with(|| {
            let start = lowest(&laid, taken, alignment);
            lay(&mut laid, start, taken);
            len = len.max(start + taken.len);
            Spot { start: start * fits[of].per, in_room: false }
        });
    }
    len
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
    /// Of `len` floats, parts of which are written in a step and stay; the rest is written after the last.
    pub fn new(len: usize, written: impl Iterator<Item = (Range<usize>, usize)>) -> Self {
        let stays = |(part, from): (Range<usize>, usize)| (part.start, Taken { len: part.len(), from, to: usize::MAX });
        let mut laid: Vec<(usize, Taken)> = written.map(stays).collect();
        laid.sort_by_key(|(start, _)| *start);
        Room { len, laid }
    }
}

impl Fit {
    pub const FLOATS: Fit = Fit { per: 1, spare: 0 };
    pub const HALVES: Fit = Fit { per: 2, spare: LINE };
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
        let ([laid], len) = lay_out([(&arena, Fit::FLOATS)], &Room::default(), 0);
        assert_eq!(len, 8 + 12);
        // Parts of a value move with it.
        let at: Vec<usize> = places.iter().map(|start| laid.at(*start).start).collect();
        assert_eq!(at, [8, 0, 12, 0]);
        assert_eq!(laid.at(places[2] + 3).start, 15);
        assert_eq!(lay_out([(&Arena::new(4), Fit::FLOATS)], &Room::default(), 0).1, 0);
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
        let room = Room::new(13, [(0..5, 4), (5..13, 6)].into_iter());
        let ([laid], len) = lay_out([(&arena, Fit::FLOATS)], &room, 0);
        let spots = places.map(|start| laid.at(start));
        let own = |start: usize| Spot { start, in_room: false };
        // The first would begin at 8, behind what is written in step 4, and reach beyond.
        assert_eq!(spots, [own(0), Spot { start: 0, in_room: true }, own(8), own(12)]);
        assert_eq!(len, 16);
    }

    /// Two numbers of bf16 lie in a float, behind what is there, with room for where a cache line begins.
    #[test]
    fn numbers_of_bf16_lie_in_the_room_of_floats() {
        let mut arena = Arena::new(2 * LINE);
        let places = [(64, 0), (64, 1), (320, 0)].map(|(len, at)| arena.take(len, at).start);
        places.iter().for_each(|place| arena.give(*place, 2));
        // From step 2 on the first hundred are written, which none of the three may lie in.
        let room = Room::new(300, [(0..100, 2)].into_iter());
        // Beside them one of floats, which is as large as the two that do not fit, and needed to the end.
        let mut floats = Arena::new(LINE);
        let beside = floats.take(64, 0).start;
        let ([laid, of_floats], len) = lay_out([(&arena, Fit::HALVES), (&floats, Fit::FLOATS)], &room, 1);
        assert_eq!((of_floats.at(beside), len), (Spot { start: 0, in_room: false }, 64 + 32 + 32));
        let place = |start: usize, len: usize| Place { space: Space::SpareHalves, start, len };
        let spots = places.map(|start| laid.at(start));
        let in_room = |start: usize| Spot { start, in_room: true };
        // 112 is where a line begins behind 100; the largest takes 160 floats and a line, and the others 32 and a line.
        assert_eq!(spots, [Spot { start: 128, in_room: false }, Spot { start: 192, in_room: false }, in_room(224)]);
        assert_eq!(place(224, 320).lies(), 112..288);
        assert!(place(224, 320).overlaps(&Place { space: Space::Gradients, start: 287, len: 1 }));
        assert!(!place(224, 320).overlaps(&Place { space: Space::Gradients, start: 288, len: 4 }));
        assert!(!place(224, 320).overlaps(&Place { space: Space::Halves, start: 224, len: 320 }));
        let own = Place { space: Space::Halves, start: 128, len: 64 };
        assert!(own.overlaps(&Place { space: Space::Floats, start: 95, len: 9 }));
        assert!(!own.overlaps(&Place { space: Space::Floats, start: 96, len: 9 }));
    }
}
