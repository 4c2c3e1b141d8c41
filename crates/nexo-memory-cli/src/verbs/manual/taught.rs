//! Whether help, completions and manual pages teach every verb: over the real command line, so that a
//! verb which is added, or a flag which is renamed, cannot be forgotten in them.

use clap::{Command, CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;

use super::{pages, script};
use crate::args::Cli;

/// Columns of the terminal that an example must fit: one that is folded cannot be pasted.
const COLUMNS: usize = 80;

/// Every verb below `command`, with the words that call it.
fn walk(command: &Command, above: &[String], visit: &mut impl FnMut(&[String], &Command)) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let words = [above, &[verb.get_name().to_owned()]].concat();
        visit(&words, verb);
        walk(verb, &words, visit);
    }
}

/// The lines below `Examples:` in the help as it is printed.
fn examples(command: &Command) -> Vec<String> {
    let help = command.clone().term_width(COLUMNS).render_long_help().to_string();
    let Some((_, below)) = help.split_once("\nExamples:\n") else { return Vec::new() };
    below.lines().take_while(|line| line.starts_with("  ")).map(str::to_owned).collect()
}

/// The words of a line that are ours: what another program does with the result is its own.
fn ours(line: &str) -> Vec<String> {
    let words = shlex::split(line).unwrap_or_else(|| panic!("no shell reads {line}"));
    words.into_iter().take_while(|word| !["|", ">"].contains(&word.as_str())).collect()
}

/// Would catch: a verb without examples, one whose examples are of another verb only, and an example
/// that a renamed flag made wrong or that a terminal of 80 columns folds.
#[test]
fn every_verb_has_examples_that_parse() {
    let mut command = Cli::command();
    command.build();
    let mut seen = Vec::new();
    let mut check = |words: &[String], verb: &Command| {
        let lines = examples(verb);
        let call = [&["nexo-memory".to_owned()], words].concat();
        assert!(
            lines.iter().any(|line| ours(line).starts_with(&call)) || words.is_empty(),
            "{call:?} has no example of itself: {lines:?}"
        );
        for line in lines {
            assert!(line.len() <= COLUMNS, "{line:?} is folded");
            if let Err(e) = Cli::try_parse_from(ours(&line)) {
                panic!("the example {line:?} is wrong: {e}");
            }
        }
        seen.push(words.join(" "));
    };
    check(&[], &command);
    walk(&command, &[], &mut check);
    // The walk itself reaches what is below a verb.
    assert!(seen.contains(&"config show".to_owned()), "{seen:?}");
}

/// Would catch: a shell that completes all verbs but one.
#[test]
fn completions_of_every_shell_name_every_verb() {
    for shell in Shell::value_variants() {
        let script = String::from_utf8(script(*shell)).unwrap();
        walk(&Cli::command(), &[], &mut |words, verb| {
            // Bash has a function for each; the others tell what it does, up to what they would escape.
            let sign = match shell {
                Shell::Bash => {
                    let words = words.join("__subcmd__").replace('-', "__subcmd__");
                    format!("nexo__memory__subcmd__{words}\"")
                }
                _ => verb.get_about().map(ToString::to_string).unwrap_or_default(),
            };
            let sign = sign.split(['\'', ':']).next().unwrap_or_default();
            assert!(script.contains(sign), "{shell} does not complete {words:?}");
        });
    }
}

/// Would catch: a verb without a page, a page that no page above it names or that does not exist, and one
/// without what the help says of the verb.
#[test]
fn there_is_a_page_for_every_verb() {
    let pages = pages().unwrap();
    let page = |words: &[String]| {
        let name = [&["nexo-memory".to_owned()], words].concat().join("-");
        let page = pages.iter().find(|(of, _)| *of == format!("{name}.1"));
        let (_, page) = page.unwrap_or_else(|| panic!("{name} has no page"));
        (name, String::from_utf8(page.clone()).unwrap().replace("\\-", "-").replace("\\*(Aq", "'"))
    };
    let mut verbs = 0;
    walk(&Cli::command(), &[], &mut |words, verb| {
        let (name, own) = page(words);
        let (_, above) = page(&words[..words.len() - 1]);
        assert!(above.contains(&format!("{name}(1)")), "{above}");
        let before = verb.get_before_help().map(ToString::to_string).unwrap_or_default();
        assert!(own.contains(&before), "{name} lacks {before:?}: {own}");
        let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        for example in after.lines().filter(|line| line.starts_with("  ")) {
            assert!(own.contains(example), "{name} lacks {example:?}: {own}");
        }
        assert!(!own.contains("-help(1)"), "{name} names a page that is not written");
        verbs += 1;
    });
    assert_eq!(pages.len(), verbs + 1);
}
