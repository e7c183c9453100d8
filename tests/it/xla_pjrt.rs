//! The C API of PJRT, on a plugin for plain CPUs where one is found, and how plugins are found.
//!
//! ```text
//! pip install --no-deps lammps-jax-pjrt-cpu==0.11.2        in the Python environment that is active, or:
//! CMAE_PJRT_PLUGIN=…/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so cargo test --test it xla_pjrt -- --nocapture
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cmae::backend::xla::pjrt::{
    Buffer, Client, Code, CompileOptions, CreateOption, ElementType, Event, Flag, OptionValue, PjrtError, Plugin,
};
use cmae::backend::xla::plugins::{self, Maker, Wheel};
use half::bf16;

use crate::command::{cmaec, tool};

/// `y = x · x + 1`, where the result has the memory of `x`, and `z = x + w`.
const TWO_RESULTS: &str = "module @step {
  func.func public @main(%x: tensor<2x3xf32> {tf.aliasing_output = 0 : i32}, %w: tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>) {
    %one = stablehlo.constant dense<1.0> : tensor<2x3xf32>
    %square = stablehlo.multiply %x, %x : tensor<2x3xf32>
    %y = stablehlo.add %square, %one : tensor<2x3xf32>
    %z = stablehlo.add %x, %w : tensor<2x3xf32>
    return %y, %z : tensor<2x3xf32>, tensor<2x3xf32>
  }
}";

/// Each device's number, summed over two.
const SUM_OF_TWO: &str = r#"module @sum attributes {mhlo.num_replicas = 2 : i32, mhlo.num_partitions = 1 : i32} {
  func.func public @main(%x: tensor<4xf32>) -> tensor<4xf32> {
    %sum = "stablehlo.all_reduce"(%x) <{replica_groups = dense<[[0, 1]]> : tensor<1x2xi64>}> ({
      ^bb0(%a: tensor<f32>, %b: tensor<f32>):
        %c = stablehlo.add %a, %b : tensor<f32>
        stablehlo.return %c : tensor<f32>
    }) : (tensor<4xf32>) -> tensor<4xf32>
    return %sum : tensor<4xf32>
  }
}"#;

/// The plugin that the tests run on.
pub fn plugin() -> Option<Plugin> {
    let is_cpu = |found: &plugins::Found| found.maker == Maker::Cpu;
    let found = plugins::named().or_else(|| plugins::find(None).into_iter().find(is_cpu).map(|found| found.path));
    let install = "pip install --no-deps lammps-jax-pjrt-cpu==0.11.2, or CMAE_PJRT_PLUGIN=FILE";
    let path = tool("PJRT plugin for plain CPUs", found, install)?;
    Some(Plugin::open(&path).unwrap_or_else(|error| panic!("{error}")))
}

/// A client with so many devices.
pub fn client(devices: i64) -> Option<Client> {
    let options = [CreateOption::new("cpu_device_count", OptionValue::Int(devices))];
    let client = plugin()?.client(&options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((client.platform_name(), client.devices().len()), ("cpu", devices as usize));
    Some(client)
}

fn upload(client: &Client, values: &[f32], shape: &[usize]) -> Buffer {
    client.upload_values(0, shape, values).unwrap_or_else(|error| panic!("{error}"))
}

fn said<T: std::fmt::Debug>(result: Result<T, PjrtError>) -> (Option<Code>, String) {
    let error = result.expect_err("it must fail");
    (error.code(), error.to_string())
}

#[test]
fn what_is_no_plugin_is_refused_by_name() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let missing = out.path().join("missing.so");
    let (_, text) = said(Plugin::open(&missing));
    assert!(text.contains("missing.so` cannot be loaded as a PJRT plugin: No such file"), "{text}");
    let page = out.path().join("page.so");
    fs::write(&page, "what an error page holds").expect("it can be written");
    let (_, text) = said(Plugin::open(&page));
    assert!(text.contains("page.so` cannot be loaded as a PJRT plugin: "), "{text}");
    println!("{text}");
    if let Some(library) = libraries().into_iter().find(|path| path.is_file()) {
        let (_, text) = said(Plugin::open(&library));
        assert!(text.contains("is no PJRT plugin: it has no function `GetPjrtApi`"), "{text}");
    }
}

/// Where systems keep a library that is no plugin.
fn libraries() -> Vec<PathBuf> {
    let folders = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];
    folders.iter().map(|folder| Path::new(folder).join("libm.so.6")).collect()
}

