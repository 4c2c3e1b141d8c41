//! The rules: those of gitleaks, our own, and those of a configuration.
//!
//! One search finds the keywords of all rules; a rule's regular expression is run only near its keywords.
//! Rules know no paths: what ships is searched wherever it lies. What gitleaks allows at a path is not
//! allowed here, and its rules for files of one kind hold everywhere.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use aho_corasick::automaton::OverlappingState;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use snapshot_core::{RedactionPolicy, SecretSpan};

use super::config::{AllowConfig, RuleConfig, RuleError, RulesConfig};
use super::placeholder;
use super::rule::{Allow, Rule, Where, parse};
use super::runs::{Runs, is_word};

/// The rules of gitleaks, made from its own file by `cargo xtask rules`.
const GITLEAKS: &str = include_str!("../../rules/gitleaks.json");
/// What gitleaks lacks, or misses in prose.
const OWN: &str = include_str!("../../rules/own.json");
/// Bytes of a word that a rule for long words is run on.
const LONG_WORD: usize = 32;

/// What counts as a secret, by rules.
pub struct Rules {
    id: String,
    rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// For each keyword, the rules that it belongs to.
    of_keyword: Vec<Vec<usize>>,
    in_long_words: Vec<usize>,
    everywhere: Vec<usize>,
    allow: Vec<Allow>,
}

/// A match: its secret, and the rule that found it.
struct Hit {
    range: Range<usize>,
    rule: usize,
}

