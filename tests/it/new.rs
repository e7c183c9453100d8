//! `cmaec new`: what it writes compiles, is laid out, and names the pictures that it was given.

use std::fs;
use std::path::Path;

use crate::command::{fail, succeed};
use crate::runs::text;

fn image(path: &Path) {
    fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder can be made");
    image::RgbImage::from_pixel(8, 8, image::Rgb([1, 2, 3])).save(path).expect("a picture can be written");
}

#[test]
fn it_lists_what_comes_with_the_program() {
    let listed = succeed(&["new"]);
    for name in ["cmae_vitb", "dino_vitb", "quickstart"] {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name} ")) && line.len() > 40), "{listed}");
    }
    assert!(fail(&["new", "mae_vit"]).contains("did you mean `mae_vit"), "{}", fail(&["new", "mae_vit"]));
}

/// A method with one file, a variant of another, one with a function, one that imports another's modules.
#[test]
fn what_it_writes_compiles_and_is_laid_out() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let pictures = place.path().join("pictures");
    image(&pictures.join("train/a/1.png"));
    image(&pictures.join("val/a/1.png"));
    for method in ["cmae_vitb", "cmae_vitl", "crossmae_vitb", "peco_vitb", "quickstart"] {
        for variant in [false, true] {
            let file = place.path().join(format!("{method}_{variant}.cmae"));
            let arguments = ["new", method, "-o", text(&file), "--data", text(&pictures)];
            let told = succeed(&[&arguments[..], if variant { &["--variant"] } else { &[] }].concat());
            assert!(told.contains("cmaec run"), "{told}");
            let written = fs::read_to_string(&file).expect("it was written");
            let named = format!("image_folder(\"{}/train\")", pictures.display());
            assert_eq!(written.matches(&named).count(), 1, "{written}");
            assert!(written.contains(&format!("cmaec run {}", file.display())), "{written}");
            succeed(&["check", text(&file)]);
            succeed(&["fmt", "--check", text(&file)]);
            // Nothing is written over.
            assert!(fail(&arguments).contains("is there already"));
        }
    }
}

#[test]
fn bad_names_and_places_are_told() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| place.path().join(name).display().to_string();
    assert!(fail(&["new", "mae_vitb", "-o", &path("mine.txt")]).contains("mine.cmae"));
    assert!(fail(&["new", "mae_vitb", "-o", &path("pipeline.cmae")]).contains("word of the language"));
    assert!(fail(&["new", "mae_vitb", "-o", &path("a.cmae"), "--data", &path("nowhere")]).contains("nowhere"));
    assert!(!place.path().join("a.cmae").exists());
    succeed(&["new", "mae_vitb", "-o", &path("2-tries.cmae")]);
    assert!(fs::read_to_string(path("2-tries.cmae")).expect("it is there").contains("pipeline _2_tries {"));
}

#[test]
fn shells_and_manuals_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeed(&["completions", shell]).contains("features"), "{shell}");
    }
    let place = tempfile::tempdir().expect("a folder can be made");
    succeed(&["man", "-o", text(place.path())]);
    let page = fs::read_to_string(place.path().join("cmaec-run.1")).expect("a page of `run`");
    assert!(page.contains("resume"), "{page}");
}
