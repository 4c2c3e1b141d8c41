//! Two texts, told by the words that differ: `the user likes [-coffee-]{+tea+} now`.

use similar::{ChangeTag, TextDiff};

/// Longest text whose words are compared, in bytes; the time goes with the square of what differs.
const MAX_TEXT: usize = 16 << 10;
/// Words kept of what is the same on each side of a difference; a word, a blank and a sign are one each.
const CONTEXT: usize = 8;

/// None where one is too long, or where the two have nothing in common and are better shown whole.
pub(super) fn compared(old: &str, new: &str) -> Option<String> {
    if old.len().max(new.len()) > MAX_TEXT {
        return None;
    }
    let diff = TextDiff::from_unicode_words(old, new);
    // Words by what they are: the same, gone, come.
    let mut runs: Vec<(ChangeTag, Vec<&str>)> = Vec::new();
    for change in diff.iter_all_changes() {
        match runs.last_mut() {
            Some((tag, words)) if *tag == change.tag() => words.push(change.value()),
            _ => runs.push((change.tag(), vec![change.value()])),
        }
    }
    let same = |(tag, words): &(ChangeTag, Vec<&str>)| {
        *tag == ChangeTag::Equal && words.iter().any(|word| !word.trim().is_empty())
    };
    if !runs.iter().any(same) {
        return None;
    }
    let last = runs.len() - 1;
    let mut text = String::new();
    for (at, (tag, words)) in runs.iter().enumerate() {
        match tag {
            ChangeTag::Delete => text.extend(["[-", &words.concat(), "-]"]),
            ChangeTag::Insert => text.extend(["{+", &words.concat(), "+}"]),
            ChangeTag::Equal => {
                let before = if at == 0 { 0 } else { CONTEXT };
                let after = if at == last { 0 } else { CONTEXT };
                match words.get(before..words.len().saturating_sub(after)) {
                    Some(left_out) if left_out.len() > 1 => text.extend([
                        &words[..before].concat(),
                        "…",
                        words[words.len() - after..].concat().as_str(),
                    ]),
                    _ => text.push_str(&words.concat()),
                }
            }
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a long text shown whole for one word, or a change shown without what it stands in.
    #[test]
    fn what_differs_stands_in_its_place() {
        let told = compared("the user likes coffee.", "the user likes tea.").unwrap();
        assert_eq!(told, "the user likes [-coffee-]{+tea+}.");
        let long = "one two three four five six seven eight nine ten eleven ";
        let told = compared(&format!("{long}old {long}"), &format!("{long}new {long}")).unwrap();
        assert_eq!(told, "…eight nine ten eleven [-old-]{+new+} one two three four…");
        assert_eq!(compared("yes", "no"), None);
        assert_eq!(compared("a b", "c d"), None, "a blank in common is nothing in common");
        assert_eq!(compared(&"a ".repeat(MAX_TEXT), "a"), None);
        assert_eq!(compared("", "a"), None);
    }
}
