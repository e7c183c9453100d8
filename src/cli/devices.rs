//! `cmaec devices`: what this machine can compute on, and what to type for what is missing.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cmae::backend::xla::pjrt::{Client, PjrtError, Plugin};
use cmae::backend::xla::plugins::{self, Found, Maker};
use cmae::backend::{BackendError, Compute};
use cmae::wide::Level;
use serde_json::{Value, json};

use super::output::outln;

/// How long a plugin may look for its devices: that of a TPU asks a network that is not there for minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shows what this machine can compute on: backends, PJRT plugins and their devices.
#[derive(clap::Args)]
pub struct Args {
    /// Also looks at this plugin file, before the others. By default the one that `CMAE_PJRT_PLUGIN` names.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Opens the plugin in this process and prints what it says, for the process that has asked.
    #[arg(long, value_name = "FILE", hide = true)]
    ask: Option<PathBuf>,
}

pub fn main(args: Args) -> Result<(), String> {
    if let Some(path) = args.ask {
        outln!("{}", ask(&path).unwrap_or_else(|error| json!({ "error": error.to_string() })));
        return Ok(());
    }
    let backends = backends();
    let found = plugins::find(args.plugin.as_deref());
    let plugins: Vec<Value> = found.iter().map(|plugin| described(plugin, answer(&plugin.path))).collect();
    let has = |maker: &Maker| found.iter().any(|plugin| plugin.maker == *maker);
    let missing: Vec<(&str, &str)> = Maker::KNOWN
        .iter()
        .filter(|maker| !has(maker))
        .filter_map(|maker| Some((maker.name(), maker.install()?)))
        .collect();
    if args.json {
        let missing: Vec<Value> =
            missing.iter().map(|(maker, install)| json!({ "maker": maker, "install": install })).collect();
        outln!("{}", json!({ "backends": backends, "plugins": plugins, "missing": missing }));
    } else {
        show(&backends, &plugins, &missing);
    }
    Ok(())
}

/// Those that are no plugin's.
fn backends() -> Vec<Value> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let vectors = match Level::of_the_machine() {
        Level::Avx512 => "AVX-512",
        Level::Avx2 => "AVX2",
        Level::Portable => "no wide vectors that are known",
    };
    let cuda = match f32::backend("dfdx-cuda") {
        Ok(_) => Value::Null,
        Err(BackendError::Unavailable { reason, .. }) => json!(reason),
        Err(error) => json!(error.to_string()),
    };
    vec![
        json!({ "name": "cpu", "threads": threads, "vectors": vectors, "error": null }),
        json!({ "name": "dfdx", "threads": threads, "error": null }),
        json!({ "name": "dfdx-cuda", "error": cuda }),
    ]
}

/// Opens a plugin and asks it for its devices.
fn ask(path: &Path) -> Result<Value, PjrtError> {
    let plugin = Plugin::open(path)?;
    let version = plugin.version().to_string();
    let maker = plugins::find_in(Some(path), &[]).first().map_or(Maker::Other, |found| found.maker);
    let told = plugin.any_client(1, &maker.options()).and_then(|client| told(&client));
    let mut answer = told.unwrap_or_else(|error| json!({ "error": error.to_string() }));
    answer["api_version"] = json!(version);
    Ok(answer)
}

fn told(client: &Client) -> Result<Value, PjrtError> {
    let mut devices = Vec::new();
    for (place, device) in client.devices().iter().enumerate() {
        let memory = client.memory(place)?;
        devices.push(json!({
            "id": device.id,
            "kind": device.kind,
            "memory": memory.and_then(|memory| memory.limit),
            "memory_in_use": memory.map(|memory| memory.in_use),
        }));
    }
    let (platform, version) = (client.platform_name(), client.platform_version());
    Ok(json!({ "platform": platform, "platform_version": version, "devices": devices }))
}

/// What a plugin says in a process of its own: it may end that process, or never answer.
fn answer(path: &Path) -> Value {
    let failed = |reason: String| json!({ "error": reason });
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(format!("this program does not find itself: {error}")),
    };
    let mut command = Command::new(program);
    command.args(["devices", "--ask"]).arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => heard(child).unwrap_or_else(failed),
        Err(error) => failed(format!("the process that asks it cannot be started: {error}")),
    }
}

/// The answer of a process that asks a plugin.
fn heard(mut child: Child) -> Result<Value, String> {
    let all = |mut pipe: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error is what there is.
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = child.stdout.take().map(|pipe| all(Box::new(pipe)));
    let stderr = child.stderr.take().map(|pipe| all(Box::new(pipe)));
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                // It may have ended by itself just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it gave no answer in {} s", PATIENCE.as_secs()));
            }
        }
    };
    let text = |pipe: Option<thread::JoinHandle<String>>| pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    // A plugin may write to stdout itself: our answer is the last line.
    let answer = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    answer.filter(|_| status.success()).ok_or_else(|| {
        let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        format!("it ended the process that asked it ({status}): {last}")
    })
}

fn described(plugin: &Found, mut answer: Value) -> Value {
    answer["path"] = json!(plugin.path);
    answer["maker"] = json!(plugin.maker.name());
    answer["wheel"] = json!(plugin.wheel.as_ref().map(|wheel| &wheel.name));
    answer["wheel_version"] = json!(plugin.wheel.as_ref().map(|wheel| &wheel.version));
    answer
}

fn show(backends: &[Value], plugins: &[Value], missing: &[(&str, &str)]) {
    outln!("backends");
    for backend in backends {
        let name = text(backend, "name");
        let about = match (backend["error"].as_str(), backend["threads"].as_u64()) {
            (Some(error), _) => error.to_owned(),
            (None, Some(threads)) => {
                let vectors = backend["vectors"].as_str().map_or(String::new(), |vectors| format!(", {vectors}"));
                format!("{threads} thread{}{vectors}", if threads == 1 { "" } else { "s" })
            }
            (None, None) => "one device".to_owned(),
        };
        outln!("  {name:<11}{about}");
    }
    outln!();
    outln!("PJRT plugins");
    if plugins.is_empty() {
        outln!("  none was found in the Python environments here (help: `--plugin FILE` names another)");
    }
    for plugin in plugins {
        let wheel = match (plugin["wheel"].as_str(), plugin["wheel_version"].as_str()) {
            (Some(name), Some(version)) => format!("{name} {version}"),
            _ => "of no known wheel".to_owned(),
        };
        let api = plugin["api_version"].as_str().map_or(String::new(), |version| format!(", C API {version}"));
        outln!("  {:<11}{wheel}{api}", text(plugin, "maker"));
        outln!("  {:<11}{}", "", text(plugin, "path"));
        if let Some(error) = plugin["error"].as_str() {
            // Of a plugin that could be opened, it is its devices that are missing.
            let what = if plugin["api_version"].is_null() { "" } else { "no device: " };
            // The file was named in the line above.
            let error = error.strip_prefix(&format!("`{}` ", text(plugin, "path"))).unwrap_or(error);
            outln!("  {:<11}{what}{}", "", error.replace('\n', &format!("\n  {:<11}", "")));
        }
        for device in plugin["devices"].as_array().into_iter().flatten() {
            let memory = match device["memory"].as_u64() {
                Some(bytes) => format!(", {:.1} GiB", bytes as f64 / f64::from(1 << 30)),
                None => String::new(),
            };
            outln!("  {:<11}device {}: {}{memory}", "", device["id"], text(device, "kind"));
        }
    }
    if !missing.is_empty() {
        outln!();
        outln!("not found, and what installs it");
    }
    for (maker, install) in missing {
        outln!("  {maker:<11}{install}");
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}
