//! The text of a program: values, types, operations with attributes and regions, and where each comes from.
//!
//! Text is the generic form of MLIR: every op in quotes, its attributes in `<{…}>`, its types last. A plugin reads it whatever
//! version of StableHLO it was built with, as long as it knows the ops.
//!
//! **Invariant:** no name is given twice in a function, its regions included, so that a region may read the values around it.

use std::fmt::{self, Display, Write};
use std::mem;

use super::kernels::Kernels;

/// What a tensor's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    F32,
    F64,
    Bf16,
    I64,
    /// What devices are counted in.
    U32,
    /// Bytes of a compiler's own.
    U8,
    /// Truth.
    I1,
}

impl Scalar {
    pub fn name(self) -> &'static str {
        match self {
            Scalar::F32 => "f32",
            Scalar::F64 => "f64",
            Scalar::Bf16 => "bf16",
            Scalar::I64 => "i64",
            Scalar::U32 => "ui32",
            Scalar::U8 => "ui8",
            Scalar::I1 => "i1",
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Scalar::F32 | Scalar::F64 | Scalar::Bf16)
    }
}

/// `tensor<2x3xf32>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    pub shape: Vec<usize>,
    pub scalar: Scalar,
}

impl TensorType {
    pub fn new(shape: impl Into<Vec<usize>>, scalar: Scalar) -> Self {
        TensorType { shape: shape.into(), scalar }
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        self.shape.iter().try_for_each(|size| write!(f, "{size}x"))?;
        write!(f, "{}>", self.scalar.name())
    }
}

/// How the text calls a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    /// `%arg2`.
    Argument(usize),
    /// `%7`.
    One(usize),
    /// `%7#1`: of an op with several results.
    Part(usize, usize),
}

/// A value of a function: a name and a type. Cheap to copy; it belongs to the function that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    name: Name,
    pub ty: TensorType,
}

impl Value {
    pub fn shape(&self) -> &[usize] {
        &self.ty.shape
    }

    pub fn rank(&self) -> usize {
        self.ty.shape.len()
    }

    pub fn scalar(&self) -> Scalar {
        self.ty.scalar
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Name::Argument(index) => write!(f, "%arg{index}"),
            Name::One(number) => write!(f, "%{number}"),
            Name::Part(number, part) => write!(f, "%{number}#{part}"),
        }
    }
}

/// The text of a region with its arguments, ready to stand in an op.
#[derive(Debug, Clone)]
pub struct Region(String);

/// The function `@main` of a module, as it grows.
#[derive(Debug, Default)]
pub struct Function {
    body: String,
    /// Regions around the op at hand.
    depth: usize,
    names: usize,
    /// Exchanges between ranks so far, each of which has a number.
    pub(super) channels: usize,
    /// Of each argument its type, and the result that takes its memory.
    arguments: Vec<(TensorType, Option<usize>)>,
    /// ` loc("encoder.norm")`, or nothing.
    location: String,
    /// What ops may be written as.
    pub(super) kernels: Kernels,
}

impl Function {
    pub fn new() -> Self {
        Function::default()
    }

    /// One for a compiler that has these of its own.
    pub fn with(kernels: Kernels) -> Self {
        Function { kernels, ..Function::default() }
    }

    /// One more argument, behind all others. It must be passed even where nothing reads it.
    pub fn argument(&mut self, ty: TensorType) -> Value {
        let index = self.arguments.len();
        self.arguments.push((ty.clone(), None));
        Value { name: Name::Argument(index), ty }
    }

    /// Result `result` takes the memory of `argument`, which no longer holds anything after a run. Both are of one type, and no
    /// other argument is given to that result.
    pub fn donate(&mut self, argument: &Value, result: usize) {
        let Name::Argument(index) = argument.name else { unreachable!("{argument} is no argument of the function") };
        self.arguments[index].1 = Some(result);
    }

    /// Ops from here on come from the module `path`: a device's error names it.
    pub fn at(&mut self, path: &str) {
        self.location.clear();
        if !path.is_empty() {
            let _ = write!(self.location, " loc({})", quoted(path));
        }
    }

    /// Writes an op with its results; `name` with its dialect, `attributes` as they stand within `<{…}>`.
    pub fn op(
        &mut self,
        name: &str,
        operands: &[&Value],
        attributes: &str,
        regions: &[Region],
        results: &[TensorType],
    ) -> Vec<Value> {
        let number = self.names;
        self.names += usize::from(!results.is_empty());
        self.indent();
        match results.len() {
            0 => {}
            1 => write_to(&mut self.body, format_args!("%{number} = ")),
            count => write_to(&mut self.body, format_args!("%{number}:{count} = ")),
        }
        let names = List(operands.iter());
        write_to(&mut self.body, format_args!("\"{name}\"({names})"));
        if !attributes.is_empty() {
            write_to(&mut self.body, format_args!(" <{{{attributes}}}>"));
        }
        if !regions.is_empty() {
            let texts = List(regions.iter().map(|region| &region.0));
            write_to(&mut self.body, format_args!(" ({texts})"));
        }
        let types = List(operands.iter().map(|operand| &operand.ty));
        let made = List(results.iter());
        match results {
            [one] => write_to(&mut self.body, format_args!(" : ({types}) -> {one}{}\n", self.location)),
            _ => write_to(&mut self.body, format_args!(" : ({types}) -> ({made}){}\n", self.location)),
        }
        let name = |part: usize| if results.len() == 1 { Name::One(number) } else { Name::Part(number, part) };
        results.iter().enumerate().map(|(part, ty)| Value { name: name(part), ty: ty.clone() }).collect()
    }

