//! Names that some file system takes for `.git`.

/// Whether a file system that folds case, ignores characters (HFS+) or shortens names (NTFS, FAT)
/// could take `name` for `.git`. Such a name could smuggle a configuration into a repository.
#[must_use]
pub fn is_dot_git(name: &[u8]) -> bool {
    let name = folded(name);
    name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1")
}

/// The same for `.gitmodules`, which git believes about submodules.
pub(super) fn is_gitmodules(name: &[u8]) -> bool {
    let name = folded(name).to_ascii_lowercase();
    let short = [&b"gitmod~"[..], b"gi7eba~", b"gi7eb~", b"gi7e~", b"gi7~", b"gi~", b"g~"];
    name == b".gitmodules"
        || short.iter().any(|start| {
            name.strip_prefix(*start).is_some_and(|n| n.first().is_some_and(u8::is_ascii_digit))
        })
}

/// A name as those file systems see it, but for its case.
fn folded(name: &[u8]) -> Vec<u8> {
    let folded: Vec<u8> = match std::str::from_utf8(name) {
        Ok(text) => text.chars().filter(|c| !hfs_ignores(*c)).collect::<String>().into_bytes(),
        Err(_) => name.to_vec(),
    };
    // NTFS: `.git::$INDEX_ALLOCATION` is the folder itself; dots and spaces at the end are dropped.
    let stem = folded.split(|&b| b == b':' || b == b'\\').next().unwrap_or_default();
    let stem = stem.trim_ascii_end();
    let end = stem.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |at| at + 1);
    stem[..end].to_vec()
}

/// Code points that HFS+ leaves out when it compares names.
fn hfs_ignores(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_gitmodules_is_known() {
        for name in
            [".gitmodules", ".GITMODULES", "gitmod~1", "GITMOD~4", "gi7eba~1", ".gitmodules. "]
        {
            assert!(is_gitmodules(name.as_bytes()), "{name:?}");
        }
        assert!(is_gitmodules(".gitmod\u{200c}ules".as_bytes()));
        for name in ["gitmodules", ".gitmodules2", "gitmod~", "gitmod~x", "a.gitmodules"] {
            assert!(!is_gitmodules(name.as_bytes()), "{name:?}");
        }
    }

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
