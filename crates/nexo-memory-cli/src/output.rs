//! The one sink: whatever the program says goes through here.
//!
//! Invariants: a line given here is one line on the terminal, and nothing in it (a label, a path, a
//! commit subject) can steer the terminal, for every control and direction character is escaped;
//! with `--json`, stdout carries one document and nothing else.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, StdoutLock, Write};

use anstream::{AutoStream, ColorChoice};
use nexo_memory_snapshot::error::{one_line, steers};
use serde::Serialize;

use crate::args::Color;
use crate::exit::Failure;
use crate::table::{self, Column};

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
#[cfg(feature = "demo")]
const CYAN: &str = "\x1b[36m";
const YELLOW: &str = "\x1b[1;33m";
const GREEN: &str = "\x1b[32m";
const OLD: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
/// Bytes of a JSON document that are written at once.
const JSON_BYTES: usize = 64 << 10;

/// How a line of the demo looks.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// A command that was run.
    Command,
    /// What is told between the commands.
    Aside,
    /// As it is.
    Plain,
}

/// Stdout and stderr.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Columns of the terminal; none where there is none, and nothing is cut.
    width: Option<usize>,
    stdout: AutoStream<io::Stdout>,
    stderr: AutoStream<io::Stderr>,
    failed: Option<io::Error>,
    /// Whether the document's list is open: its items are being written.
    listing: bool,
}

/// See [`Output::bytes`]. Beneath the colour filter, which would take escapes out of a file's bytes.
struct Bytes {
    stdout: StdoutLock<'static>,
    terminal: bool,
}

