//! One parallel walk over the trained tensors in pieces, each with what the optimizer keeps of it and with the averaged
//! copies that follow it: a parameter is updated and its copy moved while it lies in the cache.
//!
//! **Invariant:** pieces are cut by the sizes of tensors alone, so that what is summed over them is the same for any number
//! of threads; and no element belongs to two of them, which [`Walk::new`] checks.
#![allow(unsafe_code, reason = "pieces of one arena that lie apart in no order that slices could be split in")]

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::CHUNK;
use super::ema::Pair;
use crate::graph::Layout;

#[derive(Debug, Clone)]
pub(super) struct Walk {
    pieces: Vec<Piece>,
    /// Followers of all pieces, one piece after the other: (index of the pair, range of the copy).
    followers: Vec<(usize, Range<usize>)>,
    /// The pieces that are updated here, and their values: all of them, or one rank's.
    own: Range<usize>,
    own_values: Range<usize>,
    trained_len: usize,
    total_len: usize,
}

#[derive(Debug, Clone)]
struct Piece {
    tensor: usize,
    range: Range<usize>,
    /// In `Walk::followers`.
    followers: Range<usize>,
}

/// What a walk shows of one piece.
pub(super) struct Part<'a, E> {
    /// Index of the trained tensor.
    pub tensor: usize,
    pub parameters: &'a mut [E],
    pub gradients: &'a [E],
    /// What the optimizer keeps, as many as it has slots; empty beyond.
    pub slots: [&'a mut [E]; 2],
    followers: &'a [(usize, Range<usize>)],
    arena: &'a Shared<'a, E>,
}

impl Walk {
    /// All trained tensors of `layout`, of which `own` are updated here, the copies of `pairs` with the tensors that are their
    /// sources.
    pub fn new(layout: &Layout, pairs: &[Pair], own: Range<usize>) -> Self {
        let (mut pieces, mut followers) = (Vec::new(), Vec::new());
        for tensor in 0..layout.trained() {
            let whole = layout.range(tensor);
            let mine = pairs.iter().enumerate().filter(|(_, pair)| pair.source == whole);
            let mine: Vec<(usize, usize)> = mine.map(|(index, pair)| (index, pair.copy.start)).collect();
            for start in whole.clone().step_by(CHUNK) {
                let range = start..whole.end.min(start + CHUNK);
                let first = followers.len();
                followers.extend(mine.iter().map(|(index, copy)| {
                    let at = copy + range.start - whole.start;
                    (*index, at..at + range.len())
                }));
                pieces.push(Piece { tensor, range, followers: first..followers.len() });
            }
        }
        let first = |tensor: usize| pieces.iter().position(|piece| piece.tensor >= tensor).unwrap_or(pieces.len());
        let walk = Walk {
            own: first(own.start)..first(own.end),
            own_values: values_of(layout, own),
            pieces,
            followers,
            trained_len: layout.trained_len,
            total_len: layout.total_len,
        };
        walk.check();
        walk
    }

    /// Panics unless what pieces write lies apart and within the arena.
    fn check(&self) {
        let of_pieces = self.pieces.iter().map(|piece| &piece.range);
        let mut written: Vec<&Range<usize>> = of_pieces.chain(self.followers.iter().map(|(_, copy)| copy)).collect();
        written.sort_by_key(|range| range.start);
        assert!(written.is_sorted_by(|a, b| a.end <= b.start), "two pieces of an arena overlap");
        assert!(written.last().is_none_or(|last| last.end <= self.total_len), "a copy lies outside of the arena");
        assert!(self.pieces.iter().all(|piece| piece.range.end <= self.trained_len), "a piece is not of a parameter");
    }