#[test]
fn a_plugin_says_who_it_is() {
    let Some(plugin) = plugin() else { return };
    assert_eq!(plugin.version().major, 0);
    assert_eq!(plugin.hash().expect("it can be read").len(), 64);
    let Some(client) = client(3) else { return };
    let ids: Vec<i64> = client.devices().iter().map(|device| device.id).collect();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(client.memory(0).expect("it answers"), None);
    let (_, text) = said(client.memory(3));
    assert_eq!(text, "the client has no device 3, it has 3 (help: devices count from 0)");
    println!("{plugin:?} {client:?} {} {:?}", client.platform_version(), client.devices());
}

#[test]
fn tensors_go_up_and_come_down() {
    let Some(client) = client(1) else { return };
    macro_rules! there_and_back {
        ($($element:ty: [$($value:expr),*];)*) => {
            $(
                let values: Vec<$element> = vec![$($value),*];
                let buffer = client.upload_values(0, &[values.len()], &values).expect("it goes up");
                assert_eq!(buffer.read::<$element>().expect("it comes down"), values);
                let upload = client.start_upload(0, &[1, values.len()], values.clone()).expect("it begins");
                assert_eq!(upload.buffer().shape().expect("it has one"), [1, values.len()]);
                let (buffer, owner) = upload.wait().expect("it arrives");
                assert_eq!((buffer.read::<$element>().expect("it comes down"), &owner), (values, &owner));
            )*
        };
    }
    there_and_back! {
        f32: [0.5, -1.25, f32::INFINITY];
        f64: [1e-300, 2.0];
        i64: [i64::MIN, 7, -1];
        i32: [i32::MAX, -2];
        u8: [0, 255, 3];
        bf16: [bf16::from_f32(1.5), bf16::from_f32(-0.25)];
    }
    let flags = client.upload(0, ElementType::Pred, &[2, 2], &[1, 0, 0, 1]).expect("it goes up");
    let mut bytes = [9; 4];
    flags.read_into(&mut bytes).expect("it comes down");
    assert_eq!((bytes, flags.size().expect("it has one")), ([1, 0, 0, 1], 4));
    let scalar = upload(&client, &[2.5], &[]);
    assert_eq!((scalar.read::<f32>().expect("it comes down"), scalar.size().expect("it has one")), (vec![2.5], 4));
    let nothing = client.upload_values::<f32>(0, &[0, 3], &[]).expect("it goes up");
    assert_eq!(nothing.read::<f32>().expect("it comes down"), [0.0; 0]);
    let shared: Arc<[f32]> = Arc::from([1.0, 2.0]);
    drop(client.start_upload(0, &[2], Arc::clone(&shared)).expect("it begins"));
    assert_eq!(Arc::strong_count(&shared), 1);
    // Lengths and types that do not fit.
    let (_, text) = said(client.upload_values(0, &[2, 2], &[1.0f32]));
    assert_eq!(text, "a buffer of [2, 2] × f32 takes 16 bytes, 4 were given");
    let (_, text) = said(scalar.read::<i32>());
    assert_eq!(text, "the buffer holds f32, i32 were asked for");
    let (_, text) = said(scalar.read_into(&mut [0; 8]));
    assert_eq!(text, "a buffer of [] × f32 takes 4 bytes, 8 were given");
    let (_, text) = said(client.upload_values(1, &[1], &[1.0f32]));
    assert!(text.contains("no device 1"), "{text}");
}

