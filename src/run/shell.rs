//! Words of a command line as a POSIX shell takes them: for lines that are printed to be typed.

use std::path::Path;

/// `text` as one word, in quotes where it has to be.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.=%:/,+@".contains(c);
    // A word of nothing would be no word.
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// A path as one word that no command takes for an option.
pub fn path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.starts_with('-') { word(&format!("./{text}")) } else { word(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 12] = [
        "a.b=60%",
        "",
        "a=f(1, 2)",
        "a='x'",
        "'",
        "''\\'\"",
        "data.train=image_folder(\"my pictures/é\")",
        "a\nb\t",
        "$HOME `id` $(id) !x",
        "~/runs/*?[a]{b,c}",
        "#no comment; a & b | c > d < e",
        "=ls",
    ];

    #[test]
    fn words_are_quoted_where_they_have_to_be() {
        let cases = [("a.b=60%", "a.b=60%"), ("a=f(1, 2)", "'a=f(1, 2)'"), ("a='x'", "'a='\\''x'\\'''"), ("", "''")];
        cases.iter().for_each(|(text, quoted)| assert_eq!(word(text), *quoted));
        assert_eq!(path(Path::new("-x y")), "'./-x y'");
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_them_as_they_were() {
        let line = WORDS.map(word).join(" ");
        let printed = std::process::Command::new("sh").arg("-c").arg(format!("printf '%s\\0' {line}")).output();
        let printed = printed.expect("every Unix has a shell").stdout;
        let found: Vec<&[u8]> = printed.split(|byte| *byte == 0).take(WORDS.len()).collect();
        assert_eq!(found, WORDS.map(str::as_bytes));
    }
}