    /// [`Function::op`] of one result and no region.
    pub fn one(&mut self, name: &str, operands: &[&Value], attributes: &str, result: TensorType) -> Value {
        let mut results = self.op(name, operands, attributes, &[], &[result]);
        results.remove(0)
    }

    /// A region that takes `arguments` and returns what `body` gives; it may read every value made before it.
    pub fn region(
        &mut self,
        arguments: &[TensorType],
        body: impl FnOnce(&mut Function, &[Value]) -> Vec<Value>,
    ) -> Region {
        let outside = mem::take(&mut self.body);
        self.depth += 1;
        let first = self.names;
        self.names += arguments.len();
        let values: Vec<Value> =
            arguments.iter().enumerate().map(|(i, ty)| Value { name: Name::One(first + i), ty: ty.clone() }).collect();
        let results = body(self, &values);
        self.op("stablehlo.return", &results.iter().collect::<Vec<_>>(), "", &[], &[]);
        self.depth -= 1;
        let inside = mem::replace(&mut self.body, outside);
        let indent = "  ".repeat(self.depth + 2);
        let heads = List(values.iter().map(|value| format!("{value}: {}", value.ty)));
        Region(format!("{{\n{indent}^bb0({heads}):\n{inside}{indent}}}"))
    }

    /// The whole module, with this function as its entry. `replicas` devices run it, each on its own arguments.
    pub fn module(mut self, name: &str, replicas: usize, results: &[&Value]) -> String {
        self.location.clear();
        self.op("func.return", results, "", &[], &[]);
        let arguments = List(self.arguments.iter().enumerate().map(|(index, (ty, gives))| match gives {
            Some(result) => format!("%arg{index}: {ty} {{tf.aliasing_output = {result} : i32}}"),
            None => format!("%arg{index}: {ty}"),
        }));
        let types = List(results.iter().map(|result| &result.ty));
        let spread = match replicas {
            1 => String::new(),
            _ => format!(" attributes {{mhlo.num_replicas = {replicas} : i32, mhlo.num_partitions = 1 : i32}}"),
        };
        let body = &self.body;
        format!("module @{name}{spread} {{\n  func.func public @main({arguments}) -> ({types}) {{\n{body}  }}\n}}\n")
    }

    fn indent(&mut self) {
        (0..self.depth + 2).for_each(|_| self.body.push_str("  "));
    }
}

fn write_to(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes all that is written to it");
}

/// Items with commas between.
struct List<I>(I);

impl<I: Iterator<Item: Display> + Clone> Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.clone().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

/// A string of MLIR: what is not plain ASCII as its bytes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => write_to(&mut out, format_args!("\\{byte:02X}")),
        }
    }
    out.push('"');
    out
}

/// `array<i64: 0, 2>`, of sizes or axes.
pub fn sizes(values: &[usize]) -> String {
    if values.is_empty() { "array<i64>".to_owned() } else { format!("array<i64: {}>", List(values.iter())) }
}

/// `[0, 2]`.
pub fn axes(values: &[usize]) -> String {
    format!("[{}]", List(values.iter()))
}

/// The value of a splat: a short decimal where it is exact, else the bits, which are.
pub fn number(value: f64, scalar: Scalar) -> String {
    // Numbers with a few binary digits behind the point are as exact in decimals, whatever reads them.
    if scalar.is_float()
        && (value * 64.0).fract() == 0.0
        && value.abs() < 1024.0
        && (value.is_sign_positive() || value != 0.0)
    {
        return format!("{value:?}");
    }
    match scalar {
        Scalar::F32 => format!("0x{:08X}", (value as f32).to_bits()),
        Scalar::F64 => format!("0x{:016X}", value.to_bits()),
        Scalar::Bf16 => format!("0x{:04X}", half::bf16::from_f64(value).to_bits()),
        Scalar::I64 | Scalar::U32 | Scalar::U8 => format!("{}", value as i64),
        Scalar::I1 => format!("{}", value != 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        for (value, text) in [(1.0, "1.0"), (-0.5, "-0.5"), (0.0, "0.0"), (0.015625, "0.015625")] {
            assert_eq!(number(value, Scalar::F32), text);
        }
        assert_eq!(number(0.1, Scalar::F32), "0x3DCCCCCD");
        assert_eq!(number(0.1, Scalar::F64), "0x3FB999999999999A");
        assert_eq!(number(-0.0, Scalar::F32), "0x80000000");
        assert_eq!(number(f64::NEG_INFINITY, Scalar::F32), "0xFF800000");
        assert_eq!(number(f64::NAN, Scalar::F64), "0x7FF8000000000000");
        assert_eq!(number(f64::NAN, Scalar::F32), "0x7FC00000");
        assert_eq!(number(-1.0, Scalar::I64), "-1");
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quoted("a.\"b\\\n"), r#""a.\"b\\\0A""#);
    }
}
