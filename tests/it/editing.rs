//! Random edits of documents: the server's text is the editor's, and every question is answered.
//!
//! `CMAE_INPUTS=100000 cargo test --release --test it editing:: -- --nocapture` tries more of them.

use serde_json::json;

use crate::cases::Noise;
use crate::command::{pipelines, root};
use crate::editor::Client;
use crate::edits::{agree, serve};

/// How many texts are drawn.
fn inputs(few: usize) -> usize {
    std::env::var("CMAE_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

fn bytes(noise: &mut Noise, most: usize) -> Vec<u8> {
    let length = 1 + noise.below(most);
    (0..length).map(|_| noise.below(256) as u8).collect()
}

#[test]
fn the_text_of_the_server_is_that_of_the_editor() {
    let mut noise = Noise(11);
    for _ in 0..inputs(2000) {
        agree("α = 1\r\nβ = 𝜆\rγ\n", &bytes(&mut noise, 200));
    }
}

#[test]
fn every_question_about_a_text_that_is_being_edited_is_answered() {
    let texts = ["pipelines/quickstart.cmae", "pipelines/dino_vitb.cmae", "stdlib/heads.cmae"]
        .map(|path| std::fs::read_to_string(root(path)).unwrap_or_else(|_| panic!("{path} is in the repository")));
    let mut noise = Noise(12);
    let asked: usize = (0..inputs(300).div_ceil(100)).map(|at| serve(&texts[at % 3], &bytes(&mut noise, 200))).sum();
    println!("{asked} questions");
}

/// What the compiler itself asks for by name.
const READ_BY_NAME: [&str; 3] = ["train", "val", "features"];

/// Renames all that a pipeline defines, one after the other: what is wrong then was wrong before.
fn rename_all(name: &str) -> usize {
    let mut client = Client::new("utf-16");
    client.uri = format!("file://{}", root(&format!("pipelines/{name}.cmae")).display());
    let text = std::fs::read_to_string(root(&format!("pipelines/{name}.cmae"))).expect("it is in the repository");
    let before = client.open(&text).len();
    let mut renamed = 0;
    for at in 0.. {
        let symbols = client.ask("textDocument/documentSymbol", json!({ "textDocument": { "uri": client.uri } }));
        let Some(symbol) = symbols.get(at).cloned() else { break };
        let old = symbol["name"].as_str().expect("a name").to_owned();
        if READ_BY_NAME.contains(&&*old) {
            continue;
        }
        let (place, new) = (&symbol["selectionRange"]["start"], format!("new_{old}_{at}"));
        let params = json!({ "textDocument": { "uri": client.uri }, "position": place, "newName": new });
        let edits = client.ask("textDocument/rename", params)["changes"][&client.uri].clone();
        let found = client.apply(edits.as_array().expect("edits"));
        assert_eq!(found.len(), before, "{name}: `{old}`: {found:?}\n{}", client.text);
        renamed += 1;
    }
    assert_eq!(client.leave(), Some(0));
    renamed
}

#[test]
fn all_that_a_pipeline_defines_can_be_renamed() {
    for (name, least) in [("quickstart", 20), ("dino_vitb", 20)] {
        let renamed = rename_all(name);
        assert!(renamed >= least, "{name}: {renamed} names");
    }
}

#[test]
#[ignore = "a minute: every pipeline, name by name"]
fn all_that_any_pipeline_defines_can_be_renamed() {
    let renamed: usize = pipelines().iter().map(|name| rename_all(name)).sum();
    println!("{renamed} names");
}
