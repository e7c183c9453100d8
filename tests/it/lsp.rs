//! `cmaec lsp`, asked by an editor: errors as one types, shapes, definitions, completion, renaming, layout, and messages that are none.

use std::io::Write;

use serde_json::{Value, json};

use crate::command::root;
use crate::editor::Client;

fn quickstart() -> String {
    std::fs::read_to_string(root("pipelines/quickstart.cmae")).expect("it is in the repository")
}

/// The first help line of what is told.
fn told(problems: &[Value]) -> Vec<&str> {
    problems.iter().map(|problem| problem["message"].as_str().unwrap_or_default()).collect()
}

#[test]
fn an_error_appears_is_mended_by_its_help_line_and_is_gone() {
    let mut client = Client::new("utf-16");
    assert_eq!(told(&client.open(&quickstart())), Vec::<&str>::new());
    let problems = client.replace("mask_ratio      = 50%", "mask_ratio      = 50");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((&problems[0]["code"], &problems[0]["severity"]), (&json!("unit::wrong_unit"), &json!(1)));
    let actions = client.actions();
    let titles: Vec<&str> = actions.iter().map(|action| action["title"].as_str().unwrap_or_default()).collect();
    assert_eq!(titles, ["write `50%`"]);
    let edits = actions[0]["edit"]["changes"][&client.uri].as_array().expect("edits of the document").clone();
    assert_eq!(told(&client.apply(&edits)), Vec::<&str>::new());
    assert_eq!(client.text, quickstart());
    // A syntax error's edit, with a letter of two units of UTF-16 before it on its line.
    let problems = client.replace("export =", "/* 𝜆 */ export =");
    assert!(!problems.is_empty());
    let problems = client.replace("/* 𝜆 */ export =", "export =");
    assert_eq!(told(&problems), Vec::<&str>::new());
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn hovers_hints_and_definitions_know_shapes_comments_and_the_library() {
    let mut client = Client::new("utf-16");
    client.open(&quickstart());
    assert!(
        client.hover("latent = encoder", 0).contains("tokens: float [64, 9, 96]"),
        "{}",
        client.hover("latent = encoder", 0)
    );
    assert!(client.hover("vit(", 1).contains("block vit(image_size: size"), "{}", client.hover("vit(", 1));
    assert!(client.hover("mask_ratio ", 1).contains("50%"));
    assert!(client.hover("epochs ", 1).contains("passes over"));
    assert!(client.hover("50%", 1).contains("A ratio"));
    assert!(client.hover("embed_dim: 96", 2).contains("embed_dim: int"), "{}", client.hover("embed_dim: 96", 2));
    let params = client.at("vit(", 1);
    let place = client.ask("textDocument/definition", params);
    let path = place["uri"].as_str().and_then(|uri| uri.strip_prefix("file://")).expect("a file").to_owned();
    let text = std::fs::read_to_string(path).expect("the library was written out");
    let line = place["range"]["start"]["line"].as_u64().expect("a line") as usize;
    assert!(text.lines().nth(line).is_some_and(|line| line.starts_with("block vit(")));
    let params = client.at("online.query", 8);
    let place = client.ask("textDocument/definition", params);
    assert_eq!(client.byte(&place["range"]["start"]), client.text.find("query ").expect("it is defined"));
    let params = client.at("encoder ", 1);
    let uses = client.ask("textDocument/references", params);
    assert!(uses.as_array().is_some_and(|uses| uses.len() >= 5), "{uses}");
    let range = client.range(0, client.text.len());
    let hints = client.ask("textDocument/inlayHint", json!({ "textDocument": { "uri": client.uri }, "range": range }));
    let labels: Vec<&str> =
        hints.as_array().expect("a list").iter().filter_map(|hint| hint["label"].as_str()).collect();
    assert!(labels.contains(&": [64, 16, 16]") && labels.contains(&": []"), "{labels:?}");
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn completion_offers_arguments_units_fields_settings_and_operations() {
    let mut client = Client::new("utf-16");
    client.open(&quickstart());
    let has = |offers: &[String], wanted: &[&str]| wanted.iter().all(|label| offers.iter().any(|offer| offer == label));
    client.replace("num_heads: 4)", "num_heads: 4, )");
    let offers = client.completions("num_heads: 4, ");
    assert!(has(&offers, &["mlp_ratio:", "norm_eps:", "image_size"]) && !has(&offers, &["depth:"]), "{offers:?}");
    client.replace("num_heads: 4, )", "num_heads: 4)");
    assert!(has(&client.completions("mask_ratio      = 50"), &["%", "px", "epochs", "steps"]));
    client.replace("info_nce(online.query, ", "info_nce(online., ");
    assert!(has(&client.completions("info_nce(online."), &["query", "mask", "latent"]));
    client.replace("info_nce(online., ", "info_nce(op::, ");
    assert!(has(&client.completions("op::"), &["linear", "softmax", "geometry"]));
    client.replace("info_nce(op::, ", "info_nce(online.query, ");
    client.replace("  train {\n", "  train {\n    re\n");
    assert!(has(&client.completions("  train {\n    re"), &["recompute", "residual", "parameters"]));
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn a_name_is_renamed_wherever_it_stands_and_a_text_is_laid_out() {
    let mut client = Client::new("utf-16");
    client.open(&quickstart());
    for (name, new) in [("encoder ", "body"), ("image_size ", "side"), ("online {", "seen"), ("latent ", "codes")] {
        let mut params = client.at(name, 1);
        params["newName"] = new.into();
        let edits =
            client.ask("textDocument/rename", params)["changes"][&client.uri].as_array().expect("edits").clone();
        assert!(edits.len() > 1, "{name}: {edits:?}");
        assert_eq!(told(&client.apply(&edits)), Vec::<&str>::new(), "{}", client.text);
    }
    assert!(client.text.contains("vit(image_size: side"), "{}", client.text);
    let mut params = client.at("vit(", 1);
    params["newName"] = "mine".into();
    assert!(client.answer("textDocument/rename", params)["error"]["message"].is_string());
    let problems = client.replace("  data {", "      data   {");
    assert_eq!(told(&problems), Vec::<&str>::new());
    let format = json!({ "textDocument": { "uri": client.uri }, "options": { "tabSize": 2, "insertSpaces": true } });
    let edits = client.ask("textDocument/formatting", format).as_array().expect("edits").clone();
    client.apply(&edits);
    assert!(client.text.contains("\n  data {\n"));
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn bad_messages_are_answered_or_logged_and_the_server_goes_on() {
    let mut client = Client::new("utf-16");
    client.open(&quickstart());
    for text in ["{", "[]", "null", "{\"jsonrpc\":\"2.0\"}"] {
        client.send_text(text);
    }
    assert_eq!(client.answer("textDocument/nothing", json!({}))["error"]["code"], -32601);
    assert_eq!(client.answer("textDocument/hover", json!({ "position": "here" }))["error"]["code"], -32602);
    let elsewhere =
        json!({ "textDocument": { "uri": "file:///nowhere.cmae" }, "position": { "line": 0, "character": 0 } });
    assert_eq!(client.answer("textDocument/hover", elsewhere)["error"]["code"], -32602);
    client.tell(
        "textDocument/didChange",
        json!({ "textDocument": { "uri": "file:///nowhere.cmae" }, "contentChanges": [] }),
    );
    let far = json!({ "line": 4_000_000_000_u32, "character": 4_000_000_000_u32 });
    for method in ["hover", "completion", "definition", "prepareRename", "signatureHelp"] {
        let params = json!({ "textDocument": { "uri": client.uri }, "position": far });
        client.ask(&format!("textDocument/{method}"), params);
    }
    // Behind the end, from the end to the start, with the line ends of Windows and letters beyond the first plane.
    let ends = [(far.clone(), far.clone()), (far.clone(), json!({ "line": 0, "character": 0 }))];
    for (start, end) in ends {
        client.version += 1;
        let change = json!({ "range": { "start": start, "end": end }, "text": "pipeline 𝜆 {\r\n\u{0}\u{feff}" });
        let document = json!({ "uri": client.uri, "version": client.version });
        client.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": [change] }));
        assert!(!client.problems().is_empty());
    }
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn a_burst_of_edits_is_checked_once() {
    let mut client = Client::new("utf-16");
    client.open(&quickstart());
    let document = |version| json!({ "uri": client.uri, "version": version });
    // In one write, so that they wait together.
    let changes: Vec<Value> = (2..52)
        .map(|version| {
            let range = client.range(0, 0);
            json!({
                "jsonrpc": "2.0", "method": "textDocument/didChange",
                "params": { "textDocument": document(version), "contentChanges": [{ "range": range, "text": "/" }] },
            })
        })
        .collect();
    let bytes: String = changes.iter().map(|m| format!("Content-Length: {}\r\n\r\n{m}", m.to_string().len())).collect();
    client.stdin.as_mut().expect("it is open").write_all(bytes.as_bytes()).expect("the server reads");
    let mut checks = 0;
    loop {
        let told = client.hear(|message| message["method"] == "textDocument/publishDiagnostics");
        checks += 1;
        if told["params"]["version"] == 51 {
            break;
        }
    }
    assert!(checks < 20, "{checks} checks of 50 texts");
    assert_eq!(client.leave(), Some(0));
}
