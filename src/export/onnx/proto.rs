//! The messages of ONNX that a graph needs.
//!
//! Before: [`super::lower`] fills them. After: a file, and whoever reads it.
//!
//! Source: onnx.proto of onnx 1.23, whose field numbers these are; what is never written here is left out.

/// `IR_VERSION_2021_7_30`: the format's version that came with the operators below.
pub const IR_VERSION: i64 = 8;

/// Version of the operators: the first with `LayerNormalization`.
pub const OPERATORS: i64 = 17;

/// `TensorProto.DataType`.
pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;
pub const BOOL: i32 = 9;

/// `TensorProto.DataLocation`.
const EXTERNAL: i32 = 1;

/// `AttributeProto.AttributeType`.
const OF_FLOAT: i32 = 1;
const OF_INT: i32 = 2;
const OF_INTS: i32 = 7;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Model {
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSet {
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(int32, optional, tag = "20")]
    pub kind: Option<i32>,
}

impl Attribute {
    pub fn float(name: &str, value: f64) -> Attribute {
        Attribute { name: Some(name.to_owned()), f: Some(value as f32), kind: Some(OF_FLOAT), ..Attribute::default() }
    }

    pub fn int(name: &str, value: i64) -> Attribute {
        Attribute { name: Some(name.to_owned()), i: Some(value), kind: Some(OF_INT), ..Attribute::default() }
    }

    pub fn ints(name: &str, values: impl IntoIterator<Item = i64>) -> Attribute {
        let ints = values.into_iter().collect();
        Attribute { name: Some(name.to_owned()), ints, kind: Some(OF_INTS), ..Attribute::default() }
    }
}

/// Values as little-endian bytes, here or in a file beside.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

impl Tensor {
    pub fn floats(name: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) -> Tensor {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Tensor::of(name, dims, FLOAT, bytes)
    }

    pub fn ints(name: &str, dims: &[usize], values: impl IntoIterator<Item = i64>) -> Tensor {
        let bytes = values.into_iter().flat_map(i64::to_le_bytes).collect();
        Tensor::of(name, dims, INT64, bytes)
    }

    fn of(name: &str, dims: &[usize], data_type: i32, bytes: Vec<u8>) -> Tensor {
        Tensor {
            dims: dims.iter().map(|size| *size as i64).collect(),
            data_type: Some(data_type),
            name: Some(name.to_owned()),
            raw_data: Some(bytes),
            ..Tensor::default()
        }
    }

    /// The values, which from here on lie in the file `location`, from byte `offset` on.
    pub fn moved(&mut self, location: &str, offset: usize) -> Vec<u8> {
        let bytes = self.raw_data.take().unwrap_or_default();
        let entry = |key: &str, value: String| Entry { key: Some(key.to_owned()), value: Some(value) };
        self.external_data = vec![
            entry("location", location.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        self.data_location = Some(EXTERNAL);
        bytes
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfo {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub ty: Option<Type>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorType {
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dim>,
}

/// A size, or the name of one that may be any.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dim {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}
