//! The arenas of a run, and what a step sees of them.
#![allow(unsafe_code, reason = "a step reads and writes disjoint parts of one arena, which slices cannot say")]

use std::marker::PhantomData;

use super::aligned::Aligned;
use super::stored::{Numbers, bf16};
use crate::plan::{LINE, Place, Plan, Space, Step};
use crate::tensor::Element;

/// What the values of a run lie in.
pub(super) struct Arenas<E> {
    floats: Aligned<E>,
    ints: Aligned<i64>,
}

/// Elements of arenas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    floats: usize,
    ints: usize,
}

/// Arenas by their first element. What they point to is borrowed for `'m`.
pub(super) struct Memory<'m, E> {
    params: (*const E, usize),
    gradients: (*mut E, usize),
    floats: (*mut E, usize),
    ints: (*mut i64, usize),
    borrowed: PhantomData<(&'m [E], &'m mut [E], &'m mut Arenas<E>)>,
}

/// The places of one step, in the arenas.
pub(super) struct Views<'v, E> {
    /// Empty where the step writes ids, or in bf16.
    pub out: &'v mut [E],
    /// Empty where the step writes ids, or floats.
    pub out_halves: &'v mut [bf16],
    /// Empty where the step writes numbers.
    pub out_ids: &'v mut [i64],
    pub scratch: &'v mut [E],
    reads: &'v [Place],
    in_place: Option<usize>,
    memory: &'v Memory<'v, E>,
}

impl<E: Element> Arenas<E> {
    pub fn new(sizes: Sizes) -> Self {
        Arenas { floats: Aligned::new(E::ZERO, sizes.floats), ints: Aligned::new(0, sizes.ints) }
    }

    /// Of nothing.
    pub fn empty() -> Self {
        Arenas::new(Sizes { floats: 0, ints: 0 })
    }

    pub fn sizes(&self) -> Sizes {
        Sizes { floats: self.floats.len(), ints: self.ints.len() }
    }
}

impl Sizes {
    pub fn of(plan: &Plan) -> Self {
        Sizes { floats: plan.floats, ints: plan.ints }
    }

    /// Those, or what `other` has more.
    pub fn or_more(self, other: Sizes) -> Self {
        Sizes { floats: self.floats.max(other.floats), ints: self.ints.max(other.ints) }
    }

    pub fn bytes<E>(self) -> usize {
        let parts = [(self.floats, size_of::<E>()), (self.ints, size_of::<i64>())];
        parts.iter().fold(0, |sum: usize, (len, size)| sum.saturating_add(len.saturating_mul(*size)))
    }
}

impl<'m, E> Memory<'m, E> {
    pub fn new(params: &'m [E], gradients: &'m mut [E], arenas: &'m mut Arenas<E>) -> Self {
        let Arenas { floats, ints } = arenas;
        Memory {
            params: (params.as_ptr(), params.len()),
            gradients: (gradients.as_mut_ptr(), gradients.len()),
            floats: (floats.as_mut_ptr(), floats.len()),
            ints: (ints.as_mut_ptr(), ints.len()),
            borrowed: PhantomData,
        }
    }

    fn floats_at(&self, place: Place) -> *const E {
        let (first, len) = match place.space {
            Space::Params => self.params,
            Space::Gradients => (self.gradients.0.cast_const(), self.gradients.1),
            Space::Floats => (self.floats.0.cast_const(), self.floats.1),
            Space::Halves | Space::SpareHalves | Space::Ints => panic!("{place} holds no floats"),
        };
        assert!(place.start + place.len <= len, "{place} lies outside its arena of {len}");
        first.wrapping_add(place.start)
    }

    fn halves_at(&self, place: Place) -> *mut bf16 {
        let ((first, len), from) = match place.space {
            Space::Halves => (self.floats, 0),
            Space::SpareHalves => (self.gradients, self.gradients.0.align_offset(LINE * size_of::<f32>())),
            _ => panic!("{place} holds no numbers of bf16"),
        };
        let from = from.min(len);
        // A float has room for two at least.
        let len = (len - from) * (size_of::<E>() / size_of::<bf16>());
        assert!(place.start + place.len <= len, "{place} lies outside its arena of {len}");
        first.wrapping_add(from).cast::<bf16>().wrapping_add(place.start)
    }

