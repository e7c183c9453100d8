//! Devices that programs are compiled for without having one: files of data, embedded in the binary.

use serde::Deserialize;

use super::super::plugins::Maker;

/// A kind of device. What its facts come from stands in its file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub device: String,
    maker: TargetMaker,
    pub memory_bytes: u64,
    /// What the model of a step takes as the rate of a kernel that moves memory.
    pub bytes_per_second: f64,
    /// What the model takes as the rate of large products, by the type of their operands.
    pub flops_bf16: f64,
    pub flops_f32: f64,
    pub flops_f64: f64,
    /// How it is named on the command line.
    #[serde(skip)]
    pub name: &'static str,
    /// XLA's text for it, where one is known to do.
    #[serde(skip)]
    pub config: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum TargetMaker {
    Nvidia,
    Amd,
}

/// Name, facts, and the compiler's description.
const FILES: [(&str, &str, Option<&str>); 4] = [
    ("h100", include_str!("targets/h100.ron"), Some(include_str!("targets/h100.txtpb"))),
    ("h200", include_str!("targets/h200.ron"), Some(include_str!("targets/h200.txtpb"))),
    ("a100", include_str!("targets/a100.ron"), Some(include_str!("targets/a100.txtpb"))),
    ("mi300x", include_str!("targets/mi300x.ron"), None),
];

impl Target {
    pub const NAMES: [&str; 4] = ["h100", "h200", "a100", "mi300x"];

    /// The target of this name.
    pub fn named(name: &str) -> Option<Target> {
        let (name, facts, config) = FILES.into_iter().find(|(known, ..)| *known == name)?;
        let target: Target = ron::from_str(facts).expect("a test reads every file of a target");
        Some(Target { name, config, ..target })
    }

    pub fn maker(&self) -> Maker {
        match self.maker {
            TargetMaker::Nvidia => Maker::Nvidia,
            TargetMaker::Amd => Maker::Amd,
        }
    }

    /// As a client of such a device names its platform.
    pub fn platform(&self) -> &'static str {
        match self.maker {
            TargetMaker::Nvidia => "cuda",
            TargetMaker::Amd => "rocm",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FILES, Target};

    #[test]
    fn every_file_is_read() {
        assert_eq!(FILES.map(|(name, ..)| name), Target::NAMES);
        for name in Target::NAMES {
            let target = Target::named(name).expect("it is known");
            let memory = format!("device_memory_size: {}\n", target.memory_bytes);
            assert!(target.config.is_none_or(|config| config.contains(&memory)), "{name}: {memory}");
        }
        assert_eq!(Target::named("h1000"), None);
    }
}
