//! What a client, a topology and a compilation may be told.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::ptr::from_ref;

use prost::Message;

use super::table::NamedValue;

/// An option of a client or a topology, by the name that the plugin gives it: `cpu_device_count`, `memory_fraction`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateOption {
    pub name: String,
    pub value: OptionValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    Text(String),
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Bool(bool),
}

impl CreateOption {
    pub fn new(name: &str, value: OptionValue) -> Self {
        CreateOption { name: name.to_owned(), value }
    }

    /// As the C API takes it; points into `self`.
    pub(super) fn named_value(&self) -> NamedValue {
        let (kind, value, value_size) = match &self.value {
            OptionValue::Text(text) => (0, text.as_ptr().expose_provenance() as u64, text.len()),
            OptionValue::Int(number) => (1, number.cast_unsigned(), 1),
            OptionValue::Ints(list) => (2, list.as_ptr().expose_provenance() as u64, list.len()),
            // The low bytes of the word on every machine that has a plugin: they are little-endian.
            OptionValue::Float(number) => (3, u64::from(number.to_bits()), 1),
            OptionValue::Bool(flag) => (4, u64::from(*flag), 1),
        };
        let name: *const c_char = from_ref(self.name.as_bytes()).cast();
        NamedValue { name, name_size: self.name.len(), kind, value, value_size, ..NamedValue::new() }
    }
}

/// How a program is compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct CompileOptions {
    /// Devices that each run the program, on their own arguments.
    pub replicas: usize,
    /// Devices that share one replica's work.
    pub partitions: usize,
    /// The device of each replica by [`super::Device::id`]; empty for the client's first ones.
    pub devices: Vec<i64>,
    /// XLA's flags by name, without dashes: `xla_gpu_autotune_level`. A name that the plugin does not know is an error,
    /// where in the variable `XLA_FLAGS` it would end the process.
    pub flags: BTreeMap<String, Flag>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Flag {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Default for CompileOptions {
    fn default() -> Self {
        CompileOptions { replicas: 1, partitions: 1, devices: Vec::new(), flags: BTreeMap::new() }
    }
}

impl CompileOptions {
    /// The protobuf that the C API takes; the same bytes for the same options.
    pub fn encode(&self) -> Vec<u8> {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let device_assignment = (!self.devices.is_empty()).then(|| DeviceAssignment {
            replica_count: i32::try_from(self.devices.len()).unwrap_or(i32::MAX),
            computation_count: 1,
            computation_devices: vec![ComputationDevice { replica_device_ids: self.devices.clone() }],
        });
        let build = BuildOptions {
            num_replicas: count(self.replicas),
            num_partitions: count(self.partitions),
            device_assignment,
        };
        let flag = |flag: &Flag| Override {
            value: Some(match flag {
                Flag::Text(text) => OverrideValue::Text(text.clone()),
                Flag::Bool(flag) => OverrideValue::Bool(*flag),
                Flag::Int(number) => OverrideValue::Int(*number),
                Flag::Float(number) => OverrideValue::Float(*number),
            }),
        };
        let flags = self.flags.iter().map(|(name, value)| (name.clone(), flag(value))).collect();
        OptionsMessage { build: Some(build), flags }.encode_to_vec()
    }
}

/// XLA's `CompileOptionsProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct OptionsMessage {
    #[prost(message, optional, tag = "3")]
    build: Option<BuildOptions>,
    #[prost(btree_map = "string, message", tag = "7")]
    flags: BTreeMap<String, Override>,
}

/// `ExecutableBuildOptionsProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct BuildOptions {
    #[prost(int64, tag = "4")]
    num_replicas: i64,
    #[prost(int64, tag = "5")]
    num_partitions: i64,
    #[prost(message, optional, tag = "9")]
    device_assignment: Option<DeviceAssignment>,
}

/// `DeviceAssignmentProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct DeviceAssignment {
    #[prost(int32, tag = "1")]
    replica_count: i32,
    #[prost(int32, tag = "2")]
    computation_count: i32,
    #[prost(message, repeated, tag = "3")]
    computation_devices: Vec<ComputationDevice>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ComputationDevice {
    #[prost(int64, repeated, tag = "1")]
    replica_device_ids: Vec<i64>,
}

/// `OptionOverrideProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Override {
    #[prost(oneof = "OverrideValue", tags = "1, 2, 3, 4")]
    value: Option<OverrideValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OverrideValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Float(f64),
}

#[cfg(test)]
mod tests {
    use super::{CompileOptions, Flag};

    #[test]
    fn options_are_the_bytes_that_plugins_take() {
        let plain = CompileOptions::default();
        assert_eq!(plain.encode(), [0x1a, 4, 0x20, 1, 0x28, 1]);
        let mut second = CompileOptions { devices: vec![2], ..plain };
        assert_eq!(second.encode(), [0x1a, 15, 0x20, 1, 0x28, 1, 0x4a, 9, 8, 1, 16, 1, 0x1a, 3, 0x0a, 1, 2]);
        second.devices.clear();
        second.flags.insert("a".to_owned(), Flag::Bool(false));
        // A flag that is false or 0 is written all the same: it overrides.
        assert_eq!(second.encode(), [0x1a, 4, 0x20, 1, 0x28, 1, 0x3a, 7, 0x0a, 1, b'a', 0x12, 2, 0x10, 0]);
    }
}