    /// Calls `work` on every piece that is updated here. `gradients` have `layout.trained_len` values, each of `slots` those of the
    /// tensors that are updated, `arena` has `layout.total_len`.
    pub fn for_each<E: Send + Sync>(
        &self,
        arena: &mut [E],
        gradients: &[E],
        slots: &mut [Vec<E>],
        work: impl Fn(Part<'_, E>) + Sync,
    ) {
        assert!(arena.len() == self.total_len && gradients.len() == self.trained_len, "the arenas are the layout's");
        assert!(slots.iter().all(|slot| slot.len() == self.own_values.len()), "slots are of what is updated");
        let mut slots = slots.iter_mut();
        let mut slot = || Shared::new(slots.next().map_or(&mut [][..], Vec::as_mut_slice));
        let (arena, slots) = (Shared::new(arena), [slot(), slot()]);
        self.pieces[self.own.clone()].par_iter().for_each(|piece| {
            let in_slot = piece.range.start - self.own_values.start..piece.range.end - self.own_values.start;
            // SAFETY: no other piece has this range, as `check` has seen, and this is the one task that has the piece. The slots
            // have the parameters' ranges, counted from the first that is updated here, or no element at all.
            let (parameters, slots) =
                unsafe { (arena.part(&piece.range), slots.each_ref().map(|slot| slot.part(&slot.within(&in_slot)))) };
            work(Part {
                tensor: piece.tensor,
                parameters,
                gradients: &gradients[piece.range.clone()],
                slots,
                followers: &self.followers[piece.followers.clone()],
                arena: &arena,
            });
        });
    }

    /// What `term` makes of each piece of parameters and gradients, added up for each tensor. `of_pieces` is memory for it;
    /// `totals` gets a number for each trained tensor.
    pub fn sums<E: Sync>(
        &self,
        arena: &[E],
        gradients: &[E],
        term: impl Fn(usize, &[E], &[E]) -> f64 + Sync,
        of_pieces: &mut Vec<f64>,
        totals: &mut Vec<f64>,
    ) {
        of_pieces.resize(self.pieces.len(), 0.0);
        self.pieces.par_iter().zip(&mut *of_pieces).for_each(|(piece, sum)| {
            *sum = term(piece.tensor, &arena[piece.range.clone()], &gradients[piece.range.clone()]);
        });
        totals.iter_mut().for_each(|total| *total = 0.0);
        totals.resize(self.pieces.last().map_or(0, |piece| piece.tensor + 1), 0.0);
        // One after the other: the order of a sum must not hang on which thread is first.
        self.pieces.iter().zip(of_pieces).for_each(|(piece, sum)| totals[piece.tensor] += *sum);
    }
}

/// Values of the layout that `tensors`, trained ones, hold.
pub(super) fn values_of(layout: &Layout, tensors: Range<usize>) -> Range<usize> {
    let start = |tensor: usize| if tensor < layout.trained() { layout.range(tensor).start } else { layout.trained_len };
    start(tensors.start)..start(tensors.end)
}

impl<E> Part<'_, E> {
    /// Calls `work` with the index of the pair, this piece of its copy, and the parameters.
    pub fn each_follower(&mut self, work: impl Fn(usize, &mut [E], &[E])) {
        for (pair, copy) in self.followers {
            // SAFETY: no other piece has this range, as `check` has seen, and `self` is the one part of its piece.
            work(*pair, unsafe { self.arena.part(copy) }, self.parameters);
        }
    }
}

/// A slice that is handed out in parts.
struct Shared<'a, E> {
    first: *mut E,
    len: usize,
    borrowed: PhantomData<&'a mut [E]>,
}

// SAFETY: parts are given out as `&mut [E]`, which goes to another thread if E does.
unsafe impl<E: Send> Sync for Shared<'_, E> {}

impl<'a, E> Shared<'a, E> {
    fn new(slice: &'a mut [E]) -> Self {
        Shared { first: slice.as_mut_ptr(), len: slice.len(), borrowed: PhantomData }
    }

    /// The range, or nothing of a slot that the optimizer does not have.
    fn within(&self, range: &Range<usize>) -> Range<usize> {
        if self.len == 0 { 0..0 } else { range.clone() }
    }

    /// # Safety
    /// While the part lives, no other overlaps it.
    #[allow(clippy::mut_from_ref, reason = "parts that lie apart are the point of it")]
    unsafe fn part(&self, range: &Range<usize>) -> &mut [E] {
        assert!(range.start <= range.end && range.end <= self.len, "a part lies within its slice");
        // SAFETY: it lies within the slice, which is borrowed mutably for `'a`; that no other part overlaps it is the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}
