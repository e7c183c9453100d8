//! No file brings a source down: mutations of one file of each kind of source, opened and read to its end.

use std::path::Path;

use cmae::data::source;
use cmae::spec::SourceSpec;

use crate::made::{self, Made, write};
use crate::{HELD, MAX_PIXELS, MOST, MOST_BYTES, Noise, mutated};

/// Memory that a source may take beside what hangs on its files: tables, names, a decoder's window.
const ASIDE: usize = 4 << 20;
/// Bytes for each byte of the files: what gzip makes of one at most, and a buffer that grows.
const EACH: usize = 2 * 1032;

/// How a mutated source ended: refused when it was opened, or read with so many broken pictures.
enum End {
    Refused,
    Read { broken: usize },
}

fn read(made: &Made, root: &Path) -> End {
    let source = match source::open(&made.spec(root), made.channels, MAX_PIXELS) {
        Ok(source) => source,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty() && !message.contains('\n'), "{}: {message}", made.name);
            assert!(error.help().is_some_and(|help| !help.is_empty()), "{}: {message}", made.name);
            return End::Refused;
        }
    };
    let mut broken = 0;
    for index in 0..source.len() {
        match source.image(index) {
            Ok(image) => {
                assert_eq!(image.channels, made.channels, "{}", made.name);
                assert!(image.height * image.width <= MAX_PIXELS, "{}", made.name);
            }
            Err(reason) => {
                assert!(!reason.is_empty() && !reason.contains('\n'), "{}: {reason}", made.name);
                assert!(!source.name(index).is_empty());
                broken += 1;
            }
        }
        let known = source.classes().len() as i64;
        assert!(source.label(index).is_none_or(|label| (0..known).contains(&label)), "{}", made.name);
    }
    source.fingerprint();
    End::Read { broken }
}

/// Mutates a file of each kind of source `count` times.
fn try_mutations(count: usize, seed: u64) {
    let sources = made::sources();
    let others: Vec<&Vec<u8>> = sources.iter().flat_map(|made| made.files.iter().map(|(_, bytes)| bytes)).collect();
    for (index, made) in sources.iter().enumerate() {
        let place = tempfile::tempdir().expect("a temporary folder");
        made.write(place.path());
        assert!(matches!(read(made, place.path()), End::Read { broken: 0 }), "{} is whole", made.name);
        let mut noise = Noise(seed + index as u64);
        let (mut refused, mut with_broken, mut whole) = (0, 0, 0);
        for number in 0..count {
            let (name, bytes) = &made.files[noise.below(made.files.len())];
            let changed = mutated(bytes, others[noise.below(others.len())], &mut noise);
            write(&place.path().join(name), &changed);
            let length: usize = made.files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + changed.len();
            let before = HELD.get();
            MOST.set(before);
            match read(made, place.path()) {
                End::Refused => refused += 1,
                End::Read { broken: 0 } => whole += 1,
                End::Read { .. } => with_broken += 1,
            }
            let most = MOST.get() - before;
            // A picture's header may claim what the limit on pixels allows, whatever its file is.
            let decodes = matches!(
                made.spec(place.path()),
                SourceSpec::ImageFolder { .. } | SourceSpec::Parquet { .. } | SourceSpec::TarShards { .. }
            );
            let aside = if decodes { MOST_BYTES } else { ASIDE as isize };
            assert!(most <= aside + (EACH * length) as isize, "{} {number}: {most} bytes of {length}", made.name);
            write(&place.path().join(name), bytes);
        }
        println!("{}: {refused} refused, {with_broken} read with broken pictures, {whole} read", made.name);
        assert!(refused + with_broken > count / 20 && whole > 0, "{}: all too mild or wild", made.name);
    }
}

#[test]
fn no_file_brings_a_source_down() {
    try_mutations(200, 3);
}

/// `cargo test --release --test decode -- --ignored --nocapture`: 10,000 of each.
#[test]
#[ignore = "minutes"]
fn no_file_of_ten_thousand_of_each_kind_brings_a_source_down() {
    try_mutations(10_000, 1 << 40);
}
