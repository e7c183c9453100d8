//! Which columns of a file hold its pictures and its labels, and what its classes are called.
//!
//! **Invariant:** a column is chosen by its name alone; one that is asked for and is not there is an error that lists those that are.

use parquet::basic::Type as Physical;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::Wrong;

/// Columns of a file, by their number among the leaves of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub image: usize,
    pub label: Option<usize>,
}

/// Names of columns as the source was given them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub image: String,
    /// Where it is `None`, that of [`LABEL`], if it holds whole numbers.
    pub label: Option<String>,
}

/// As Hugging Face's sets mostly have it.
pub const LABEL: &str = "label";

/// The columns of pictures and labels in `schema`, and what is to be said of those that are not read.
pub fn choose(schema: &SchemaDescriptor, names: &Names, call: &str) -> Result<(Chosen, Option<String>), Wrong> {
    let image = pictures(schema, &names.image, call)?;
    match &names.label {
        Some(name) => Ok((Chosen { image, label: Some(labels(schema, name, call, "label")?) }, None)),
        None if field(schema, LABEL).is_none() => Ok((Chosen { image, label: None }, None)),
        None => match labels(schema, LABEL, call, "label") {
            Ok(label) => Ok((Chosen { image, label: Some(label) }, None)),
            Err(wrong) => Ok((Chosen { image, label: None }, Some(format!("there are no labels: {}", wrong.reason)))),
        },
    }
}

/// The name of the first column that holds pictures.
pub fn first_of_pictures(schema: &SchemaDescriptor) -> Option<String> {
    let mut fields = schema.root_schema().get_fields().iter();
    fields.find(|field| is_of_pictures(field)).map(|field| field.name().to_owned())
}

/// A column of bytes, or of `{bytes, path}`.
fn pictures(schema: &SchemaDescriptor, name: &str, call: &str) -> Result<usize, Wrong> {
    let Some(field) = field(schema, name) else { return Err(missing(schema, name, call, "image")) };
    let leaf = |path: &[&str]| {
        let is = |column: &parquet::schema::types::ColumnDescriptor| {
            column.path().parts().iter().map(String::as_str).eq(path.iter().copied())
                && column.physical_type() == Physical::BYTE_ARRAY
                && column.max_rep_level() == 0
        };
        schema.columns().iter().position(|column| is(column))
    };
    leaf(&[name, "bytes"]).or_else(|| leaf(&[name])).ok_or_else(|| Wrong {
        reason: format!(
            "its column `{name}` holds {}, and pictures are bytes, or a structure with `bytes`",
            kind(field)
        ),
        help: proposed(schema, call, "image", is_of_pictures),
    })
}

fn labels(schema: &SchemaDescriptor, name: &str, call: &str, argument: &str) -> Result<usize, Wrong> {
    let Some(field) = field(schema, name) else { return Err(missing(schema, name, call, argument)) };
    let is = |column: &parquet::schema::types::ColumnDescriptor| {
        column.path().parts() == [name] && is_of_numbers(field) && column.max_rep_level() == 0
    };
    schema.columns().iter().position(|column| is(column)).ok_or_else(|| Wrong {
        reason: format!("its column `{name}` holds {}, and labels are whole numbers", kind(field)),
        help: proposed(schema, call, argument, |field| is_of_numbers(field) && field.name() != name),
    })
}

fn missing(schema: &SchemaDescriptor, name: &str, call: &str, argument: &str) -> Wrong {
    let fields = schema.root_schema().get_fields();
    let shown: Vec<String> = fields.iter().map(|field| format!("`{}` ({})", field.name(), kind(field))).collect();
    Wrong {
        reason: format!("it has no column `{name}`, but {}", shown.join(", ")),
        help: proposed(schema, call, argument, |field| match argument {
            "image" => is_of_pictures(field),
            _ => is_of_numbers(field),
        }),
    }
}

/// The line to write, with the first column that fits.
fn proposed(schema: &SchemaDescriptor, call: &str, argument: &str, fits: impl Fn(&Type) -> bool) -> String {
    match schema.root_schema().get_fields().iter().find(|field| fits(field)) {
        Some(field) => format!("write `{call}, {argument}: \"{}\")`", field.name()),
        None => "it has no column of that kind: write it anew".to_owned(),
    }
}

fn field<'s>(schema: &'s SchemaDescriptor, name: &str) -> Option<&'s Type> {
    schema.root_schema().get_fields().iter().map(|field| &**field).find(|field| field.name() == name)
}

fn is_of_pictures(field: &Type) -> bool {
    match field.is_primitive() {
        true => field.get_physical_type() == Physical::BYTE_ARRAY && !is_text(field),
        false => field.get_fields().iter().any(|part| part.name() == "bytes" && part.is_primitive()),
    }
}

fn is_of_numbers(field: &Type) -> bool {
    field.is_primitive() && matches!(field.get_physical_type(), Physical::INT32 | Physical::INT64)
}

fn is_text(field: &Type) -> bool {
    field.get_basic_info().converted_type() == parquet::basic::ConvertedType::UTF8
}

/// In words.
fn kind(field: &Type) -> &'static str {
    if !field.is_primitive() {
        return if is_of_pictures(field) { "pictures" } else { "a structure or a list" };
    }
    match field.get_physical_type() {
        Physical::BOOLEAN => "truth values",
        Physical::INT32 | Physical::INT64 => "whole numbers",
        Physical::INT96 => "times",
        Physical::FLOAT | Physical::DOUBLE => "floats",
        Physical::BYTE_ARRAY if is_text(field) => "text",
        Physical::BYTE_ARRAY => "bytes",
        Physical::FIXED_LEN_BYTE_ARRAY => "bytes of one length",
    }
}

/// Names of the classes that a column's numbers count, as Hugging Face's `datasets` keeps them in the schema's metadata.
pub fn classes(metadata: &str, column: &str) -> Option<Vec<String>> {
    let known: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let names = known.get("info")?.get("features")?.get(column)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}
