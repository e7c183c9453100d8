//! Reports: pages that hold the metrics' figures, load nothing, and come from whatever a run left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cmae::run::RunFolder;
use serde_json::Value;

use crate::cases::good;
use crate::command::{cmaec, fail, on_path, run, succeed, tool};
use crate::runs::{SMALL, text, with};

/// Of [`SMALL`], 8 steps that are judged twice.
const SHORT: [&str; 4] = ["--set", "train.epochs=0.75", "--set", "evaluate.knn.every=4 steps"];

/// A small run in a folder of its own.
fn small_run(out: &Path, more: &[&str]) {
    succeed(&with(&with(&with(&SMALL, &SHORT), more), &["--out", text(out)]));
}

fn page(path: &Path) -> String {
    fs::read_to_string(path).expect("the report is there")
}

/// What stands between two texts.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to} behind {from}")).0
}

/// The page's numbers.
fn data(html: &str) -> Value {
    serde_json::from_str(between(html, "id=\"data\">", "</script>")).expect("the block is JSON")
}

/// The metrics' lines of steps, and the figures of evaluations with their steps.
fn metrics(run: &Path) -> (Vec<Value>, Vec<Value>) {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("a run has metrics");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    lines.into_iter().partition(|line| line.get("loss").is_some())
}

/// Values of cells `<td … data-key="KEY" data-value="V">`.
fn cell(html: &str, run: usize, key: &str) -> f64 {
    let head = format!("data-run=\"{run}\" data-key=\"{key}\" data-value=\"");
    between(html, &head, "\"").parse().expect("a number")
}

fn assert_offline(html: &str) {
    for part in ["src=", "href=", "url("] {
        for (at, _) in html.match_indices(part) {
            let value = html[at + part.len()..].trim_start_matches('"');
            assert!(value.starts_with("data:") || value.starts_with('#'), "it loads {}", &value[..value.len().min(60)]);
        }
    }
    assert!(!html.contains("@import") && !html.contains("<link") && !html.contains("<iframe"));
    assert_eq!(html.matches("<script").count(), 2, "the numbers and the tooltips");
}

fn assert_figures(html: &str, at: usize, run: &Path) {
    let (steps, evaluations) = metrics(run);
    let figures = &data(html)["runs"][at];
    for key in ["loss", "learning_rate", "images_per_second"] {
        let logged: Vec<&Value> = steps.iter().map(|line| &line[key]).collect();
        let curve = figures["curves"][key]["value"].as_array().expect("a curve");
        assert_eq!(curve.iter().collect::<Vec<_>>(), logged, "{key}");
        assert_eq!(&figures["last"][key], logged[logged.len() - 1]);
    }
    let of_steps: Vec<&Value> = steps.iter().map(|line| &line["step"]).collect();
    let drawn = figures["curves"]["losses/contrastive"]["step"].as_array().expect("a curve");
    assert_eq!(drawn.iter().collect::<Vec<_>>(), of_steps);
    for name in ["reconstruction", "contrastive"] {
        let last = steps[steps.len() - 1]["losses"][name].as_f64().expect("a number");
        assert_eq!(cell(html, at, &format!("losses/{name}")), last);
    }
    for name in ["knn_accuracy", "knn_accuracy_untrained", "chance", "effective_rank"] {
        let logged: Vec<&Value> = evaluations.iter().map(|line| &line["evaluation"][name]).collect();
        let curve = figures["curves"][format!("evaluation/{name}")]["value"].as_array().expect("a curve");
        assert_eq!(curve.iter().collect::<Vec<_>>(), logged, "{name}");
        assert_eq!(cell(html, at, &format!("evaluation/{name}")), logged[logged.len() - 1].as_f64().expect("a number"));
    }
}