impl Rules {
    /// Those of gitleaks and our own.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        static RULES: OnceLock<Arc<Rules>> = OnceLock::new();
        let load = || match Self::load(None) {
            Ok(rules) => Arc::new(rules),
            Err(error) => unreachable!("the built-in rules have a test: {error}"),
        };
        Arc::clone(RULES.get_or_init(load))
    }

    /// The built-in rules with what `config` adds and takes away.
    ///
    /// # Errors
    /// If a rule of `config` cannot be used, or one that it disables is not there; the error names it.
    pub fn with(config: &RulesConfig) -> Result<Self, RuleError> {
        Self::load(Some(config))
    }

    fn load(config: Option<&RulesConfig>) -> Result<Self, RuleError> {
        let read = |text| serde_json::from_str::<RulesConfig>(text).map_err(RuleError::Builtin);
        let builtin = [read(GITLEAKS)?, read(OWN)?];
        let mut id = builtin.each_ref().map(|one| one.name.clone().unwrap_or_default()).join(" + ");
        let mut rules: Vec<RuleConfig> = Vec::new();
        let mut lists: Vec<AllowConfig> = Vec::new();
        for one in builtin {
            rules.extend(one.rules);
            lists.push(one.allow);
        }
        if let Some(config) = config {
            disable(&mut rules, &config.disable)?;
            rules.extend(config.rules.iter().cloned());
            lists.push(config.allow.clone());
            match &config.name {
                Some(name) => id.clone_from(name),
                None if *config != RulesConfig::default() => id.push_str(" + configuration"),
                None => {}
            }
        }
        check_ids(&rules)?;
        let extra = config.map_or(0, |config| config.rules.len());
        let rules: Vec<_> = rules.into_iter().map(Rule::new).collect();
        // A rule of ours compiles in a test, one of others now.
        for rule in &rules[rules.len() - extra..] {
            rule.compile()?;
        }
        let no_rule = |why| RuleError::Regex { rule: "allow".into(), why };
        for regex in config.iter().flat_map(|config| &config.allow.regexes) {
            // Half a line of a configuration must not allow everything.
            if parse(regex).map_err(no_rule)?.properties().minimum_len() == Some(0) {
                return Err(RuleError::MatchesNothing { rule: "allow".into() });
            }
        }
        let allow = lists.iter().map(Allow::new);
        let allow = allow.collect::<Result<_, _>>().map_err(no_rule)?;
        Self::index(id, rules, allow)
    }

    fn index(id: String, rules: Vec<Rule>, allow: Vec<Allow>) -> Result<Self, RuleError> {
        let mut words: Vec<&str> = Vec::new();
        let mut of_keyword: Vec<Vec<usize>> = Vec::new();
        let (mut in_long_words, mut everywhere) = (Vec::new(), Vec::new());
        for (at, rule) in rules.iter().enumerate() {
            if rule.keywords.is_empty() {
                let long = rule.engine().place == Where::InLongWords;
                if long { in_long_words.push(at) } else { everywhere.push(at) }
            }
            for keyword in &rule.keywords {
                let known = words.iter().position(|word| word == keyword);
                let word = known.unwrap_or_else(|| {
                    words.push(keyword);
                    of_keyword.push(Vec::new());
                    words.len() - 1
                });
                of_keyword[word].push(at);
            }
        }
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&words)
            .map_err(|e| RuleError::Keywords { why: e.to_string() })?;
        Ok(Self { id, rules, keywords, of_keyword, in_long_words, everywhere, allow })
    }

    /// Every secret that a rule sees, in any order; allocates only where there is one, or a keyword of a
    /// rule that has to be searched for around it.
    fn hits(&self, bytes: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut around: Vec<(usize, Range<usize>)> = Vec::new();
        self.at_keywords(bytes, &mut hits, &mut around);
        // Front to back within a rule, so that windows that touch become one.
        around.sort_by_key(|(rule, range)| (*rule, range.start));
        around.dedup_by(|next, window| {
            let touches = next.0 == window.0 && next.1.start <= window.1.end;
            if touches {
                window.1.end = window.1.end.max(next.1.end);
            }
            touches
        });
        for (rule, range) in around {
            self.within(bytes, range, rule, &mut hits);
        }
        for &rule in &self.everywhere {
            self.within(bytes, 0..bytes.len(), rule, &mut hits);
        }
        if !self.in_long_words.is_empty() {
            for word in Runs::new(bytes, LONG_WORD, is_word) {
                for &rule in &self.in_long_words {
                    self.within(bytes, word.clone(), rule, &mut hits);
                }
            }
        }
        hits
    }

    fn at_keywords(
        &self,
        bytes: &[u8],
        hits: &mut Vec<Hit>,
        around: &mut Vec<(usize, Range<usize>)>,
    ) {
        let mut state = OverlappingState::start();
        loop {
            self.keywords.find_overlapping(bytes, &mut state);
            let Some(keyword) = state.get_match() else { break };
            for &rule in &self.of_keyword[keyword.pattern().as_usize()] {
                match self.rules[rule].engine().place {
                    Where::AtKeyword { .. } => {
                        let range = self.rules[rule].at(bytes, keyword.start(), &self.allow);
                        hits.extend(range.map(|range| Hit { range, rule }));
                    }
                    Where::Around(reach) => {
                        let end = bytes.len().min(keyword.end() + reach);
                        let window = keyword.start().saturating_sub(reach)..end;
                        match around.iter_mut().rev().find(|(of, _)| *of == rule) {
                            Some((_, last)) if window.start <= last.end => last.end = window.end,
                            _ => around.push((rule, window)),
                        }
                    }
                    Where::InLongWords | Where::Everywhere => {}
                }
            }
        }
    }

    fn within(&self, bytes: &[u8], range: Range<usize>, rule: usize, hits: &mut Vec<Hit>) {
        let found = &mut |range| hits.push(Hit { range, rule });
        self.rules[rule].within(bytes, range, &self.allow, found);
    }
}

impl RedactionPolicy for Rules {
    fn id(&self) -> &str {
        &self.id
    }

    fn rules(&self) -> usize {
        self.rules.len()
    }

    fn find(&self, bytes: &[u8]) -> Vec<SecretSpan> {
        let mut hits = self.hits(bytes);
        hits.retain(|hit| !placeholder::overlaps(bytes, &hit.range));
        let strong: Vec<Range<usize>> = {
            let strong = hits.iter().filter(|hit| !self.rules[hit.rule].weak);
            strong.map(|hit| hit.range.clone()).collect()
        };
        let met = |hit: &Hit| {
            strong.iter().any(|one| one.start < hit.range.end && hit.range.start < one.end)
        };
        hits.retain(|hit| !self.rules[hit.rule].weak || !met(hit));
        hits.sort_by_key(|hit| (hit.range.start, hit.range.end, hit.rule));
        hits.dedup_by(|next, one| next.range == one.range);
        let span =
            |hit: Hit| SecretSpan { range: hit.range, rule: Arc::clone(&self.rules[hit.rule].id) };
        hits.into_iter().map(span).collect()
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rules({}, {} of them)", self.id, self.rules.len())
    }
}

