//! The arenas of a run, and what a step sees of them.
#![allow(unsafe_code, reason = "a step reads and writes disjoint parts of one arena, which slices cannot say")]

use std::marker::PhantomData;

use crate::plan::{Place, Space, Step};

/// Arenas by their first element. What they point to is borrowed for `'m`.
pub(super) struct Memory<'m, E> {
    params: (*const E, usize),
    gradients: (*mut E, usize),
    floats: (*mut E, usize),
    ints: (*mut i64, usize),
    borrowed: PhantomData<(&'m [E], &'m mut [E], &'m mut [i64])>,
}

/// The places of one step, in the arenas.
pub(super) struct Views<'v, E> {
    /// Empty where the step writes ids.
    pub out: &'v mut [E],
    /// Empty where the step writes floats.
    pub out_ids: &'v mut [i64],
    pub scratch: &'v mut [E],
    reads: &'v [Place],
    in_place: Option<usize>,
    memory: &'v Memory<'v, E>,
}

impl<'m, E> Memory<'m, E> {
    pub fn new(params: &'m [E], gradients: &'m mut [E], floats: &'m mut [E], ints: &'m mut [i64]) -> Self {
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
            Space::Ints => panic!("ids stand where floats are wanted"),
        };
        assert!(place.start + place.len <= len, "{place} lies outside its arena of {len}");
        first.wrapping_add(place.start)
    }

    fn ids_at(&self, place: Place) -> *mut i64 {
        assert!(place.space == Space::Ints, "floats stand where ids are wanted");
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

    pub fn ids(&self, place: Place) -> &[i64] {
        // SAFETY: as in `floats`.
        unsafe { std::slice::from_raw_parts(self.ids_at(place), place.len) }
    }

    /// What `step` reads and writes. Panics where what it writes overlaps what it reads, but for the operand that it
    /// replaces.
    pub fn views<'v>(&'v mut self, step: &'v Step) -> Views<'v, E> {
        for (i, read) in step.reads.iter().enumerate() {
            let replaced = step.in_place == Some(i) && *read == step.writes;
            assert!(replaced || !read.overlaps(&step.writes), "a step writes {} and reads {read}", step.writes);
            assert!(!read.overlaps(&step.scratch), "a step works in {} and reads {read}", step.scratch);
        }
        assert!(!step.scratch.overlaps(&step.writes), "a step works in {} and writes it", step.scratch);
        let nothing = Place { space: Space::Floats, start: 0, len: 0 };
        let (out, ids) = match step.writes.space {
            Space::Ints => (nothing, step.writes),
            _ => (step.writes, Place { space: Space::Ints, start: 0, len: 0 }),
        };
        let (out_at, ids_at, scratch_at) =
            (self.floats_at_mut(out), self.ids_at(ids), self.floats_at_mut(step.scratch));
        // SAFETY: all three were checked to lie within arenas that `self` holds mutably, and above not to overlap; `views`
        // holds `self` mutably for as long as they live. Reads go through `Views::floats`, which gives out no place that was
        // found to overlap one of them.
        unsafe {
            Views {
                out: std::slice::from_raw_parts_mut(out_at, out.len),
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
    pub fn apart(&self, i: usize) -> Option<&'v [E]> {
        (self.in_place != Some(i)).then(|| self.memory.floats(self.reads[i]))
    }

    /// Operand `i` of a step that does not work in place.
    pub fn read(&self, i: usize) -> &'v [E] {
        self.apart(i).expect("only element-wise steps write over an operand")
    }

    pub fn ids(&self, i: usize) -> &'v [i64] {
        self.memory.ids(self.reads[i])
    }

    /// Whether operand `i` is ids.
    pub fn is_ids(&self, i: usize) -> bool {
        self.reads[i].space == Space::Ints
    }
}