#[test]
fn a_run_writes_its_report() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    small_run(&out, &["--set", "train.clip=global_norm(0.5)"]);
    let html = page(&out.join("report.html"));
    assert_offline(&html);
    assert_figures(&html, 0, &out);
    let run = &data(&html)["runs"][0];
    assert_eq!((&run["status"], &run["step"], &run["total_steps"]), (&"finished".into(), &8.into(), &8.into()));
    for part in [
        "<h1>quickstart</h1>",
        "untrained encoder",
        "raw pixels",
        "chance",
        "effective rank",
        "gradient norm",
        "learning rate",
        "throughput",
        "waiting for data",
        "data:image/png;base64,",
        "two principal components",
        "<section id=\"neighbours\">",
        "<section id=\"patches\">",
        "<code>--set &#39;train.clip=global_norm(0.5)&#39;</code>",
        "param mask_ratio",
        "GlobalNorm(0.5)",
        "prefers-color-scheme: dark",
        concat!("cmaec ", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(html.contains(part), "`{part}` is missing");
    }
    // Made again of what is on disk, it says the same but for the hour.
    let other = folder.path().join("other.html");
    assert_eq!(succeed(&["report", text(&out), "-o", text(&other)]).trim(), text(&other));
    assert_eq!(data(&page(&other)), data(&html));
    // Eight pictures with eight neighbours each; eight pictures with their colours and four heads.
    let size = |name: &str| image::image_dimensions(out.join(name)).expect("it is drawn");
    assert_eq!((size("neighbours.png"), size("patches.png")), ((2 + 9 * 122, 2 + 8 * 122), (2 + 6 * 130, 2 + 8 * 130)));
    let map: Value = serde_json::from_str(&page(&out.join("features.json"))).expect("a map");
    assert_eq!((&map["step"], &map["dim"]), (&8.into(), &32.into()));
    let points = map["points"].as_array().expect("points").len();
    assert!(points > 100 && html.matches("<circle").count() == points, "{points} points");
}

#[test]
fn what_a_user_wrote_cannot_become_markup() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, out) = (folder.path().join("mine.cmae"), folder.path().join("a&b<i>"));
    let shipped =
        fs::read_to_string(crate::command::root("pipelines/quickstart.cmae")).expect("it is in the repository");
    fs::write(&file, format!("// </pre><script>alert('x')</script>\n{shipped}")).expect("it can be written");
    let mut arguments = with(&SMALL, &["--set", "train.epochs=0.1", "--out", text(&out)]);
    arguments[1] = text(&file);
    succeed(&arguments);
    let html = page(&out.join("report.html"));
    assert_offline(&html);
    assert!(html.contains("&lt;/pre&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert!(html.contains("a&amp;b&lt;i&gt;") && !html.contains("a&b<i>"));
    assert!(data(&html)["runs"][0]["path"].as_str().expect("a path").ends_with("a&b<i>"));
}

#[test]
fn runs_stand_side_by_side() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("sweep");
    small_run(&out, &["--sweep", "mask_ratio=50%,75%"]);
    let html = page(&out.join("report.html"));
    let runs = [out.join("mask_ratio=50%"), out.join("mask_ratio=75%")];
    for (at, run) in runs.iter().enumerate() {
        assert_figures(&html, at, run);
        assert!(run.join("report.html").is_file());
        assert!(page(&run.join("report.html")).contains("<code>--set mask_ratio="));
    }
    let table = between(&html, "<table id=\"differences\">", "</table>");
    for part in ["params.mask_ratio", "<code>50%</code>", "<code>75%</code>"] {
        assert!(table.contains(part), "`{part}` is missing: {table}");
    }
    assert!(!table.contains("train.epochs"), "it is the same: {table}");
    // A chart has a line for each.
    let loss = between(&html, "<h3>contrastive</h3>", "</figure>");
    assert_eq!(loss.matches("class=\"line s").count(), 2, "{loss}");
    for name in ["mask_ratio=50%", "mask_ratio=75%"] {
        assert!(between(&html, "<ul class=\"runs\">", "</ul>").contains(name) && loss.contains(name));
    }
    assert_offline(&html);

    // The same folder names: their paths tell them apart. By default the file is where the command is run.
    let [a, b] = ["a", "b"].map(|parent| folder.path().join(parent).join("run"));
    for (from, to) in runs.iter().zip([&a, &b]) {
        fs::create_dir_all(to.parent().expect("it has one")).expect("it can be made");
        fs::rename(from, to).expect("it is ours");
    }
    let output = cmaec(&["report", "a/run", "b/run"]).current_dir(folder.path()).output().expect("the binary is there");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "report.html");
    let names: Vec<Value> = data(&page(&folder.path().join("report.html")))["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .map(|run| run["name"].clone())
        .collect();
    assert_eq!(names, ["a/run", "b/run"]);
}

