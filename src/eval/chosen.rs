//! Which pictures of which sources are looked at.
//!
//! Before: `data` has opened the sources. After: [`super::judge`] goes over what is chosen here.
//!
//! **Invariant:** the same pictures are chosen whatever a run's seed is, so that runs are judged alike.

use std::sync::Arc;

use super::quality::Taken;
use crate::data::evaluation::some_of;
use crate::data::source::{Identity, Source};
use crate::spec::Limit;

/// A source, and what messages call it: `data.val`, or a path.
#[derive(Clone)]
pub struct Named {
    pub name: String,
    pub source: Arc<dyn Source>,
}

/// Pictures of a source that are looked at.
#[derive(Clone)]
pub(super) struct Chosen {
    pub named: Named,
    pub images: Arc<[usize]>,
}

impl Chosen {
    /// `limit` of all, known by `name`.
    pub fn new(named: Named, limit: Limit, name: &str) -> Chosen {
        let all = named.source.len();
        Chosen { images: some_of(all, limit.of(all), name).into(), named }
    }

    /// `limit` of these.
    pub fn some(&self, limit: Limit, name: &str) -> Chosen {
        let places = some_of(self.images.len(), limit.of(self.images.len()), name);
        Chosen { named: self.named.clone(), images: places.into_iter().map(|place| self.images[place]).collect() }
    }

    pub fn taken(&self) -> Taken {
        Taken { pictures: self.images.len(), of: self.named.source.len() }
    }

    pub fn identities(&self, all: &[Identity]) -> Vec<Identity> {
        self.images.iter().map(|image| all[*image]).collect()
    }
}
