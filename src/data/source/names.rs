//! Names of files that lie side by side, one behind the other in memory: of a million of them each costs its bytes and eight more.
//!
//! **Invariant:** sorted names stand in the order of their bytes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    text: String,
    /// Where each ends in `text`.
    ends: Vec<usize>,
    /// Those that are no Unicode, by number; they have no bytes in `text`.
    others: BTreeMap<usize, OsString>,
}

impl Names {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Puts a name behind the others.
    pub fn push(&mut self, name: &OsStr) {
        match name.to_str() {
            Some(name) => self.text.push_str(name),
            None => drop(self.others.insert(self.ends.len(), name.to_owned())),
        }
        self.ends.push(self.text.len());
    }

    /// # Panics
    /// Where there are not as many.
    pub fn get(&self, index: usize) -> &OsStr {
        match self.others.get(&index) {
            Some(name) => name,
            None => {
                let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
                OsStr::new(&self.text[begin..self.ends[index]])
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &OsStr> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The same names in order.
    pub fn sorted(&self) -> Names {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by(|a, b| self.get(*a).cmp(self.get(*b)));
        let mut sorted = Names {
            text: String::with_capacity(self.text.len()),
            ends: Vec::with_capacity(self.len()),
            ..Names::default()
        };
        order.into_iter().for_each(|index| sorted.push(self.get(index)));
        sorted
    }

    /// Whether `name` is among sorted names.
    pub fn holds(&self, name: &OsStr) -> bool {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }

    /// Whether all are Unicode.
    pub fn are_text(&self) -> bool {
        self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_sorted_and_found() {
        let mut names = Names::default();
        for name in ["b", "ä", "", "a10", "a9"] {
            names.push(OsStr::new(name));
        }
        #[cfg(unix)]
        names.push(std::os::unix::ffi::OsStrExt::from_bytes(b"b\xff".as_slice()));
        let sorted = names.sorted();
        let mut expected: Vec<OsString> = names.iter().map(OsStr::to_owned).collect();
        expected.sort();
        assert!(sorted.iter().eq(expected.iter()), "{sorted:?}");
        assert!(expected.iter().all(|name| sorted.holds(name)));
        assert!(!sorted.holds(OsStr::new("a")) && !sorted.holds(OsStr::new("z")));
        assert_eq!(sorted.are_text(), cfg!(not(unix)));
    }
}
