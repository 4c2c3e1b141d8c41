//! Secrets in memory files, their names and links.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Canary, Place, Planter, encode};
use crate::error::KitError;

/// Offsets that readers are likely to cut at are multiples of this.
const BORDER: usize = 64 << 10;

/// A stretch of prose that is repeated until a file is large.
const STRETCH: usize = 500_000;

/// How a place's file is called, and what is in it.
type Write = fn(&mut Planter<'_>, &Canary) -> Vec<u8>;

const FILES: [(Place, &str, Write); 10] = [
    (Place::FileProse, "note.md", |planter, canary| planter.sentence(canary).into_bytes()),
    (Place::FileEnv, ".env", |_, canary| env(canary).into_bytes()),
    (Place::FileYaml, "conf.yaml", |_, canary| yaml(canary).into_bytes()),
    (Place::FileCode, "main.rs", |planter, canary| code(planter, canary).into_bytes()),
    (Place::FileUtf16Le, "le.txt", |planter, canary| utf16(&planter.sentence(canary), false)),
    (Place::FileUtf16Be, "be.txt", |planter, canary| utf16(&planter.sentence(canary), true)),
    (Place::FileBinary, "blob.bin", binary),
    (Place::FileBase64, "mail.txt", |_, canary| format!("body: {}\n", base64(canary)).into_bytes()),
    (Place::FilePercent, "links.md", |_, canary| url(canary).into_bytes()),
    (Place::FileHex, "dump.txt", |_, canary| {
        let is_upper = canary.turn().is_multiple_of(2);
        format!("0x{}\n", encode::hex(canary.text.as_bytes(), "", is_upper)).into_bytes()
    }),
];

pub(super) fn plant(planter: &mut Planter<'_>) -> Result<(), KitError> {
    for (place, name, content) in FILES {
        for canary in planter.at(place) {
            let content = content(planter, canary);
            planter.write(&format!("planted/{:03}/{name}", canary.id), content)?;
        }
    }
    names(planter)?;
    large(planter)
}

fn names(planter: &mut Planter<'_>) -> Result<(), KitError> {
    for canary in planter.at(Place::FileName) {
        let content = planter.prose(300);
        planter.write(&format!("planted/names/{}.md", canary.value), content)?;
    }
    for canary in planter.at(Place::FolderName) {
        let content = planter.prose(300);
        planter.write(&format!("planted/of-{}/deep/note.md", canary.value), content)?;
    }
    for canary in planter.at(Place::NotCarried) {
        planter
            .write(&format!("planted/clone-{}/.git/HEAD", canary.value), "ref: refs/heads/a\n")?;
    }
    let links = planter.agent.memdir().join("planted/links");
    fs::create_dir_all(&links).map_err(KitError::io("make the folder", &links))?;
    for canary in planter.at(Place::LinkTarget) {
        let link = links.join(canary.id.to_string());
        let target = format!("../keys/{}", canary.value);
        symlink(target, &link).map_err(KitError::io("make the link", &link))?;
    }
    Ok(())
}

/// One large file of prose, with secrets across borders and between them.
fn large(planter: &mut Planter<'_>) -> Result<(), KitError> {
    let stretch = planter.words.text(&mut planter.random, STRETCH);
    let mut content: Vec<u8> = stretch.bytes().cycle().take(planter.large_bytes).collect();
    let borders = borders(planter.large_bytes);
    if borders.is_empty() {
        return Ok(());
    }
    for (n, canary) in planter.at(Place::FileBorder).enumerate() {
        let text = format!("\n{}\n", canary.text);
        // Those that find no border of their own share one, on its other side.
        let before = text.len() / 2 + n / borders.len() * 3000;
        put(&mut content, borders[n % borders.len()] - before, &text);
    }
    for (n, canary) in planter.at(Place::FileLarge).enumerate() {
        let at = borders[n % borders.len()] - BORDER / 2 + n / borders.len() * 3000;
        put(&mut content, at, &format!("\n{}\n", canary.text));
    }
    planter.write("planted/large.md", content)
}

/// Powers of two first, then the multiples between them.
fn borders(bytes: usize) -> Vec<usize> {
    let multiples = (1..).map(|n| n * BORDER).take_while(|at| at + BORDER / 2 < bytes);
    let (mut borders, others): (Vec<_>, Vec<_>) = multiples.partition(|at| at.is_power_of_two());
    borders.extend(others);
    borders
}

fn put(content: &mut [u8], at: usize, text: &str) {
    if let Some(room) = content.get_mut(at..at + text.len()) {
        room.copy_from_slice(text.as_bytes());
    }
}

fn is_assignment(canary: &Canary) -> bool {
    canary.text.contains(['=', ':']) && canary.text != canary.value && !canary.text.contains("//")
}

fn env(canary: &Canary) -> String {
    let line = match is_assignment(canary) {
        true => canary.text.clone(),
        false => format!("ACCESS=\"{}\"", canary.text),
    };
    format!("# of the agent\nMODE=live\n{line}\nLEVEL=3\n")
}

fn yaml(canary: &Canary) -> String {
    let value = match is_assignment(canary) {
        true => format!("  {}", canary.text),
        false => format!("  access: |\n    {}", canary.text.replace('\n', "\n    ")),
    };
    format!("server:\n  port: 8080\n{value}\n")
}

fn code(planter: &mut Planter<'_>, canary: &Canary) -> String {
    format!("// {}\nfn main() {{\n    connect(r#\"{}\"#);\n}}\n", planter.prose(60), canary.text)
}

fn utf16(text: &str, is_big: bool) -> Vec<u8> {
    encode::utf16(&format!("\u{feff}{text}"), is_big)
}

fn binary(planter: &mut Planter<'_>, canary: &Canary) -> Vec<u8> {
    let (mut before, after) = (planter.random.bytes(200), planter.random.bytes(200));
    before.extend_from_slice(&[0; 3]);
    before.extend_from_slice(canary.text.as_bytes());
    before.push(0);
    before.extend(after);
    before
}

/// Base64 of a text with a secret: both alphabets, each alignment.
pub(super) fn base64(canary: &Canary) -> String {
    // The marks are what the alphabets differ in.
    let text = format!("{}why??? {} so~~~", &"--"[..canary.turn() % 3], canary.text);
    match canary.turn() / 3 % 2 {
        0 => encode::base64(text.as_bytes(), encode::STANDARD),
        _ => encode::base64(text.as_bytes(), encode::URL_SAFE),
    }
}

fn url(canary: &Canary) -> String {
    let parameter = match canary.turn() % 3 {
        0 => encode::hex(canary.text.as_bytes(), "%", true),
        1 => encode::percent(&canary.text, true),
        _ => encode::percent(&canary.text, false),
    };
    format!("- [back](https://example.org/back?to={parameter}&n=1)\n")
}
