//! Files that are no text of the language, and paths as people write them: each error says what to write.

use std::path::Path;

use cmae::diag::{Code, Diagnostics};
use cmae::elab::Set;
use cmae::source::Sources;

use crate::command::root;

/// Code, message, place and help of the first error of a file beside the shipped pipelines.
fn said(contents: impl AsRef<[u8]>, sets: &[&str]) -> Option<(Code, String)> {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let path = Path::new("pipelines/example.cmae");
    sources.add_file(path, contents);
    let sets: Vec<Set> = sets.iter().map(|set| Set::from(*set)).collect();
    let _ = cmae::compile(&mut sources, &mut diagnostics, path, &sets);
    diagnostics.list().first().map(|diagnostic| {
        let place = diagnostic.labels.first().map_or("", |(span, _)| sources.slice(*span));
        let help = diagnostic.help.as_deref().unwrap_or_default();
        (diagnostic.code, format!("{} at <{place}>: {help}", diagnostic.message))
    })
}

fn expect(contents: impl AsRef<[u8]>, sets: &[&str], code: Code, parts: &[&str]) {
    let (found, drawn) = said(contents, sets).unwrap_or_else(|| panic!("{parts:?}: it compiles"));
    assert_eq!(found, code, "{drawn}");
    parts.iter().for_each(|part| assert!(drawn.contains(part), "`{part}` is not in {drawn}"));
}

/// A variant of the quickstart with one change.
fn with(change: &str) -> String {
    format!("use pipeline quickstart\n\npipeline example = quickstart with {{\n  {change}\n}}\n")
}

#[test]
fn a_file_in_another_encoding_says_how_to_convert_it() {
    let text = with("mask_ratio = 60%");
    assert_eq!(said(&text, &[]), None);
    assert_eq!(said(format!("\u{feff}{text}"), &[]), None, "a mark is read over");
    assert_eq!(said(text.replace('\n', "\r\n"), &[]), None);
    assert_eq!(said(text.replace('\n', "\r"), &[]), None);
    let little = text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let big = text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let typed = "type `iconv -f UTF-16 -t UTF-8 pipelines/example.cmae > pipelines/example_utf8.cmae`";
    for bytes in [[&[0xff, 0xfe], &little[..]].concat(), [&[0xfe, 0xff], &big[..]].concat(), little, big] {
        expect(bytes, &[], Code::Encoding, &["is in UTF-16, wanted is UTF-8", typed]);
    }
    let mut bytes = with("data.train = image_folder(\"data\")").into_bytes();
    bytes.iter_mut().filter(|byte| **byte == b'"').for_each(|byte| *byte = 0x93);
    expect(bytes, &[], Code::Encoding, &["0x93 is a curly quote of Windows-1252", "at <\u{fffd}>", "write it as `\"`"]);
    expect(b"// \xe9t\xe9\n", &[], Code::Encoding, &["0xe9 is no UTF-8", "iconv -f WINDOWS-1252"]);
    expect(text.replace("60", "6\0"), &[], Code::Encoding, &["a byte 0 stands in the text", "tr -d '\\000'"]);
    expect("// long\n".repeat(100_000), &[], Code::TooLong, &["has more than 200000 bytes"]);
    expect(with(&format!("{} = 1", "a".repeat(101))), &[], Code::TooLong, &["a name of 101 letters, 100 are the most"]);
    expect("", &[], Code::NoPipeline, &["holds no pipeline", "write `pipeline NAME { … }`"]);
    for code in [Code::TooLong, Code::Encoding] {
        let section = code.explanation().expect("every code has a section");
        let message = section.split("× ").nth(1).and_then(|rest| rest.lines().next()).expect("it shows a message");
        let (_, drawn) = match code {
            Code::TooLong => said("// long\n".repeat(100_000), &[]),
            _ => said(with("").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(), &[]),
        }
        .expect("it does not compile");
        assert!(drawn.contains(message), "`{message}` is not in {drawn}");
    }
}

#[test]
fn letters_of_word_processors_say_what_to_write() {
    let letter = |change: &str, help: &str| expect(with(change), &[], Code::Letter, &[help]);
    letter("data.train = image_folder(“data”)", "write `\"data\"`");
    letter("data.train = image_folder('data')", "write `\"data\"`");
    letter("mask_ratio = 80% − 20%", "write `-`");
    letter("mask_ratio = 0.5 × 100%", "write `*`");
    letter("mask_ratio =\u{a0}60%", "(U+00A0)");
    letter("mask_\u{200b}ratio = 60%", "remove it");
}

#[test]
fn a_folder_is_no_file() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    assert!(cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines"), &[]).is_err());
    let [diagnostic] = diagnostics.list() else { panic!("{diagnostics:?}") };
    assert_eq!(diagnostic.message, "pipelines is a folder, not a pipeline's file");
    assert_eq!(diagnostic.help.as_deref(), Some("name a file in it, such as `pipelines/attentive_vitb.cmae`"));
}

#[test]
fn paths_as_people_write_them_say_what_to_write() {
    let home = std::env::home_dir().map_or("/home/NAME".to_owned(), |home| home.display().to_string());
    let folder = |path: &str| format!("image_folder(\"{path}\")");
    let source = "wants a source of pictures";
    for (written, code, part, path) in [
        ("image_folder(\"~/data/train\")", Code::DataPath, "`~` stands for", format!("{home}/data/train")),
        ("image_folder(\"D:\\data\\train\")", Code::DataPath, "one on Windows alone", "D:/data/train".into()),
        ("image_folder(\"\")", Code::DataPath, "a path is empty", "data/train".into()),
        ("image_folder(data/pictures/train)", Code::DataPath, "without quotes", "data/pictures/train".into()),
        ("image_folder(pictures)", Code::DataPath, "without quotes", "pictures".into()),
        ("image_folder(/data/train)", Code::UnexpectedToken, "a path stands in quotes", "/data/train".into()),
        ("image_folder(~/data/train)", Code::UnexpectedToken, "a path stands in quotes", "~/data/train".into()),
        ("image_folder(./data/train)", Code::UnexpectedToken, "a path stands in quotes", "./data/train".into()),
        ("image_folder(D:\\data\\train)", Code::UnexpectedToken, "a path stands in quotes", "D:/data/train".into()),
        ("\"data/train\"", Code::WrongType, source, "data/train".into()),
        ("\"D:\\data\"", Code::WrongType, source, "D:/data".into()),
        ("data/train", Code::WrongType, source, "data/train".into()),
        ("pictures", Code::WrongType, source, "pictures".into()),
    ] {
        let in_file = with(&format!("data.train = {written}"));
        expect(in_file, &[], code, &[part, &folder(&path)]);
        expect(with(""), &[&format!("data.train={written}")], code, &[part, &folder(&path)]);
    }
    // A backslash takes the quote that should end the string.
    let help = "write the path with `/`, as `\"D:/data\"`";
    expect(with("data.train = image_folder(\"D:\\data\\\")"), &[], Code::OpenString, &["no end on its line", help]);
    expect(with("data.train = image_folder(\"data)"), &[], Code::OpenString, &["write the second quote: `\"data\"`"]);
    // The shell takes the quotes away, and would take those of the help too, were they not in others.
    let typed = "type `--set 'data.train=image_folder(\"pictures/train\")'`";
    expect(with(""), &["data.train=pictures/train"], Code::WrongType, &[typed]);
    expect(with("data.batchsize = \"12\""), &[], Code::UnknownSetting, &["did you mean `batch_size`"]);
}
