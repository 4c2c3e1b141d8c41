//! Names that some file system takes for `.git`.

/// Whether a file system that folds case, ignores characters (HFS+) or shortens names (NTFS, FAT)
/// could take `name` for `.git`. Such a name could smuggle a configuration into a repository.
#[must_use]
pub fn is_dot_git(name: &[u8]) -> bool {
    let folded: Vec<u8> = match std::str::from_utf8(name) {
        Ok(text) => text.chars().filter(|c| !hfs_ignores(*c)).collect::<String>().into_bytes(),
        Err(_) => name.to_vec(),
    };
    // NTFS: `.git::$INDEX_ALLOCATION` is the folder itself; dots and spaces at the end are dropped.
    let stem = folded.split(|&b| b == b':' || b == b'\\').next().unwrap_or_default();
    let stem = stem.trim_ascii_end();
    let end = stem.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |at| at + 1);
    stem[..end].eq_ignore_ascii_case(b".git") || stem[..end].eq_ignore_ascii_case(b"git~1")
}

/// Code points that HFS+ leaves out when it compares names.
fn hfs_ignores(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_dot_git_is_known() {
        for name in [".git", ".GIT", ".giT", "git~1", "GIT~1", ".git.", ".git . ", ".git::$DATA"] {
            assert!(is_dot_git(name.as_bytes()), "{name:?}");
        }
        assert!(is_dot_git(".g\u{200c}it".as_bytes()));
        assert!(is_dot_git(b".git\\config"));
        for name in [".gitignore", ".gitmodules", "git", "git~2", "a.git", ".", "..", ""] {
            assert!(!is_dot_git(name.as_bytes()), "{name:?}");
        }
    }
}
