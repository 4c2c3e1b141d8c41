//! Help, completions and manual pages, and what cannot be parsed.

use std::fs;

use super::{Home, text};

// Of a build with everything: it names what a smaller one has not.
#[cfg(all(feature = "demo", feature = "nats"))]
#[test]
fn help_teaches_each_verb() {
    let home = Home::new();
    insta::assert_snapshot!("help", home.run(&["--help"]).out);
    for verb in [
        "snapshot",
        "restore",
        "list",
        "show",
        "ls",
        "extract",
        "cat",
        "verify",
        "prune",
        "pin",
        "unpin",
        "hold",
        "release",
        "status",
        "diff",
        "delete",
        "export",
        "import",
        "doctor",
        "demo",
        "completions",
        "man",
        "config show",
        "config check",
        "config schema",
        "events tail",
    ] {
        let args: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let said = home.run(&args);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        // The flags of every verb are in the help of the program.
        let (own, rest) = said.out.split_once("Where things are:").unwrap();
        let examples = rest.split_once("Examples:").unwrap().1;
        let name = format!("help {verb}").replace(' ', "-");
        insta::assert_snapshot!(name, format!("{own}[...]\n\nExamples:{examples}"));
    }
}

/// Would catch: a shell or a verb without its completions or page.
#[test]
fn shells_and_man_know_every_verb() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = home.run(&["completions", shell]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}");
        assert!(said.out.contains("verify") && said.out.contains("no-auto-pre-snapshot"));
    }
    assert_eq!(home.run(&["completions", "tcsh"]).code, 2);
    let page = home.run(&["man"]);
    assert!(page.out.starts_with(".ie") && page.out.contains("nexo\\-memory"), "{page:?}");
    let (written, code) = home.json(&["man", "--to", "man1"]);
    assert_eq!(code, 0, "{written}");
    for page in ["nexo-memory.1", "nexo-memory-snapshot.1", "nexo-memory-config-check.1"] {
        let text = fs::read_to_string(home.path("man1").join(page)).unwrap();
        assert!(text.contains("SYNOPSIS"), "{page}");
    }
}

#[test]
fn what_cannot_be_parsed_is_usage() {
    let home = Home::new();
    for args in [
        ["list", "--flag"].as_slice(),
        &["list", "--agent", "../ana"],
        &["snapshot"],
        &["snapshot", "--agent", "ana", "--all"],
        &["show"],
        &["show", "zzzz"],
        &["cat", "latest"],
        &["cat", "latest", "../MEMORY.md"],
        &["restore", "latest", "--from", "latest"],
        &["doctor", "--recover", "forward"],
        &["snapshot", "--agent", "ana", "--store", "long_term"],
        &[],
    ] {
        let said = home.run(args);
        assert_eq!(said.code, 2, "{args:?}: {said:?}");
        assert!(said.out.is_empty(), "{args:?}: {said:?}");
    }
    let (document, code) = home.json(&["list", "--agent", "../ana"]);
    assert_eq!(code, 2);
    assert_eq!(document["error"]["kind"], "usage");
    assert!(text(&document["error"]["message"]).contains("agent id \"../ana\" is not valid"));
}

#[test]
fn a_hostile_argument_does_not_steer_the_terminal() {
    let said = Home::new().run(&["list", "--agent", "a\u{1b}[2J\u{202e}"]);
    assert_eq!(said.code, 2);
    let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!said.err.contains(hostile), "{said:?}");
}
