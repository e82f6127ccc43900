//! What all fuzz targets have in common. The simulator's package includes this by path.
//!
//! In `cargo test` each target runs on every file of its corpus as it is, and for a second on files with random edits. `.ci/fuzz`
//! runs them for long on whatever libFuzzer makes of the corpus, guided by coverage. All of them read text, so that a finding
//! says what it is.

use std::path::Path;
use std::time::Duration;

/// Replaces so many bytes at a place by one of the tokens.
type Edit = (u16, u8, u8);

/// Checks `property` on the files below `corpus`, and on what edits with `tokens` make of them.
pub(crate) fn fuzz(corpus: &str, tokens: &[&str], property: fn(&str)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(corpus);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let files: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert!(files.len() >= 10, "the corpus of {corpus} has {} files", files.len());
    files.iter().for_each(|text| property(text));
    if cfg!(fuzzing) {
        bolero::check!().for_each(|bytes| str::from_utf8(bytes).map_or((), property));
    } else {
        let check = bolero::check!().with_test_time(Duration::from_secs(1)).with_type::<(u8, Vec<Edit>)>();
        check.for_each(|(file, edits)| property(&edited(&files[usize::from(*file) % files.len()], edits, tokens)));
    }
}

fn edited(text: &str, edits: &[Edit], tokens: &[&str]) -> String {
    let mut text = text.to_owned();
    for &(at, cut, token) in edits {
        let from = text.floor_char_boundary(usize::from(at) % (text.len() + 1));
        let to = text.floor_char_boundary(from + usize::from(cut) % 12);
        text.replace_range(from..to, tokens[usize::from(token) % tokens.len()]);
    }
    text
}
