//! What a `.gitmodules` may say. Nothing here or in a restore reads one, but git does when it is asked
//! for submodules, and old ones ran what it said: so what `git fsck` refuses is refused.

/// Why git refuses to believe this file, if it does.
pub(super) fn refused(content: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(content).replace("\\\r\n", "").replace("\\\n", "");
    let mut in_submodule = false;
    for line in text.split('\n') {
        let mut line = line.trim_start();
        if let Some(header) = line.strip_prefix('[') {
            let (section, rest) = section(header);
            line = rest.trim_start();
            let name = section.get(..9).filter(|word| word.eq_ignore_ascii_case("submodule"));
            in_submodule = name.is_some();
            let name = name.map(|_| section[9..].trim_start_matches(['.', ' ', '\t']));
            if name.is_some_and(leaves_its_folder) {
                return Some("a submodule's name in it is a path out of its folder");
            }
        }
        let Some((key, value)) = line.split_once('=').filter(|_| in_submodule) else { continue };
        if let Some(why) = setting(&key.trim().to_ascii_lowercase(), &unquoted(value)) {
            return Some(why);
        }
    }
    None
}

fn setting(key: &str, value: &str) -> Option<&'static str> {
    let is_path = matches!(key, "url" | "path");
    match key {
        "url" | "path" if value.starts_with('-') => Some("a URL or path in it would be an option"),
        "update" if value.starts_with('!') => Some("an update in it is a command"),
        "url" if value.to_ascii_lowercase().contains("%0a") => Some("a URL in it has a line end"),
        _ if is_path && value.contains(char::is_control) => {
            Some("a URL or path in it has a control character")
        }
        _ => None,
    }
}

fn leaves_its_folder(name: &str) -> bool {
    name.is_empty() || name.split(['/', '\\']).any(|part| part == "..")
}

/// The name of a section with its quoted part, unquoted, and what follows it on its line.
fn section(header: &str) -> (String, &str) {
    let (mut name, mut quoted) = (String::new(), false);
    let mut chars = header.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => name.extend(chars.next().map(|(_, c)| c)),
            ']' if !quoted => return (name, &header[at + 1..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// A value without its quotes, escapes and comment.
fn unquoted(value: &str) -> String {
    let (mut out, mut quoted) = (String::new(), false);
    let mut chars = value.trim_matches([' ', '\t']).chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => out.extend(chars.next().map(|c| match c {
                'n' => '\n',
                't' => '\t',
                'b' => '\u{8}',
                c => c,
            })),
            '#' | ';' if !quoted => break,
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Would catch: one of the tricks by which a `.gitmodules` made git run something or write elsewhere, in
    /// any spelling that git reads.
    #[test]
    fn what_git_was_tricked_by_is_refused() {
        let module = |text: &str| format!("[submodule \"a\"]\n{text}");
        for bad in [
            module("url = -u./x"),
            module("\tURL=\"-u./x\""),
            module("url = \\\n-u./x"),
            module("path = -x"),
            module("update = !touch x"),
            module("url = https://a/%0Ab"),
            module("url = \"a\\nb\""),
            module("path = \"sub\r\""),
            module("path = sub\r"),
            "[submodule \"../../.git/hooks\"]\nurl = a".to_owned(),
            "[SubModule \"a\\\\..\\\\b\"] url = a".to_owned(),
            "[submodule \"\"]".to_owned(),
            "[submodule.a/../b]".to_owned(),
            "[submodule \"a\"] url = -x".to_owned(),
        ] {
            assert!(refused(bad.as_bytes()).is_some(), "{bad:?}");
        }
        for good in [
            module("path = sub\nurl = https://example.org/a-b.git # -x\nupdate = rebase"),
            module("url = ../relative\npath = a/..b"),
            "[core]\nurl = -x".to_owned(),
            "# nothing".to_owned(),
        ] {
            assert_eq!(refused(good.as_bytes()), None, "{good:?}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "[\\[\\]\"\\\\\n =a.é/submodule-]{0,60}") {
            let _ = refused(text.as_bytes());
        }
    }
}
