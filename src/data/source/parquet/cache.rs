//! Pages that were unpacked lately: a picture's neighbours lie in its page, and are often asked for soon.
//!
//! **Invariant:** pages take [`BUDGET`] at most, beside those that threads read at the moment; threads that want one page at the same
//! time unpack it once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use parquet::column::page::Page;

/// Bytes of pages that are kept.
pub const BUDGET: usize = 256 << 20;

/// What a page counts at the least: its place in the tables.
const LEAST: usize = 1 << 10;

/// A row group, and the page in it; the dictionary of the group where it is `None`.
pub type Key = (u32, Option<u32>);

type Slot = Arc<OnceLock<Result<Page, String>>>;

#[derive(Default)]
pub struct Cache(Mutex<Held>);

#[derive(Default)]
struct Held {
    slots: HashMap<Key, (Slot, usize)>,
    /// The one that was asked for first is given up first.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    /// The page `key`, of `size` bytes, which `load` makes where it is not there.
    pub fn page(&self, key: Key, size: usize, load: impl FnOnce() -> Result<Page, String>) -> Result<Page, String> {
        if size > BUDGET {
            return load();
        }
        let page = self.slot(key, size).get_or_init(load).clone();
        if page.is_err() {
            // A disk may answer the next time.
            let mut held = self.held();
            held.order.retain(|known| *known != key);
            held.forget(key);
        }
        page
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, key: Key, size: usize) -> Slot {
        let size = size.max(LEAST);
        let mut held = self.held();
        if let Some((slot, _)) = held.slots.get(&key) {
            return slot.clone();
        }
        while held.bytes + size > BUDGET {
            let Some(first) = held.order.pop_front() else { break };
            held.forget(first);
        }
        let slot = Slot::default();
        held.slots.insert(key, (slot.clone(), size));
        held.order.push_back(key);
        held.bytes += size;
        slot
    }
}

impl Held {
    fn forget(&mut self, key: Key) {
        if let Some((_, size)) = self.slots.remove(&key) {
            self.bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Result<Page, String> {
        Ok(Page::DictionaryPage {
            buf: vec![byte].into(),
            num_values: 1,
            encoding: parquet::basic::Encoding::PLAIN,
            is_sorted: false,
        })
    }

    #[test]
    fn pages_are_kept_within_the_budget_and_failures_are_not() {
        let cache = Cache::default();
        let byte = |key, size, byte| cache.page(key, size, || page(byte)).map(|page| page.buffer()[0]);
        let third = BUDGET / 3;
        for number in 0..3 {
            assert_eq!(byte((number, None), third, number as u8), Ok(number as u8));
        }
        assert_eq!(byte((0, None), third, 9), Ok(0), "it is kept");
        assert_eq!(byte((3, Some(0)), third, 3), Ok(3));
        assert_eq!(byte((0, None), third, 9), Ok(9), "it made room");
        let held = cache.held();
        assert!(held.bytes <= BUDGET && held.order.len() == held.slots.len());
        drop(held);
        assert_eq!(byte((7, None), BUDGET + 1, 7), Ok(7));
        assert!(!cache.held().slots.contains_key(&(7, None)), "it is larger than all of it");
        let failed = cache.page((8, None), 1, || Err("gone".to_owned()));
        assert!(failed.is_err() && byte((8, None), 1, 8) == Ok(8), "it is tried again");
    }
}
