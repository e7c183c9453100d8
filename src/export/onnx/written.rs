//! A graph of ONNX as it is put together: nodes, constants, and sizes that hang on the batch.
//!
//! Before: [`super::lower`] says which operators make a value. After: the graph's messages.
//!
//! **Invariant:** nodes stand in the order in which they are made, and read what stands before them.

use std::collections::{HashMap, HashSet};

use super::proto::{Attribute, Entry, Node, Tensor};
use crate::op::Type;

/// Name of the pictures, as transformers has it, and of the dimension that may be any.
pub const PICTURES: &str = "pixel_values";
pub const BATCH: &str = "batch";

/// One size of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Fixed(usize),
    /// So many for each sample.
    Each(usize),
}

/// The sizes of a value of type `ty` that holds the samples along `axis`, of which the graph was made for `samples`.
pub fn sizes(ty: &Type, axis: Option<usize>, samples: usize) -> Vec<Size> {
    let size = |(at, size): (usize, &usize)| match Some(at) == axis {
        true => Size::Each(size / samples.max(1)),
        false => Size::Fixed(*size),
    };
    ty.shape.iter().enumerate().map(size).collect()
}

#[derive(Debug, Default)]
pub struct Written {
    pub nodes: Vec<Node>,
    pub constants: Vec<Tensor>,
    /// Names of whole numbers and of numbers that are there already.
    known: HashMap<String, String>,
    names: HashSet<String>,
    /// Where the value that is made comes from, and its name.
    scope: String,
    value: String,
    parts: usize,
}

impl Written {
    /// What is made from here on is the value `value`, or leads to it.
    pub fn begin(&mut self, scope: &str, value: &str) {
        (self.scope, self.value, self.parts) = (scope.to_owned(), value.to_owned(), 0);
    }

    /// A name within the value that is made.
    fn part(&mut self) -> String {
        self.parts += 1;
        format!("{}.{}", self.value, self.parts)
    }

    /// Adds a node that leads to the value, and gives the name of what it makes.
    pub fn step(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let name = self.part();
        self.node(op, inputs, &name, attributes);
        name
    }

    /// Adds the node that makes the value.
    pub fn last(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) {
        let name = self.value.clone();
        self.node(op, inputs, &name, attributes);
    }

    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) {
        // A name of its own, that says where it is from.
        let scope = if self.scope.is_empty() { String::new() } else { format!("{}/", self.scope) };
        self.nodes.push(Node {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("{scope}{op}/{}", self.nodes.len())),
            op_type: Some(op.to_owned()),
            attribute,
        });
    }

    /// The name of a constant of one axis.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let name = format!("ints/{}", values.iter().map(i64::to_string).collect::<Vec<_>>().join(","));
        self.constant(&name, |name| Tensor::ints(name, &[values.len()], values.iter().copied()))
    }

    /// The name of a whole number.
    pub fn int(&mut self, value: i64) -> String {
        self.constant(&format!("int/{value}"), |name| Tensor::ints(name, &[], [value]))
    }

    /// The name of a number.
    pub fn float(&mut self, value: f64) -> String {
        self.constant(&format!("float/{value:?}"), |name| Tensor::floats(name, &[], [value as f32]))
    }

    /// The name of `[size]` ones.
    pub fn ones(&mut self, size: usize) -> String {
        self.constant(&format!("ones/{size}"), |name| Tensor::floats(name, &[size], vec![1.0; size]))
    }

    fn constant(&mut self, key: &str, make: impl FnOnce(&str) -> Tensor) -> String {
        if let Some(name) = self.known.get(key) {
            return name.clone();
        }
        let name = key.to_owned();
        self.constants.push(make(&name));
        self.known.insert(key.to_owned(), name.clone());
        name
    }

    /// A constant by a name of its own, such as a parameter's; it is there once.
    pub fn named(&mut self, name: &str, make: impl FnOnce(&str) -> Tensor) {
        if self.names.insert(name.to_owned()) {
            self.constants.push(make(name));
        }
    }

    /// The name of a shape for `Reshape`, which makes out one size by itself.
    pub fn reshaped(&mut self, sizes: &[Size]) -> String {
        let numbers: Vec<i64> =
            sizes.iter().map(|size| if let Size::Fixed(n) = size { *n as i64 } else { -1 }).collect();
        self.ints(&numbers)
    }

    /// The name of a shape for `Expand`, which is told all.
    pub fn shape(&mut self, sizes: &[Size]) -> String {
        if sizes.iter().all(|size| matches!(size, Size::Fixed(_))) {
            return self.reshaped(sizes);
        }
        let mut parts = Vec::new();
        let mut fixed: Vec<i64> = Vec::new();
        for size in sizes {
            match size {
                Size::Fixed(n) => fixed.push(*n as i64),
                Size::Each(each) => {
                    if !fixed.is_empty() {
                        parts.push(self.ints(&std::mem::take(&mut fixed)));
                    }
                    let batch = self.batch();
                    parts.push(match each {
                        1 => batch,
                        each => {
                            let each = self.ints(&[*each as i64]);
                            self.step("Mul", &[&batch, &each], Vec::new())
                        }
                    });
                }
            }
        }
        if !fixed.is_empty() {
            parts.push(self.ints(&fixed));
        }
        match parts.len() {
            1 => parts.remove(0),
            _ => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.step("Concat", &parts, vec![Attribute::int("axis", 0)])
            }
        }
    }

    /// The name of `[samples]`, which the pictures tell.
    fn batch(&mut self) -> String {
        if !self.known.contains_key(BATCH) {
            let ends = vec![Attribute::int("start", 0), Attribute::int("end", 1)];
            self.node("Shape", &[PICTURES], BATCH, ends);
            self.known.insert(BATCH.to_owned(), BATCH.to_owned());
        }
        BATCH.to_owned()
    }
}

/// A text for whoever reads the file.
pub fn entry(key: &str, value: impl Into<String>) -> Entry {
    Entry { key: Some(key.to_owned()), value: Some(value.into()) }
}
