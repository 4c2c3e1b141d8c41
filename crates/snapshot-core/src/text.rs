//! Text that others wrote, made fit for a line of a terminal or a log.

/// Whether a character can move a cursor, hide text, turn its direction or end a line. What scripts and
/// emoji are joined by is none of these.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // directions
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // line and paragraph separators
            | '\u{2028}' | '\u{2029}'
            // invisible: hyphens, joiners and blanks of no width, operators, fillers, byte order mark,
            // interlinear annotation, tags
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'
            | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text in one line in which no character [`steers`]; such are shown by their escapes.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c if steers(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a character that steers a terminal and passes, or one that people write and that is
    /// garbled.
    #[test]
    fn what_steers_is_escaped_and_the_rest_is_not() {
        assert_eq!(one_line("a\u{1b}[31m\u{7}b"), r"a\u{1b}[31m\u{7}b");
        assert_eq!(one_line("\u{9b}2J\u{7f}"), r"\u{9b}2J\u{7f}");
        assert_eq!(one_line("x\u{202e}txt.exe\u{2066}"), r"x\u{202e}txt.exe\u{2066}");
        assert_eq!(one_line("one\ntwo\r\t"), r"one\ntwo\r\t");
        assert_eq!(one_line("pay\u{200b}pal\u{2060}\u{ad}"), r"pay\u{200b}pal\u{2060}\u{ad}");
        let written = "Ωmega 日本 👩‍💻 é e\u{301} می\u{200c}خواهم";
        assert_eq!(one_line(written), written);
    }
}
