//! Which pictures of which sources are looked at.
//!
//! Before: `data` has opened the sources. After: [`super::judge`] goes over what is chosen here.
//!
//! **Invariant:** the same pictures are chosen whatever a run's seed is, so that runs are judged alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::quality::Taken;
use crate::data::evaluation::some_of;
use crate::data::source::{Identity, Source};
use crate::spec::{Evaluation, Judging, Limit};

/// A source, and what messages call it: `data.val`, or a path.
#[derive(Clone)]
pub struct Named {
    pub name: String,
    pub source: Arc<dyn Source>,
}

/// Which pictures an evaluation takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taking {
    pub bank: (String, Limit),
    /// Whether of less than all as many are taken of each class.
    pub of_each_class: bool,
    pub queries: (String, Limit),
    pub baseline: Limit,
}

impl Taking {
    pub fn of(evaluation: &Evaluation) -> Taking {
        match &evaluation.how {
            Judging::Knn(spec) => Taking {
                bank: (spec.bank.clone(), spec.bank_limit),
                of_each_class: false,
                queries: (spec.queries.clone(), spec.query_limit),
                baseline: spec.baseline_limit,
            },
            Judging::Linear(spec) => Taking {
                bank: (spec.train.clone(), spec.train_limit),
                of_each_class: !spec.train_limit.is_all(),
                queries: (spec.val.clone(), spec.val_limit),
                baseline: spec.baseline_limit,
            },
        }
    }
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

    /// `limit` of all, as many of each class as of any other: what a class lacks, the others give. Known by `name`.
    pub fn of_each_class(named: Named, limit: Limit, name: &str) -> Chosen {
        let mut of_class: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for image in 0..named.source.len() {
            of_class.entry(named.source.label(image).unwrap_or(-1)).or_default().push(image);
        }
        // From the smallest class on, so that what it lacks is known when the next has its share; by label among equals.
        let mut classes: Vec<(i64, Vec<usize>)> = of_class.into_iter().collect();
        classes.sort_by_key(|(label, images)| (images.len(), *label));
        let mut missing = limit.of(named.source.len());
        let mut chosen = Vec::new();
        let count = classes.len();
        for (at, (label, images)) in classes.into_iter().enumerate() {
            // Rounded up, so that as many as are asked for are found; rounded down at the end by what is left.
            let share = missing.div_ceil(count - at).min(images.len());
            missing -= share;
            let places = some_of(images.len(), share, &format!("{name}.{label}"));
            chosen.extend(places.into_iter().map(|place| images[place]));
        }
        chosen.sort_unstable();
        Chosen { images: chosen.into(), named }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::open;
    use crate::spec::{MAX_PIXELS, SourceSpec};

    #[test]
    fn each_class_gives_as_many_as_it_has() {
        let spec = SourceSpec::Digits { split: "train".to_owned() };
        let source = open(&spec, 1, MAX_PIXELS).expect("it is embedded");
        let taken = |count: usize| {
            let named = Named { name: "digits".to_owned(), source: source.clone() };
            let chosen = Chosen::of_each_class(named, Limit::Count(count), "test");
            let mut of_class = vec![0; source.classes().len()];
            chosen.images.iter().for_each(|image| of_class[source.label(*image).expect("it has labels") as usize] += 1);
            (chosen.images, of_class)
        };
        let (images, of_class) = taken(100);
        assert_eq!(of_class, [10; 10]);
        assert!(images.windows(2).all(|pair| pair[0] < pair[1]), "in the order of the source, none twice");
        assert_eq!(images, taken(100).0);
        let (images, of_class) = taken(95);
        assert!(images.len() == 95 && of_class.iter().all(|count| [9, 10].contains(count)), "{of_class:?}");
        // Where classes have too few, the others give.
        let all = source.len();
        assert_eq!(taken(all - 5).0.len(), all - 5);
        assert_eq!(taken(all).0.len(), all);
    }
}