#[test]
fn a_donated_argument_gives_its_memory() {
    let Some(client) = client(1) else { return };
    let program = client.compile(TWO_RESULTS, &CompileOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let memory = program.memory().expect("it answers");
    assert_eq!((memory.arguments, memory.aliased), (48, 24), "{memory:?}");
    let (x, w) = (upload(&client, &[1., 2., 3., 4., 5., 6.], &[2, 3]), upload(&client, &[10.0; 6], &[2, 3]));
    let address = x.address().expect("it has one");
    // Kept: the result is elsewhere.
    let kept = program.execute(&[&x, &w], &[0]).expect("it runs");
    assert!(!x.is_deleted().expect("it answers") && kept[0].address().expect("it has one") != address);
    // Too few, of another shape, of another client: an error, and nothing is lost.
    let (code, text) = said(program.execute(&[&x], &[]));
    assert_eq!(code, Some(Code::InvalidArgument), "{text}");
    let short = upload(&client, &[1.0], &[1]);
    let (code, text) = said(program.execute(&[&x, &short], &[]));
    assert_eq!(code, Some(Code::InvalidArgument), "{text}");
    println!("{text}");
    let (code, text) = said(program.execute(&[&x, &x], &[]));
    assert_eq!(code, Some(Code::InvalidArgument), "{text}");
    let other = self::client(1).expect("there is a plugin");
    let (_, text) = said(program.execute(&[&x, &upload(&other, &[0.0; 6], &[2, 3])], &[]));
    assert_eq!(text, "argument 1 belongs to another client");
    assert!(!x.is_deleted().expect("it answers"));
    // Donated, and passed on before it is ready.
    let first = program.execute(&[&x, &w], &[]).expect("it runs");
    assert!(x.is_deleted().expect("it answers") && !w.is_deleted().expect("it answers"));
    let second = program.execute(&[&first[0], &w], &[]).expect("it runs");
    drop(program);
    second[0].wait().expect("it ends well");
    assert_eq!(second[0].address().expect("it has one"), address);
    assert_eq!(second[0].read::<f32>().expect("it comes down"), [5., 26., 101., 290., 677., 1370.]);
    assert_eq!(second[1].read::<f32>().expect("it comes down"), [12., 15., 20., 27., 36., 47.]);
    assert_eq!(first[1].read::<f32>().expect("it comes down"), [11., 12., 13., 14., 15., 16.]);
    let (code, text) = said(x.read::<f32>());
    assert!(code == Some(Code::InvalidArgument) && text.contains("deleted or donated"), "{text}");
}

/// The plugin notes the end itself: nobody waits for it meanwhile.
#[test]
fn the_time_at_which_a_result_is_there_is_told() {
    let Some(client) = client(1) else { return };
    let program = client.compile(TWO_RESULTS, &CompileOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let (x, w) = (upload(&client, &[2.0; 6], &[2, 3]), upload(&client, &[1.0; 6], &[2, 3]));
    let before = Instant::now();
    let results = program.execute(&[&x, &w], &[]).expect("it runs");
    let ending = results[0].ready().and_then(Event::ending).expect("it can be asked");
    results[0].wait().expect("it is computed");
    std::thread::sleep(Duration::from_millis(100));
    let looked = Instant::now();
    let at = ending.at().expect("it is told");
    assert!(before <= at && at + Duration::from_millis(50) < looked, "{:?} {:?}", at - before, looked - at);
    // Who is not interested any more leaves nothing behind that is called.
    drop(results[1].ready().and_then(Event::ending).expect("it can be asked"));
    assert_eq!(results[1].read::<f32>().expect("it comes down").len(), 6);
}

#[test]
fn a_program_is_kept_as_bytes() {
    let Some(client) = client(1) else { return };
    let program = client.compile(TWO_RESULTS, &CompileOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let bytes = program.serialize().expect("it answers");
    drop(program);
    let (client, other) = (self::client(1).expect("there is a plugin"), client);
    drop(other);
    let loaded = client.load(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let (x, w) = (upload(&client, &[2.0; 6], &[2, 3]), upload(&client, &[1.0; 6], &[2, 3]));
    let results = loaded.execute(&[&x, &w], &[]).expect("it runs");
    assert_eq!(results[0].read::<f32>().expect("it comes down"), [5.0; 6]);
    assert!(x.is_deleted().expect("it answers"), "donation is kept");
    let (_, text) = said(client.load(&bytes[..bytes.len() / 2]));
    println!("half of the bytes: {text}");
    let program = client.compile(TWO_RESULTS, &CompileOptions::default()).expect("it compiles");
    let optimized = program.compiled().optimized_program();
    println!("optimised program: {:?}", optimized.as_ref().map(Vec::len).map_err(ToString::to_string));
    assert!(optimized.is_ok_and(|bytes| !bytes.is_empty()));
}

#[test]
fn wrong_programs_and_options_are_told_in_the_plugins_words() {
    let Some(client) = client(1) else { return };
    let wrong = TWO_RESULTS.replace("stablehlo.add %x, %w", "stablehlo.ad %x, %w");
    let (_, text) = said(client.compile(&wrong, &CompileOptions::default()));
    assert!(text.starts_with("PJRT_Client_Compile: ") && text.contains("stablehlo.ad"), "{text}");
    println!("{text}");
    let mut options = CompileOptions::default();
    options.flags.insert("xla_no_such_flag".to_owned(), Flag::Int(1));
    let (code, text) = said(client.compile(TWO_RESULTS, &options));
    assert!(code == Some(Code::InvalidArgument) && text.contains("xla_no_such_flag"), "{text}");
    println!("{text}");
    options.flags.clear();
    options.flags.insert("xla_cpu_enable_fast_math".to_owned(), Flag::Bool(false));
    client.compile(TWO_RESULTS, &options).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn two_devices_sum_and_a_program_goes_to_the_device_that_is_named() {
    let Some(client) = client(3) else { return };
    let options = CompileOptions { replicas: 2, devices: vec![2, 1], ..CompileOptions::default() };
    let program = client.compile(SUM_OF_TWO, &options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(program.devices(), [2, 1]);
    let on = |device, value: f32| client.upload_values(device, &[4], &[value; 4]).expect("it goes up");
    let (a, b) = (on(2, 1.5), on(1, 2.0));
    let results = program.execute_replicas(&[&[&a], &[&b]], &[]).expect("it runs");
    for result in &results {
        assert_eq!(result[0].read::<f32>().expect("it comes down"), [3.5; 4]);
    }
    let (_, text) = said(program.execute(&[&a], &[]));
    assert_eq!(text, "the program runs on 2 devices, arguments for 1 were given");
    let (_, text) = said(program.execute_replicas(&[&[&a], &[]], &[]));
    assert_eq!(text, "devices of one program take as many arguments each, 1 and 0 were given");
    // One of the plugins does not survive this.
    let (_, text) = said(program.execute_replicas(&[&[&b], &[&a]], &[]));
    assert_eq!(text, "argument 0 lies on device 1, the program takes it on device 2");
    assert!(results.iter().zip([2, 1]).all(|(result, device)| result[0].device() == device));
}

#[test]
fn handles_go_between_threads() {
    let Some(client) = client(1) else { return };
    let program = client.compile(TWO_RESULTS, &CompileOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let w = upload(&client, &[1.0; 6], &[2, 3]);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (client, program, w) = (client.clone(), &program, &w);
            scope.spawn(move || {
                let mut x = upload(&client, &[0.0; 6], &[2, 3]);
                for _ in 0..2 {
                    x = program.execute(&[&x, w], &[]).expect("it runs").swap_remove(0);
                }
                assert_eq!(x.read::<f32>().expect("it comes down"), [2.0; 6], "thread {number}");
            });
        }
    });
}

/// Folders of packages as wheels leave them, the files but texts.
fn environments(root: &Path) -> [PathBuf; 2] {
    let file = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    };
    let wheel = |packages: &Path, name: &str, version: &str, files: &[&str]| {
        let info = packages.join(format!("{}-{version}.dist-info", name.replace('-', "_")));
        let record: Vec<String> = files.iter().map(|file| format!("{file},sha256=0,9\n")).collect();
        file(info.join("RECORD"), &record.concat());
        file(
            info.join("METADATA"),
            &format!("Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nVersion: no\n"),
        );
        for name in files {
            file(packages.join(name), "no library");
        }
    };
    let gpu = root.join("gpu/lib/python3.12/site-packages");
    wheel(
        &gpu,
        "jax-cuda13-pjrt",
        "0.12.0.1",
        &["jax_plugins/xla_cuda13/__init__.py", "jax_plugins/xla_cuda13/xla_cuda_plugin.so"],
    );
    wheel(&gpu, "jax-cuda13-plugin", "0.12.0.1", &["jax_cuda13_plugin/cuda_plugin_extension.so"]);
    wheel(&gpu, "jax-rocm7-pjrt", "0.12.0", &["jax_plugins/xla_rocm7/xla_rocm_plugin.so"]);
    wheel(&gpu, "libtpu", "0.0.51", &["libtpu/libtpu.so"]);
    wheel(&gpu, "torch", "2.9.0", &["torch/lib/libtorch_cpu.so"]);
    let cpu = root.join("cpu/lib/python3.11/site-packages");
    wheel(&cpu, "lammps-jax-pjrt-cpu", "0.11.2", &["lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"]);
    wheel(&cpu, "fastatomstruct-xla-cpu", "2026.6.23", &["fastatomstruct_xla_cpu/libpjrt_cpu.so"]);
    wheel(&cpu, "xla_cpu_pjrt", "0.0.1", &["xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so"]);
    // Beside them one that no wheel has brought.
    file(cpu.join("jax_plugins/own/pjrt_plugin_metal_14.dylib"), "no library");
    [gpu, cpu]
}

#[test]
fn plugins_are_found_where_wheels_put_them() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let folders = environments(out.path());
    let first = out.path().join("mine.so");
    fs::write(&first, "no library").expect("it can be written");
    let found = plugins::find_in(Some(&first), &folders);
    let wheel = |name: &str, version: &str| Some(Wheel { name: name.to_owned(), version: version.to_owned() });
    let told: Vec<_> = found
        .iter()
        .map(|plugin| {
            let file = plugin.path.file_name().expect("it is a file").to_string_lossy().into_owned();
            (file, plugin.maker, plugin.wheel.clone())
        })
        .collect();
    let expected = [
        ("mine.so", Maker::Other, None),
        ("xla_cuda_plugin.so", Maker::Nvidia, wheel("jax-cuda13-pjrt", "0.12.0.1")),
        ("xla_rocm_plugin.so", Maker::Amd, wheel("jax-rocm7-pjrt", "0.12.0")),
        ("libtpu.so", Maker::Google, wheel("libtpu", "0.0.51")),
        ("pjrt_plugin_metal_14.dylib", Maker::Apple, None),
        ("xla_cpu_pjrt.so", Maker::Cpu, wheel("xla_cpu_pjrt", "0.0.1")),
        ("libpjrt_cpu.so", Maker::Cpu, wheel("fastatomstruct-xla-cpu", "2026.6.23")),
        ("pjrt_c_api_cpu_plugin.so", Maker::Cpu, wheel("lammps-jax-pjrt-cpu", "0.11.2")),
    ];
    assert_eq!(told, expected.map(|(file, maker, wheel)| (file.to_owned(), maker, wheel)));
    // One that is named and found is one, and it is still known where it came from.
    let again = plugins::find_in(Some(&found[1].path), &folders);
    assert_eq!((again.len(), &again[0]), (7, &found[1]));
    assert_eq!(plugins::find_in(None, &[out.path().join("nowhere")]), []);
}

/// `cmaec devices` in an environment of its own; XLA's flags are none that a plugin knows.
fn devices_with_wrong_flags(environment: &Path, first: &Path) -> String {
    listed(cmaec(&["devices"]).env("XLA_FLAGS", "--xla_no_such_flag=1"), environment, Some(first))
}

/// `cmaec devices` in an environment of its own.
fn devices(environment: &Path, first: Option<&Path>, arguments: &[&str]) -> String {
    listed(cmaec(&["devices"]).args(arguments).env_remove("XLA_FLAGS"), environment, first)
}

fn listed(command: &mut Command, environment: &Path, first: Option<&Path>) -> String {
    command.env("VIRTUAL_ENV", environment).env("PATH", "").env("HOME", environment);
    command.env_remove("CONDA_PREFIX").env_remove("CMAE_PJRT_PLUGIN");
    if let Some(path) = first {
        command.env("CMAE_PJRT_PLUGIN", path);
    }
    let output = command.output().expect("the binary was built for this test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

#[test]
fn devices_are_listed_and_what_is_missing_is_told_with_the_line_to_type() {
    let out = tempfile::tempdir().expect("a temporary folder");
    environments(out.path());
    let text = devices(&out.path().join("gpu"), None, &[]);
    println!("{text}");
    let nvidia = "  NVIDIA     jax-cuda13-pjrt 0.12.0.1\n";
    for line in
        ["backends\n  cpu        ", nvidia, "xla_cuda_plugin.so\n             cannot be loaded as a PJRT plugin: "]
    {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    assert!(
        text.contains("  Intel      pip install jax-oneapi-pjrt\n") && !text.contains("pip install libtpu"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&devices(&out.path().join("gpu"), None, &["--json"])).expect("it is JSON");
    assert_eq!(json["backends"][0]["name"], "cpu");
    assert_eq!(
        (&json["plugins"][0]["maker"], &json["plugins"][0]["wheel_version"]),
        (&"NVIDIA".into(), &"0.12.0.1".into())
    );
    let Some(plugin) = plugin() else { return };
    let text = devices(&out.path().join("gpu"), Some(plugin.path()), &[]);
    println!("{text}");
    let api = format!(", C API {}\n", plugin.version());
    assert!(text.contains(&api) && text.contains("device 0: cpu\n"), "{text}");
    // Such a flag ends the process that a plugin is in: not this one, and the others are listed all the same.
    let text = devices_with_wrong_flags(&out.path().join("gpu"), plugin.path());
    println!("{text}");
    assert!(text.contains("xla_no_such_flag") && text.contains(nvidia), "{text}");
}