/// JSON on its way out, with what serde_json does not escape: it knows C0 only.
struct JsonText<'a> {
    out: &'a mut AutoStream<io::Stdout>,
    text: String,
    /// Bytes at the beginning that were written already.
    skip: usize,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool, color: Color) -> Self {
        let choice = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self {
            json,
            quiet,
            width: width(),
            stdout: AutoStream::new(io::stdout(), choice),
            stderr: AutoStream::new(io::stderr(), choice),
            failed: None,
            listing: false,
        }
    }

    /// Whether one JSON document is wanted.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// The document, with `--json`; of one that was begun with a list, what is left of it.
    pub(crate) fn json(&mut self, document: &impl Serialize) {
        let end_of_list = std::mem::take(&mut self.listing).then_some("\n  ],");
        self.json_after(end_of_list, document);
    }

    /// What is left of a document whose first field is the list `name`, empty where no item came.
    pub(crate) fn json_after_list(&mut self, name: &str, document: &impl Serialize) {
        if self.listing {
            return self.json(document);
        }
        self.json_after(Some(&format!("{{\n  \"{name}\": [],")), document);
    }

    /// An item of that list, written as it comes.
    pub(crate) fn json_item(&mut self, name: &str, item: &impl Serialize) {
        let start = match std::mem::replace(&mut self.listing, true) {
            true => ",".to_owned(),
            false => format!("{{\n  \"{name}\": ["),
        };
        match serde_json::to_string(item) {
            Ok(text) => self.write_out(&format!("{start}\n    {}", escape_json(&text))),
            Err(e) => self.keep(io::Error::other(e)),
        }
    }

    /// Written as it is made: a document may list all that a bundle holds.
    fn json_after(&mut self, begun: Option<&str>, document: &impl Serialize) {
        self.write_out(begun.unwrap_or_default());
        let skip = usize::from(begun.is_some());
        let mut json = JsonText { out: &mut self.stdout, text: String::new(), skip };
        let written = serde_json::to_writer_pretty(&mut json, document)
            .map_err(io::Error::from)
            .and_then(|()| json.write_all(b"\n"))
            .and_then(|()| json.flush());
        if let Err(e) = written {
            self.keep(e);
        }
    }

    /// One of many documents, with `--json`: a line each.
    #[cfg(feature = "nats")]
    pub(crate) fn json_line(&mut self, document: &impl Serialize) {
        match serde_json::to_string(document) {
            Ok(text) => self.write_out(&format!("{}\n", escape_json(&text))),
            Err(e) => self.keep(io::Error::other(e)),
        }
    }

    /// Whether nobody reads the result any more.
    pub(crate) const fn is_lost(&self) -> bool {
        self.failed.is_some()
    }

    /// A line of the result.
    pub(crate) fn line(&mut self, text: &str) {
        if !self.json {
            self.write_out(&format!("{}\n", one_line(text)));
        }
    }

    /// A line of the result in a style.
    #[cfg(feature = "demo")]
    pub(crate) fn styled(&mut self, style: Style, text: &str) {
        let start = match style {
            Style::Command => BOLD,
            Style::Aside => CYAN,
            Style::Plain => return self.line(text),
        };
        if !self.json {
            self.write_out(&format!("{start}{}{PLAIN}\n", one_line(text)));
        }
    }

    /// A line of the result about what is there now, what was, or (another sign) neither.
    pub(crate) fn change(&mut self, sign: char, text: &str) {
        let start = match sign {
            '+' => GREEN,
            '-' => OLD,
            _ => return self.line(text),
        };
        if !self.json {
            self.write_out(&format!("{start}{}{PLAIN}\n", one_line(text)));
        }
    }

    /// Several lines of the result, that end where `\n` says.
    pub(crate) fn block(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    /// A table of the result, in the width of the terminal.
    pub(crate) fn table(&mut self, columns: &[Column], rows: &[Vec<String>]) {
        let escaped = |row: &Vec<String>| row.iter().map(|cell| one_line(cell)).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(escaped).collect();
        for line in table::lines(columns, &rows, self.width) {
            self.line(&line);
        }
    }

    /// The sink of a result that is bytes: to a terminal made harmless, elsewhere as they are.
    pub(crate) fn bytes(&self) -> impl Write {
        Bytes { stdout: io::stdout().lock(), terminal: io::stdout().is_terminal() }
    }

    /// A message beside the result, on stderr.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.write_err(&format!("{}\n", one_line(text)));
        }
    }

    /// Several messages, that end where `\n` says.
    pub(crate) fn notes(&mut self, text: &str) {
        text.lines().for_each(|line| self.note(line));
    }

    /// Something that people should know although all went well; not silenced by `--quiet`.
    pub(crate) fn warn(&mut self, text: &str) {
        self.write_err(&format!("{YELLOW}warning{PLAIN}: {}\n", one_line(text)));
    }

    /// A question on stderr, without a line end.
    pub(crate) fn ask(&mut self, question: &str) {
        self.write_err(&format!("{BOLD}{}{PLAIN} ", one_line(question)));
    }

    /// Why nothing came of it.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if self.json {
            return self.json(&failure.to_json());
        }
        let mut text = format!("{RED}error{PLAIN}: {}\n", one_line(failure.message()));
        for (what, detail) in failure.details() {
            let _ = writeln!(text, "  {what}: {}", one_line(detail));
        }
        if let Some(hint) = failure.hint() {
            let _ = writeln!(text, "  {BOLD}try{PLAIN}: {}", one_line(hint));
        }
        self.write_err(&text);
    }

    /// The first write that failed; a closed pipe is no failure (`| head`).
    pub(crate) fn finish(mut self) -> Result<(), io::Error> {
        if let Err(e) = self.stdout.flush() {
            self.keep(e);
        }
        match self.failed {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
            _ => Ok(()),
        }
    }

    fn write_out(&mut self, text: &str) {
        if let Err(e) = self.stdout.write_all(text.as_bytes()) {
            self.keep(e);
        }
    }

    fn write_err(&mut self, text: &str) {
        // There is no place left to say that stderr is gone.
        let _ = self.stderr.write_all(text.as_bytes());
    }

    fn keep(&mut self, error: io::Error) {
        self.failed.get_or_insert(error);
    }
}

impl Write for JsonText<'_> {
    /// What serde_json writes at once is text.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let text = std::str::from_utf8(&bytes[skipped..]).map_err(io::Error::other)?;
        self.text.push_str(&escape_json(text));
        if self.text.len() >= JSON_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.terminal {
            self.stdout.write_all(escape_text(bytes).as_bytes())?;
            return Ok(bytes.len());
        }
        self.stdout.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Whether a person can be asked: both ends of the conversation are a terminal.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// The width that `COLUMNS` says, as it does to other programs, else that of the terminal that stdout is.
fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let said = said.filter(|width| *width > 0);
    let terminal = || terminal_size::terminal_size_of(io::stdout());
    said.or_else(|| terminal().map(|(width, _)| usize::from(width.0)))
}

/// Lines of a file, which stay lines, and in which no character can move the cursor, hide text or turn
/// its direction.
fn escape_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if steers(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The same for JSON text, by its own escapes; its line ends are serde_json's.
fn escape_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !steers(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_a_terminal_keeps_its_lines_and_cannot_steer_it() {
        assert_eq!(escape_text(b"a\tb\n\x1b[2Jc\r\xff"), "a\tb\n\\u{1b}[2Jc\\u{d}\u{fffd}");
    }

    #[test]
    fn json_stays_the_same_document() {
        let value = serde_json::json!({ "label": "a\u{9b}\u{202e}\u{e0041}\n\u{1b}é" });
        let text = escape_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !steers(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
