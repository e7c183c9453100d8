//! `cmaec check`: files and folders, its formats, its exit codes.

use std::path::Path;

use serde_json::Value;

use crate::cases::file;
use crate::command::{fail, run};

/// Three files of a pipeline each, one of them right, and one of blocks alone.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let quickstart = include_str!("../lang/quickstart.cmae");
    let renamed = |name: &str| quickstart.replace("pipeline quickstart", &format!("pipeline {name}"));
    let write = |name: &str, text: String| file(&folder.path().join(name), text.as_bytes());
    write(
        "a.cmae",
        renamed("a").replace("batch_size = 64", "batch_size: 64").replace("projector |> pred", "projecter |> pred"),
    );
    write("b.cmae", renamed("b"));
    write("deep/c.cmae", renamed("c").replace("warmup: 10%", "warmup: 400 epochs"));
    write("parts.cmae", "fn half(x: [B, D]) -> [B, D] { x * 0.5 }\n".into());
    write("deep/notes.txt", "no pipeline".into());
    folder
}

fn check(folder: &Path, more: &[&str]) -> (i32, String, String) {
    let path = folder.display().to_string();
    let (code, out, err) = run(&[&["check"], more, &[&path]].concat());
    let plain = |text: String| text.replace(&format!("{path}/"), "");
    (code, plain(out), plain(err))
}

#[test]
fn folders_are_checked_in_the_order_of_names() {
    let folder = folder();
    let (code, out, err) = check(folder.path(), &[]);
    assert_eq!(
        (code, out.as_str()),
        (1, "b.cmae: ok\ndeep/c.cmae: ok\nparts.cmae: ok\n4 files: 3 are ok, 2 errors, 1 warning\n")
    );
    let places: Vec<usize> = ["a.cmae:30", "a.cmae:55", "deep/c.cmae"].iter().map(|p| err.find(p).expect(p)).collect();
    assert!(places.is_sorted(), "{err}");
    let (code, out, _) = check(folder.path(), &["--deny", "warnings"]);
    assert_eq!((code, out.as_str()), (1, "b.cmae: ok\nparts.cmae: ok\n4 files: 2 are ok, 2 errors, 1 warning\n"));
    let (code, out, _) = check(&folder.path().join("deep"), &[]);
    assert_eq!(code, 0, "a warning is no failure: {out}");
    // A file that is named twice is one file.
    let path = folder.path().join("b.cmae").display().to_string();
    let (code, out, err) = run(&["check", &path, &path]);
    assert_eq!((code, out, err), (0, format!("{path}: ok\n"), String::new()));
    let empty = tempfile::tempdir().expect("a temporary folder");
    let error = fail(&["check", &empty.path().display().to_string()]);
    assert!(error.contains("holds no .cmae file") && error.contains("help:"), "{error}");
}

#[test]
fn a_mistake_of_a_file_that_several_use_is_told_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let quickstart = include_str!("../lang/quickstart.cmae");
    file(&folder.path().join("quickstart.cmae"), quickstart.replace("channels   = 1", "channels   : 1").as_bytes());
    for name in ["x", "y"] {
        let text = format!("use pipeline quickstart\n\npipeline {name} = quickstart with {{ mask_ratio = 60% }}\n");
        file(&folder.path().join(format!("{name}.cmae")), text.as_bytes());
    }
    let (code, out, err) = check(folder.path(), &[]);
    assert_eq!((code, out.as_str()), (1, "3 files: 0 are ok, 1 error, 0 warnings\n"), "{err}");
    assert_eq!(err.matches("syntax::separator").count(), 1, "{err}");
}

#[test]
fn json_is_an_object_a_line() {
    let folder = folder();
    let (code, out, err) = check(folder.path(), &["--format", "json"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let told: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let codes: Vec<&str> = told.iter().filter_map(|told| told["code"].as_str()).collect();
    assert_eq!(codes, ["syntax::separator", "name::unknown_name", "warning::warmup_unfinished"]);
    let label = &told[0]["labels"][0];
    assert_eq!((label["line"].as_u64(), label["column"].as_u64()), (Some(30), Some(15)));
    assert_eq!((label["end_line"].as_u64(), label["end_column"].as_u64()), (Some(30), Some(16)));
    assert_eq!(check(folder.path(), &["--json"]).1, out);
}

#[test]
fn sarif_has_what_its_schema_requires() {
    let folder = folder();
    let (code, out, err) = check(folder.path(), &["--format", "sarif"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let log: Value = serde_json::from_str(&out).expect("one log");
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().is_some_and(|schema| schema.contains("sarif-2.1.0")), "{log}");
    let runs = log["runs"].as_array().expect("runs is required");
    assert_eq!(runs.len(), 1);
    let driver = &runs[0]["tool"]["driver"];
    assert_eq!(driver["name"], "cmaec");
    let rules = driver["rules"].as_array().expect("the rules that results name");
    let results = runs[0]["results"].as_array().expect("results");
    assert_eq!(results.len(), 3);
    for result in results {
        let text = result["message"]["text"].as_str().expect("a message is required");
        assert!(!text.is_empty());
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().expect("a level")), "{result}");
        let rule = &rules[result["ruleIndex"].as_u64().expect("an index") as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        for text in [&rule["shortDescription"]["text"], &rule["help"]["text"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
        let related = result["relatedLocations"].as_array().cloned().unwrap_or_default();
        for location in result["locations"].as_array().expect("locations").iter().chain(&related) {
            let place = &location["physicalLocation"];
            let uri = place["artifactLocation"]["uri"].as_str().expect("a file");
            assert!(uri.ends_with(".cmae") && !uri.contains([' ', '\\']), "{uri}");
            let at = |name: &str| place["region"][name].as_u64().expect(name);
            assert!(at("startLine") >= 1 && at("startColumn") >= 1, "{place}");
            assert!((at("endLine"), at("endColumn")) >= (at("startLine"), at("startColumn")), "{place}");
        }
    }
    assert!(results[0]["message"]["text"].as_str().is_some_and(|text| text.contains("help: write `batch_size = 64`")));
    // A log without results is one too.
    let (code, out, _) = check(&folder.path().join("b.cmae"), &["--format", "sarif"]);
    let log: Value = serde_json::from_str(&out).expect("one log");
    assert_eq!((code, log["runs"][0]["results"].as_array().map(Vec::len)), (0, Some(0)));
}

#[test]
fn github_is_a_command_a_line() {
    let folder = folder();
    let (code, out, err) = check(folder.path(), &["--format", "github"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(
        lines[0],
        "::error file=a.cmae,line=30,col=15,endLine=30,endColumn=16,title=syntax%3A%3Aseparator::a setting takes `=`, not `:`\
         %0Ahelp: write `batch_size = 64`"
    );
    assert!(lines[2].starts_with("::warning file=deep/c.cmae,line="), "{out}");
}

#[test]
fn usage_is_told() {
    assert_eq!(run(&["check"]).0, 2);
    assert_eq!(run(&["check", "--format", "xml", "pipelines"]).0, 2);
    assert_eq!(run(&["check", "--deny", "errors", "pipelines"]).0, 2);
}
