//! The buffer that a thread decodes into, again and again: that of a photo is a few thousand pages of memory, which the system
//! would have to clear for each.
//!
//! **Invariant:** what is given back is of this thread alone, and never more than [`KEPT`] bytes.

use std::cell::RefCell;

use crate::data::Image;

/// Bytes that a thread keeps at most: a photo of 22 Mpixels.
const KEPT: usize = 1 << 26;

thread_local! {
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `len` zeros: nothing of one picture may be seen in another, whatever a decoder leaves out.
pub(super) fn take(len: usize) -> Vec<u8> {
    let mut bytes = SPARE.take();
    if bytes.capacity() < len {
        return vec![0; len];
    }
    bytes.clear();
    bytes.resize(len, 0);
    bytes
}

/// Takes back the pixels of a picture that nobody needs any more, for the next one that this thread decodes.
pub fn give_back(image: Image) {
    let kept = SPARE.with_borrow(Vec::capacity);
    if (kept + 1..=KEPT).contains(&image.data.capacity()) {
        SPARE.set(image.data);
    }
}