fn disable(rules: &mut Vec<RuleConfig>, ids: &[String]) -> Result<(), RuleError> {
    for id in ids {
        let at = rules.iter().position(|rule| rule.id == *id);
        let at = at.ok_or_else(|| RuleError::Unknown { rule: id.clone() })?;
        rules.remove(at);
    }
    Ok(())
}

fn check_ids(rules: &[RuleConfig]) -> Result<(), RuleError> {
    let mut seen = BTreeSet::new();
    for RuleConfig { id, .. } in rules {
        let reserved = id == super::known::OLD_GIT_ID;
        if !placeholder::is_rule_id(id) {
            return Err(RuleError::Id { rule: id.clone() });
        }
        if reserved || !seen.insert(id) {
            return Err(RuleError::Twice { rule: id.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> RulesConfig {
        serde_json::from_str(json).unwrap()
    }

    fn found(rules: &Rules, text: &str) -> Vec<(String, String)> {
        let spans = rules.find(text.as_bytes()).into_iter();
        spans.map(|span| (span.rule.to_string(), text[span.range].to_owned())).collect()
    }

    /// Would catch: a rule of gitleaks that Rust reads otherwise, matches nothing or everything.
    #[test]
    fn every_built_in_rule_compiles() {
        let rules = Rules::builtin();
        for rule in &rules.rules {
            rule.compile().unwrap();
        }
        assert!(rules.rules() > 220, "{}", rules.rules());
    }

    /// Would catch: a configuration whose mistake is passed over in silence.
    #[test]
    fn a_rule_that_cannot_be_used_is_named() {
        for (json, says) in [
            (r#"{"disable":["no-such"]}"#, "no rule \"no-such\""),
            (r#"{"rules":[{"id":"A","regex":"a"}]}"#, "rule \"A\""),
            (r#"{"rules":[{"id":"","regex":"a"}]}"#, "rule \"\""),
            (r#"{"rules":[{"id":"github-pat","regex":"a"}]}"#, "\"github-pat\" is there twice"),
            (r#"{"rules":[{"id":"old-git-id","regex":"a"}]}"#, "\"old-git-id\" is there twice"),
            (r#"{"rules":[{"id":"open","regex":"a("}]}"#, "\"open\" does not compile"),
            (r#"{"rules":[{"id":"empty","regex":"a*"}]}"#, "\"empty\" matches the empty string"),
            (r#"{"allow":{"regexes":[".*"]}}"#, "\"allow\" matches the empty string"),
            (r#"{"rules":[{"id":"g","regex":"a","secret_group":1}]}"#, "\"g\" has no group 1"),
            (r#"{"allow":{"regexes":["("]}}"#, "\"allow\" does not compile"),
        ] {
            let error = Rules::with(&config(json)).unwrap_err().to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
        assert!(serde_json::from_str::<RulesConfig>(r#"{"rule":[]}"#).is_err());
    }

    /// Would catch: a configuration that is read and has no effect.
    #[test]
    fn a_configuration_adds_allows_and_disables() {
        let pin = r#"{"name":"ours","rules":[{"id":"pin","regex":"PIN-([0-9]{4})"}],
            "allow":{"stopwords":["0000"]},"disable":["github-pat","github-token"]}"#;
        let rules = Rules::with(&config(pin)).unwrap();
        assert_eq!(rules.id(), "ours");
        assert_eq!(found(&rules, "PIN-1234 PIN-0000"), [("pin".to_owned(), "1234".to_owned())]);
        let token = "x ghp_16C7e42F292c6912E7710c838347Ae178B4a y";
        assert_eq!(found(&rules, token), []);
        assert_eq!(found(&Rules::builtin(), token).len(), 1);
    }

    /// Would catch: a rule whose match is run into a window's end, or a match that is found from the
    /// middle of its word.
    #[test]
    fn what_a_rule_for_its_keyword_sees_is_what_its_expression_says() {
        let rules = Rules::builtin();
        let key = "my_adafruit_key = a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6 ";
        assert_eq!(found(&rules, key)[0].1, "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6");
        // What is allowed by the words before the keyword.
        assert_eq!(found(&rules, "primary_key = a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6 "), []);
    }
}