    fn ids_at(&self, place: Place) -> *mut i64 {
        assert!(place.space == Space::Ints, "{place} holds no ids");
        assert!(place.start + place.len <= self.ints.1, "{place} lies outside its arena of {}", self.ints.1);
        self.ints.0.wrapping_add(place.start)
    }

    fn floats_at_mut(&mut self, place: Place) -> *mut E {
        assert!(place.space != Space::Params, "a run writes no parameter");
        self.floats_at(place).cast_mut()
    }

    /// The floats of a place.
    pub fn floats(&self, place: Place) -> &[E] {
        // SAFETY: `floats_at` has checked that the place lies within an arena borrowed for `'m`; mutable slices come only
        // from `&mut self`, so none is alive.
        unsafe { std::slice::from_raw_parts(self.floats_at(place), place.len) }
    }

    /// The numbers of a place, however they are stored.
    pub fn numbers(&self, place: Place) -> Numbers<'_, E> {
        match place.space {
            space if space.is_halves() => {
                // SAFETY: as in `floats`, by `halves_at`; what floats have left there are numbers of bf16 too, as any bits are.
                Numbers::Halves(unsafe { std::slice::from_raw_parts(self.halves_at(place), place.len) })
            }
            _ => Numbers::Full(self.floats(place)),
        }
    }

    pub fn ids(&self, place: Place) -> &[i64] {
        // SAFETY: as in `floats`.
        unsafe { std::slice::from_raw_parts(self.ids_at(place), place.len) }
    }

    /// What `step` reads and writes. `plan::verify` has refused plans where what a step writes overlaps what it reads, but for
    /// the operand that it replaces; it is looked at here once more since what is unsafe below rests on it, and panics.
    pub fn views<'v>(&'v mut self, step: &'v Step) -> Views<'v, E> {
        for (i, read) in step.reads.iter().enumerate() {
            let replaced = step.in_place == Some(i) && *read == step.writes;
            assert!(replaced || !read.overlaps(&step.writes), "a step writes {} and reads {read}", step.writes);
            assert!(!read.overlaps(&step.scratch), "a step works in {} and reads {read}", step.scratch);
        }
        assert!(!step.scratch.overlaps(&step.writes), "a step works in {} and writes it", step.scratch);
        let nothing = |space| Place { space, start: 0, len: 0 };
        let [mut out, mut halves, mut ids] = [Space::Floats, Space::Halves, Space::Ints].map(nothing);
        *match step.writes.space {
            Space::Params | Space::Gradients | Space::Floats => &mut out,
            Space::Halves | Space::SpareHalves => &mut halves,
            Space::Ints => &mut ids,
        } = step.writes;
        let (out_at, halves_at, ids_at, scratch_at) =
            (self.floats_at_mut(out), self.halves_at(halves), self.ids_at(ids), self.floats_at_mut(step.scratch));
        // SAFETY: all four were checked to lie within arenas that `self` holds mutably, and above not to overlap; `views`
        // holds `self` mutably for as long as they live. Reads go through `Memory::numbers`, which gives out no place that was
        // found to overlap one of them.
        unsafe {
            Views {
                out: std::slice::from_raw_parts_mut(out_at, out.len),
                out_halves: std::slice::from_raw_parts_mut(halves_at, halves.len),
                out_ids: std::slice::from_raw_parts_mut(ids_at, ids.len),
                scratch: std::slice::from_raw_parts_mut(scratch_at, step.scratch.len),
                reads: &step.reads,
                in_place: step.in_place,
                memory: self,
            }
        }
    }

    /// Copies one place to another that does not overlap it.
    pub fn copy(&mut self, from: Place, to: Place)
    where
        E: Copy,
    {
        assert!(!from.overlaps(&to) && from.len == to.len, "{from} is copied to {to}");
        let target = self.floats_at_mut(to);
        // SAFETY: both lie within their arenas and do not overlap, as was checked.
        unsafe { std::ptr::copy_nonoverlapping(self.floats_at(from), target, to.len) }
    }

    pub fn fill(&mut self, place: Place, value: E)
    where
        E: Copy,
    {
        let target = self.floats_at_mut(place);
        // SAFETY: the place lies within an arena that `self` holds mutably.
        unsafe { std::slice::from_raw_parts_mut(target, place.len) }.fill(value);
    }
}