#[test]
fn definitions_are_compared_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("sweep");
    let short = ["--set", "train.epochs=0.1"];
    small_run(
        &out,
        &with(
            &short,
            &[
                "--sweep",
                "model.projector.hidden=24,48",
                "--sweep",
                "losses.contrastive=0.5 * info_nce(online.query, target.key, temperature),info_nce(online.query, target.key, temperature)",
            ],
        ),
    );
    let runs: Vec<PathBuf> = fs::read_dir(&out)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(runs.len(), 4);
    let html = page(&out.join("report.html"));
    let table = between(&html, "<table id=\"differences\">", "</table>");
    for part in [
        "<code>model.projector</code>",
        "<code>model.projector.hidden</code></th><td><code>24</code></td>",
        "<code>losses.contrastive</code>",
        "<code>0.5 * info_nce(online.query, target.key, temperature)</code>",
    ] {
        assert!(table.contains(part), "`{part}` is missing: {table}");
    }
    assert!(!table.contains("model.encoder"), "it is the same: {table}");
    let resolved = page(&runs[0].join("resolved.ron"));
    for part in [
        "name: \"model.encoder\"",
        "(\"embed_dim\", \"32\")",
        "name: \"online.mask\"",
        "random_mask(encoder.grid, mask_ratio)",
    ] {
        assert!(resolved.contains(part), "`{part}` is missing: {resolved}");
    }

    // As an older version left them: what it did not record is no difference, and is not said to be the same.
    for run in &runs {
        let mut program = RunFolder::open(run).and_then(|folder| folder.program()).expect("it is a run");
        program.spec.definitions.clear();
        program.spec.params.clear();
        let text = ron::to_string(&program).expect("it is plain data");
        assert!(text.contains("definitions:[],"));
        fs::write(run.join("program.ron"), text.replace("definitions:[],", "")).expect("it is ours");
    }
    let other = folder.path().join("older.html");
    let mut arguments = vec!["report", "-o", text(&other)];
    arguments.extend(runs.iter().map(|run| text(run)));
    succeed(&arguments);
    let html = page(&other);
    assert!(html.contains("All settings are the same, but the training graphs differ."), "{html}");
    assert!(html.contains("What models, branches and losses are is not compared"), "{html}");
}

#[test]
fn what_is_no_run_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let error = fail(&["report", text(&out)]);
    assert!(error.contains("there is no") && error.contains("name the folder of a run"), "{error}");
    let error = fail(&["report", text(folder.path())]);
    assert!(error.contains("is not a run folder: it has no program.ron"), "{error}");
    let (code, _, _) = run(&["report"]);
    assert_eq!(code, 2);

    small_run(&out, &[]);
    let error = fail(&["report", text(&out), text(folder.path())]);
    assert!(error.contains("is not a run folder"), "{error}");
    let error = fail(&["report", text(&out), "-o", text(&folder.path().join("no/where.html"))]);
    assert!(error.contains("cannot write") && error.contains("no/where.html") && error.contains("-o"), "{error}");

    // Damaged parts cost themselves only.
    let metrics = out.join("metrics.jsonl");
    let whole = page(&metrics);
    let lines: Vec<&str> = whole.lines().collect();
    let broken = format!("{}\nnot JSON\n{{\"step\":-1}}\n{}\n{{\"step\":9,\"lo", lines[0], lines[1..].join("\n"));
    fs::write(&metrics, broken).expect("it can be written");
    fs::write(out.join("features.json"), "{").expect("it can be written");
    fs::write(out.join("started.ron"), "(").expect("it can be written");
    fs::write(out.join("reconstructions/step-00000009.png"), "no picture").expect("it can be written");
    fs::remove_file(out.join("pipeline.cmae")).expect("a run has it");
    let (code, _, stderr) = run(&["report", text(&out)]);
    assert_eq!(code, 0, "{stderr}");
    let html = page(&out.join("report.html"));
    for part in ["3 lines of", "features.json", "started.ron", "step-00000009.png", "pipeline.cmae"] {
        assert!(stderr.contains(part), "`{part}` is missing: {stderr}");
        assert!(between(&html, "<ul class=\"warnings\">", "</ul>").contains(part), "`{part}` is missing in the page");
    }
    assert_eq!(data(&html)["runs"][0]["damaged_lines"], 3);
    assert_eq!(data(&html)["runs"][0]["step"], 8);

    fs::write(&metrics, "nothing\n").expect("it can be written");
    let error = fail(&["report", text(&out)]);
    assert!(error.contains("metrics.jsonl holds no line of a step yet, and 1 that cannot be read"), "{error}");
    fs::remove_file(&metrics).expect("it is ours");
    let error = fail(&["report", text(&out)]);
    assert!(error.contains("no line of a step yet (help: wait"), "{error}");
    // As a pipeline of another version would be.
    fs::write(out.join("program.ron"), "(of: 3)").expect("it can be written");
    let error = fail(&["report", text(&out)]);
    assert!(error.contains("of another version of this program"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_run_that_goes_on_has_a_report_and_a_killed_one_is_told_to_have_stopped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out), "--set", "train.epochs=500"]);
    let mut child = cmaec(&arguments).stderr(std::process::Stdio::null()).spawn().expect("the binary is there");
    let start = std::time::Instant::now();
    let report = out.join("report.html");
    while !report.exists() {
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "there is no report");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let status = |html: &str| data(html)["runs"][0]["status"].clone();
    assert_eq!(status(&page(&report)), "training");
    succeed(&["report", text(&out)]);
    let html = page(&report);
    assert_eq!(status(&html), "training");
    assert!(html.contains("http-equiv=\"refresh\"") && html.contains("dashed: what the settings plan"));
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    succeed(&["report", text(&out)]);
    let html = page(&report);
    assert_eq!(status(&html), "stopped");
    assert!(!html.contains("http-equiv=\"refresh\""));
}

