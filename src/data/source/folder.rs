//! A folder of picture files: one folder a class, or all in one folder and without classes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::files::{self, Files};
use super::listing::Wanted;
use super::noticed::{Noticed, Of};
use super::{DataError, Identity, Image, LabelMap, Opening, Source, Writes};
use crate::data::decode::{self, Reading};
use crate::spec::LabelMaps;

/// Pictures that are looked at as a source is opened, for values of 16 bits.
const LOOKED_AT: usize = 16;

pub(super) struct ImageFolder {
    files: Files,
    label_maps: Option<LabelMaps>,
    reading: Reading,
    noticed: Noticed,
}

impl ImageFolder {
    /// Lists `root/CLASS/**/FILE`, or `root/FILE` where the pictures lie in `root` itself.
    pub(super) fn open(
        root: &Path,
        label_maps: Option<&LabelMaps>,
        reading: Reading,
        opening: Opening<'_>,
    ) -> Result<ImageFolder, DataError> {
        if let Some(maps) = label_maps {
            super::is_folder(Path::new(&maps.path))?;
        }
        let files = Files::list(root, Wanted::Pictures, opening)?;
        let source = ImageFolder { files, label_maps: label_maps.cloned(), reading, noticed: Noticed::default() };
        source.find_label_maps()?;
        source.look();
        Ok(source)
    }

    /// Refuses a folder in which none of the pictures that are looked at has a label map: it is another one.
    fn find_label_maps(&self) -> Result<(), DataError> {
        let count = LOOKED_AT.min(self.len());
        let looked_at = (0..count).map(|i| i * self.len() / count);
        let paths: Vec<(usize, PathBuf)> = looked_at.filter_map(|at| Some((at, self.label_map_path(at)?))).collect();
        match paths.iter().any(|(_, path)| path.is_file()) {
            true => Ok(()),
            false => paths
                .into_iter()
                .next()
                .map_or(Ok(()), |(at, path)| Err(DataError::NoLabelMaps { picture: self.files.path(at), path })),
        }
    }

    /// Where the classes of a picture's pixels are; `None` where pictures have no label maps.
    fn label_map_path(&self, index: usize) -> Option<PathBuf> {
        let maps = self.label_maps.as_ref()?;
        Some(Path::new(&maps.path).join(self.files.place(index)).with_extension("png"))
    }

    /// Decodes some pictures whose values may have 16 bits, so that what is lost is told before it is trained on.
    fn look(&self) {
        let count = LOOKED_AT.min(self.len());
        for index in (0..count).map(|i| i * self.len() / count) {
            let mut head = Vec::new();
            let read = File::open(self.files.path(index)).and_then(|file| file.take(32).read_to_end(&mut head));
            if read.is_ok() && decode::may_be_deep(&head) {
                // One that is broken is told when it is met.
                let _ = self.image(index);
            }
        }
    }
}

impl Source for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let bytes = self.files.bytes(index, self.reading.most_bytes())?;
        let decode::Decoded { image, deep } = decode::decode(&bytes, self.reading)?;
        if let Some(deep) = deep {
            let call = format!("image_folder(\"{}\"", self.files.root().display());
            let (low, high) = self.reading.range.unwrap_or((0, u16::MAX));
            let of = Of { call: &call, range: (low.into(), high.into()), kind: ", of 16 bits," };
            self.noticed.note(&self.name(index), deep, &of);
        }
        Ok(image)
    }

    fn label_map(&self, index: usize) -> Option<Result<LabelMap, String>> {
        let path = self.label_map_path(index)?;
        let read = || {
            let bytes = files::bytes(&path, self.reading.most_bytes())?;
            decode::label_map(&bytes, self.reading.max_pixels, self.label_maps.as_ref().and_then(|maps| maps.ignore))
        };
        Some(read().map_err(|error: String| format!("its label map {}: {error}", path.display())))
    }

    fn file(&self, index: usize) -> Option<Result<Vec<u8>, String>> {
        Some(self.files.bytes(index, self.reading.most_bytes()))
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.files.label(index)
    }

    fn classes(&self) -> &[String] {
        self.files.classes()
    }

    fn name(&self, index: usize) -> String {
        self.files.name(index)
    }

    fn passed(&self) -> &[String] {
        self.files.passed()
    }

    fn noticed(&self) -> Vec<String> {
        self.noticed.take()
    }

    fn identity(&self, index: usize) -> Identity {
        self.files.identity(index)
    }

    fn check(&self) -> Result<(), DataError> {
        self.files.check()
    }

    fn keeps(&self) -> Option<Writes<'_>> {
        self.files.keeps()
    }
}
