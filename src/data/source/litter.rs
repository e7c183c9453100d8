//! What systems and programs leave in folders, which is no one's class and no one's picture.

use std::ffi::OsStr;

/// Names that are litter as they stand, whatever their case.
const NAMES: [&str; 19] = [
    // Archives made on a Mac, and its disks.
    "__macosx",
    "icon\r",
    "network trash folder",
    "temporary items",
    // Synology, QNAP and other storage on the net.
    "@eadir",
    "@tmp",
    "@recycle",
    "@recently-snapshot",
    "@__thumb",
    "#recycle",
    "#snapshot",
    // Windows.
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "recycler",
    "system volume information",
    // Linux and Python.
    "lost+found",
    "__pycache__",
];

/// Hidden files and folders are litter too: `._00.png`, `.DS_Store`, `.ipynb_checkpoints`, `.git`.
pub fn is_litter(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}