/// A browser of this machine, if it has one: named by `CHROME`, or found on the path.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROME") {
        return Some(named.into());
    }
    on_path(&["chromium", "chromium-browser", "google-chrome"])
}

#[test]
fn a_browser_shows_the_figures() {
    let install = "apt-get install chromium, or CHROME=the path of another of its family";
    let Some(browser) = tool("chromium", browser(), install) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    small_run(&out, &[]);
    let profile = format!("--user-data-dir={}", text(&folder.path().join("profile")));
    let output = Command::new(&browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom", &profile])
        .arg(format!("file://{}", text(&out.join("report.html"))))
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout);
    assert!(dom.contains("</html>"), "{}: {}", browser.display(), String::from_utf8_lossy(&output.stderr));
    assert_figures(&dom, 0, &out);
    // The script ran to its end: it marks the charts that it serves.
    assert_eq!(dom.matches("data-live").count(), dom.matches("data-x0=").count());
    assert!(dom.matches("data-x0=").count() > 8, "the charts are there");
}

#[test]
fn what_was_learned_is_shown_of_other_pictures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let short = ["--set", "train.epochs=0.1", "--set", "evaluate.knn=none", "--out", text(&out)];
    succeed(&with(&SMALL, &short));
    assert!(!out.join("neighbours.png").exists() && !out.join("patches.png").exists(), "nothing is judged");
    let picture = folder.path().join("sheet.png");
    let said = succeed(&["show", "patches", text(&out), "--data", "data.train", "--count", "3", "-o", text(&picture)]);
    assert!(said.contains("pictures of data.train") && said.contains("3 pictures, "), "{said}");
    let dimensions = image::image_dimensions(&picture).expect("it is drawn");
    assert_eq!(dimensions.1, 2 + 3 * 130);
    // As the run hides patches, and more of them; what changes the network is refused.
    let hidden = |more: &[&str]| {
        succeed(&with(&["show", "reconstructions", text(&out), "-o", text(&picture)], more));
        image::open(&picture).expect("it is drawn").to_rgb8()
    };
    let (as_trained, harder) = (hidden(&[]), hidden(&["--set", "mask_ratio=90%"]));
    assert!(as_trained.dimensions() == harder.dimensions() && as_trained != harder);
    let said = fail(&["show", "reconstructions", text(&out), "--set", "model.encoder.depth=2", "-o", text(&picture)]);
    assert!(said.contains("other tensors than the run"), "{said}");
    let said = fail(&["show", "neighbours", text(&out), "-o", text(&picture)]);
    assert!(said.contains("judges no features") && said.contains("help: add `evaluate"), "{said}");
    let said = fail(&["show", "neighbours", "pipelines/quickstart.cmae"]);
    assert!(said.contains("not a run folder"), "{said}");
    // Of a folder: listing it starts no threads before the command's own.
    good(folder.path());
    let few = folder.path().join("good/val");
    for what in ["patches", "reconstructions"] {
        let said = succeed(&["show", what, text(&out), "--data", text(&few), "-o", text(&picture)]);
        assert!(said.contains("good/val"), "{said}");
    }
    // By t-SNE into the report, of few pictures here: of 1,500 it takes a minute in a test's build.
    let said = succeed(&["show", "map", text(&out), "--data", text(&few)]);
    assert!(said.contains("36 pictures of") && said.contains("by t-SNE"), "{said}");
    let report = fs::read_to_string(out.join("report.html")).expect("it is written anew");
    assert!(report.contains("feature map by t-SNE") && report.contains("36 pictures"));
    let said = fail(&["show", "map", text(&out), "--count", "3"]);
    assert!(said.contains("leave -o and --count out"), "{said}");
    // What a checkpoint is no part of is not written over.
    let said = fail(&["show", "patches", text(&out), "-o", text(&out.join("report.html"))]);
    assert!(said.contains("cannot write"), "{said}");
}