impl<'v, E> Views<'v, E> {
    /// Operand `i`; `None` where it lies where the step writes, and is there still.
    pub fn apart(&self, i: usize) -> Option<Numbers<'v, E>> {
        (self.in_place != Some(i)).then(|| self.memory.numbers(self.reads[i]))
    }

    /// Operand `i` of a step that does not work in place, however it is stored.
    pub fn numbers(&self, i: usize) -> Numbers<'v, E> {
        self.apart(i).expect("only element-wise steps write over an operand")
    }

    /// Operand `i` of a step that does not work in place, stored in full.
    pub fn read(&self, i: usize) -> &'v [E] {
        assert!(self.in_place != Some(i), "only element-wise steps write over an operand");
        self.memory.floats(self.reads[i])
    }

    pub fn ids(&self, i: usize) -> &'v [i64] {
        self.memory.ids(self.reads[i])
    }

    /// Whether operand `i` is ids.
    pub fn is_ids(&self, i: usize) -> bool {
        self.reads[i].space == Space::Ints
    }
}

/// Run by Miri too: see `.ci/miri`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ValueId;
    use crate::plan::Work;

    fn place(space: Space, start: usize, len: usize) -> Place {
        Place { space, start, len }
    }

    fn step(reads: &[Place], writes: Place, scratch: Place, in_place: Option<usize>) -> Step {
        let reads = reads.to_vec();
        Step { node: ValueId(0), work: Work::Op, reads, writes, scratch, in_place, bf16: false, once: false }
    }

    const NOTHING: Place = Place { space: Space::Floats, start: 0, len: 0 };

    /// Calls `work` on arenas of 4 parameters (1, 2, 3, 4), 4 gradients and 8 floats that are 0, and 4 ids, and gives
    /// what is left in those of gradients, floats and ids.
    fn on_arenas(work: impl FnOnce(&mut Memory<f32>)) -> (Vec<f32>, Vec<f32>, Vec<i64>) {
        let params = [1.0, 2.0, 3.0, 4.0];
        let (mut gradients, mut arenas) = (vec![0.0; 4], Arenas::new(Sizes { floats: 8, ints: 4 }));
        work(&mut Memory::new(&params, &mut gradients, &mut arenas));
        (gradients, arenas.floats.to_vec(), arenas.ints.to_vec())
    }

    /// Two reads, a result and scratch in one arena and beside it, all alive at once.
    #[test]
    fn a_step_reads_and_writes_beside_itself() {
        let (gradients, floats, ints) = on_arenas(|memory| {
            let first =
                step(&[place(Space::Params, 1, 3)], place(Space::Floats, 0, 3), place(Space::Floats, 4, 2), None);
            let Views { out, scratch, .. } = {
                let views = memory.views(&first);
                views.scratch.copy_from_slice(&views.read(0)[..2]);
                views.out.copy_from_slice(views.read(0));
                views
            };
            scratch[0] += out[2];
            let second = step(
                &[place(Space::Floats, 0, 3), place(Space::Floats, 4, 2)],
                place(Space::Gradients, 1, 2),
                NOTHING,
                None,
            );
            let views = memory.views(&second);
            let (a, b) = (views.read(0), views.read(1));
            views.out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a * b);
            let ids = step(&[place(Space::Gradients, 1, 2)], place(Space::Ints, 2, 2), NOTHING, None);
            let views = memory.views(&ids);
            assert!(!views.is_ids(0) && views.out.is_empty());
            let read = views.read(0);
            views.out_ids.iter_mut().zip(read).for_each(|(id, value)| *id = *value as i64);
            assert_eq!(memory.ids(place(Space::Ints, 2, 2)), [12, 9]);
        });
        assert_eq!((gradients, ints), (vec![0.0, 12.0, 9.0, 0.0], vec![0, 0, 12, 9]));
        assert_eq!(floats, [2.0, 3.0, 4.0, 0.0, 6.0, 3.0, 0.0, 0.0]);
    }

    #[test]
    fn an_operand_in_place_is_there_still() {
        let (_, floats, _) = on_arenas(|memory| {
            memory.fill(place(Space::Floats, 2, 3), 2.0);
            let at = place(Space::Floats, 2, 3);
            let square = step(&[at, place(Space::Params, 0, 3)], at, NOTHING, Some(0));
            let views = memory.views(&square);
            assert!(views.apart(0).is_none());
            let Some(Numbers::Full(other)) = views.apart(1) else { panic!("it lies apart, in full") };
            views.out.iter_mut().zip(other).for_each(|(out, x)| *out *= *x);
            memory.copy(at, place(Space::Floats, 5, 3));
        });
        assert_eq!(floats, [0.0, 0.0, 2.0, 4.0, 6.0, 2.0, 4.0, 6.0]);
    }

    /// Written by one step, read by the next.
    #[test]
    fn numbers_of_bf16_lie_where_floats_could() {
        let (_, floats, _) = on_arenas(|memory| {
            let narrowed = step(&[place(Space::Params, 0, 3)], place(Space::Halves, 1, 3), NOTHING, None);
            let views = memory.views(&narrowed);
            assert!(views.out.is_empty() && views.out_ids.is_empty());
            let from = views.read(0);
            views.out_halves.iter_mut().zip(from).for_each(|(out, x)| *out = bf16::from_f32(*x * 0.5));
            let widened = step(&[place(Space::Halves, 2, 2)], place(Space::Floats, 4, 2), NOTHING, None);
            let views = memory.views(&widened);
            let Numbers::Halves(from) = views.numbers(0) else { panic!("they lie in bf16") };
            views.out.iter_mut().zip(from).for_each(|(out, x)| *out = x.to_f32());
        });
        assert_eq!(floats[2..], [0.0, 0.0, 1.0, 1.5, 0.0, 0.0]);
    }

    /// From the first cache line on, whichever float of it the gradients begin with; beside them a gradient.
    #[test]
    fn numbers_of_bf16_lie_in_gradients_that_are_not_written_yet() {
        let params = [1.5, -2.0, 3.0];
        let mut arenas = Arenas::new(Sizes { floats: 4, ints: 0 });
        for first in 0..LINE {
            let mut gradients = vec![0.0; first + 3 * LINE];
            let mut memory = Memory::new(&params, &mut gradients[first..], &mut arenas);
            let spare = place(Space::SpareHalves, 0, 3);
            let narrowed = step(&[place(Space::Params, 0, 3)], spare, NOTHING, None);
            let views = memory.views(&narrowed);
            let from = views.read(0);
            views.out_halves.iter_mut().zip(from).for_each(|(out, x)| *out = bf16::from_f32(*x));
            assert!(views.out_halves.as_ptr().addr().is_multiple_of(4 * LINE));
            let widened = step(&[spare], place(Space::Gradients, spare.lies().end, 3), NOTHING, None);
            let views = memory.views(&widened);
            let Numbers::Halves(from) = views.numbers(0) else { panic!("they lie in bf16") };
            views.out.iter_mut().zip(from).for_each(|(out, x)| *out = x.to_f32());
            assert_eq!(gradients[first + spare.lies().end..][..3], params);
        }
    }

    /// What a step may not be: all are refused before a slice of them is made.
    #[test]
    fn places_that_overlap_or_lie_outside_are_refused() {
        let (low, high) = (place(Space::Floats, 0, 4), place(Space::Floats, 3, 4));
        for wrong in [
            step(&[high], low, NOTHING, None),
            step(&[low, high], low, NOTHING, Some(0)),
            step(&[low], place(Space::Floats, 4, 2), high, None),
            step(&[], low, high, None),
            step(&[], place(Space::Floats, 6, 3), NOTHING, None),
            step(&[], place(Space::Halves, 14, 3), NOTHING, None),
            step(&[place(Space::Halves, 0, 4)], place(Space::Floats, 1, 2), NOTHING, None),
            step(&[], place(Space::Params, 0, 1), NOTHING, None),
            step(&[], place(Space::Gradients, 4, 1), NOTHING, None),
        ] {
            let found = std::panic::catch_unwind(|| {
                on_arenas(|memory| {
                    memory.views(&wrong);
                });
            });
            assert!(found.is_err(), "{wrong:?}");
        }
    }
}
