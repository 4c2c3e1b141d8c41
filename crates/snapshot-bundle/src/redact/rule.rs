//! One rule: where its regular expression is run, what of a match is the secret, and what is allowed.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::meta::Regex;
use regex_automata::util::primitives::{NonMaxUsize, PatternID};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, HirKind, Look};

use super::config::{AllowConfig, RuleConfig, RuleError, Target};
use super::entropy::entropy;

/// How far a match may reach from a keyword, where the regular expression does not say.
pub(super) const REACH: usize = 32 * 1024;

/// How most rules of gitleaks start. A match that starts at the keyword says the same; what stands before
/// it counts only for what is allowed.
const LEAD: &str = r"(?i)[\w.-]{0,50}?";
/// How much that takes at most.
const LEAD_BYTES: usize = 50;
/// Shortest match of a rule without keywords that is looked for in long words only.
const LONG_WORD: usize = 32;
/// Slots for a match and seven groups.
const SLOTS: usize = 16;
/// What the lazy automaton of one rule may take.
const CACHE_BYTES: usize = 512 * 1024;

/// Where a rule's regular expression is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// Every match starts with a keyword, or with a few bytes of no account before it.
    AtKeyword { lead: usize, whole_word: bool },
    /// A match lies at most so many bytes around a keyword.
    Around(usize),
    /// In words of at least [`LONG_WORD`] bytes.
    InLongWords,
    /// In everything.
    Everywhere,
}

/// A rule, compiled when it is first needed: most never are.
pub(super) struct Rule {
    pub(super) id: Arc<str>,
    pub(super) keywords: Vec<String>,
    pub(super) weak: bool,
    regex: String,
    entropy: Option<f64>,
    secret_group: Option<usize>,
    allow: Vec<AllowConfig>,
    engine: OnceLock<Engine>,
}

/// A compiled rule.
pub(super) struct Engine {
    regex: Regex,
    pub(super) place: Where,
    allow: Vec<Allow>,
}

/// A compiled allow-list.
pub(super) struct Allow {
    regexes: Vec<Regex>,
    stopwords: Option<AhoCorasick>,
    target: Target,
    all: bool,
}

impl Rule {
    /// A rule that was not compiled yet.
    pub(super) fn new(config: RuleConfig) -> Self {
        let RuleConfig { id, regex, keywords, entropy, secret_group, weak, allow, .. } = config;
        let keywords = keywords.into_iter().map(|word| word.to_ascii_lowercase()).collect();
        let engine = OnceLock::new();
        Self { id: id.into(), keywords, weak, regex, entropy, secret_group, allow, engine }
    }

    /// Compiles it.
    ///
    /// # Errors
    /// If a regular expression is none, or matches the empty string.
    pub(super) fn compile(&self) -> Result<Engine, RuleError> {
        let wrong = |why: String| RuleError::Regex { rule: self.id.to_string(), why };
        let lead = self.regex.strip_prefix(LEAD).map(|rest| format!("(?i){rest}"));
        let pattern = lead.as_ref().unwrap_or(&self.regex);
        let hir = parse(pattern).map_err(wrong)?;
        if hir.properties().minimum_len() == Some(0) {
            return Err(RuleError::MatchesNothing { rule: self.id.to_string() });
        }
        let lead_bytes = if lead.is_some() { LEAD_BYTES } else { 0 };
        let mut place = self.place(pattern, &hir, lead_bytes);
        // What is not run at its keywords needs its lead again.
        let pattern = match place {
            Where::AtKeyword { .. } => pattern,
            _ => &self.regex,
        };
        if let Where::Around(reach) = &mut place {
            *reach += lead_bytes;
        }
        let regex = build(pattern).map_err(wrong)?;
        let groups = regex.group_info().group_len(PatternID::ZERO).min(SLOTS / 2);
        if let Some(group) = self.secret_group.filter(|&group| group >= groups) {
            return Err(RuleError::Group { rule: self.id.to_string(), group });
        }
        let allow = self.allow.iter().map(Allow::new).collect::<Result<_, _>>().map_err(wrong)?;
        Ok(Engine { regex, place, allow })
    }

    /// Compiled; a rule that does not compile was refused when it was loaded, or by our tests.
    pub(super) fn engine(&self) -> &Engine {
        self.engine.get_or_init(|| match self.compile() {
            Ok(engine) => engine,
            Err(error) => unreachable!("a rule was loaded that does not compile: {error}"),
        })
    }

    fn place(&self, pattern: &str, hir: &Hir, lead: usize) -> Where {
        let words = || hir.properties().minimum_len().is_some_and(|least| least >= LONG_WORD);
        if self.keywords.is_empty() {
            let in_words = words() && only_word_bytes(hir);
            return if in_words { Where::InLongWords } else { Where::Everywhere };
        }
        // Case is folded by the search for keywords.
        let plain = pattern.replace("(?i)", "").replace("(?i:", "(?:");
        let Ok(plain) = parse(&plain) else { return Where::Around(REACH) };
        if starts_with_keyword(&plain, &self.keywords) {
            let whole_word = hir.properties().look_set_prefix().contains(Look::WordAscii);
            return Where::AtKeyword { lead, whole_word };
        }
        let longest =
            hir.properties().maximum_len().filter(|_| holds_keyword(&plain, &self.keywords));
        Where::Around(longest.unwrap_or(REACH).min(REACH))
    }

    /// The secret of a match that starts exactly at `at`.
    pub(super) fn at(&self, bytes: &[u8], at: usize, globally: &[Allow]) -> Option<Range<usize>> {
        let Engine { regex, place, .. } = self.engine();
        let Where::AtKeyword { lead, whole_word } = *place else { return None };
        // Most short keywords are met inside of words.
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if whole_word && at > 0 && is_word(bytes[at - 1]) && is_word(bytes[at]) {
            return None;
        }
        let end = bytes.len().min(at + REACH);
        let input = Input::new(bytes).range(at..end).anchored(Anchored::Yes);
        let mut slots = [None; SLOTS];
        regex.search_slots(&input, &mut slots)?;
        let mut whole = span(&slots, 0)?;
        whole.start = lead_start(bytes, whole.start, lead);
        self.judge(bytes, whole, &slots, globally)
    }

    /// The secrets of matches inside `range`; those that overlap are found one after the other.
    pub(super) fn within(
        &self,
        bytes: &[u8],
        range: Range<usize>,
        globally: &[Allow],
        found: &mut impl FnMut(Range<usize>),
    ) {
        let regex = &self.engine().regex;
        let mut from = range.start;
        while from < range.end {
            let mut slots = [None; SLOTS];
            let input = Input::new(bytes).range(from..range.end);
            if regex.search_slots(&input, &mut slots).is_none() {
                break;
            }
            let Some(whole) = span(&slots, 0) else { break };
            let start = whole.start;
            let secret = self.judge(bytes, whole.clone(), &slots, globally);
            // What ends a secret may begin the next one.
            from = secret.as_ref().map_or(whole.end, |secret| secret.end).max(start + 1);
            if let Some(secret) = secret {
                found(secret);
            }
        }
    }

    fn judge(
        &self,
        bytes: &[u8],
        whole: Range<usize>,
        slots: &[Option<NonMaxUsize>; SLOTS],
        globally: &[Allow],
    ) -> Option<Range<usize>> {
        let first_group = || {
            let groups = (1..SLOTS / 2).filter_map(|group| span(slots, group));
            groups.into_iter().find(|range| !range.is_empty())
        };
        let secret = match self.secret_group {
            Some(group) => span(slots, group)?,
            None => first_group().unwrap_or_else(|| whole.clone()),
        };
        // What a class of gitleaks takes for a part of it escapes the quote that follows, in JSON.
        let escapes = bytes[secret.clone()].iter().rev().take_while(|&&byte| byte == b'\\').count();
        let secret = secret.start..secret.end - escapes;
        let value = &bytes[secret.clone()];
        if value.is_empty() || self.entropy.is_some_and(|least| entropy(value) <= least) {
            return None;
        }
        let lists = self.engine().allow.iter().chain(globally);
        let allowed = |list: &Allow| list.allows(bytes, &secret, &whole);
        (!{ lists }.any(allowed)).then_some(secret)
    }
}

impl Allow {
    /// Compiles an allow-list.
    pub(super) fn new(config: &AllowConfig) -> Result<Self, String> {
        let AllowConfig { regexes, stopwords, target, all } = config;
        let regexes = regexes.iter().map(|regex| build(regex)).collect::<Result<_, _>>()?;
        let automaton = || {
            let words = stopwords.iter().filter(|word| !word.is_empty());
            AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .match_kind(MatchKind::Standard)
                .build(words)
                .map_err(|e| e.to_string())
        };
        let stopwords = if stopwords.is_empty() { None } else { Some(automaton()?) };
        Ok(Self { regexes, stopwords, target: *target, all: *all })
    }

    fn allows(&self, bytes: &[u8], secret: &Range<usize>, whole: &Range<usize>) -> bool {
        let target = match self.target {
            Target::Secret => secret.clone(),
            Target::Match => whole.clone(),
            Target::Line => line(bytes, whole),
        };
        let by_regex = |regex: &Regex| regex.is_match(&bytes[target.clone()]);
        let value = &bytes[secret.clone()];
        let by_word = self.stopwords.as_ref().map(|words| words.is_match(value));
        if self.all {
            return self.regexes.iter().all(by_regex) && by_word != Some(false);
        }
        self.regexes.iter().any(by_regex) || by_word == Some(true)
    }
}

pub(super) fn parse(pattern: &str) -> Result<Hir, String> {
    let parsed = ParserBuilder::new().utf8(false).unicode(false).build().parse(pattern);
    parsed.map_err(|e| e.to_string())
}

/// Builds a regular expression over bytes.
fn build(pattern: &str) -> Result<Regex, String> {
    let config = Regex::config().utf8_empty(false).hybrid_cache_capacity(CACHE_BYTES);
    let syntax = syntax::Config::new().utf8(false).unicode(false);
    let built = Regex::builder().configure(config).syntax(syntax).build(pattern);
    built.map_err(|e| match e.syntax_error() {
        Some(syntax) => syntax.to_string(),
        None => e.to_string(),
    })
}

fn span(slots: &[Option<NonMaxUsize>; SLOTS], group: usize) -> Option<Range<usize>> {
    let slot = |at: usize| slots.get(at).copied().flatten().map(NonMaxUsize::get);
    Some(slot(2 * group)?..slot(2 * group + 1)?)
}

/// Where a match would start, had it taken all that it may before its keyword.
fn lead_start(bytes: &[u8], at: usize, lead: usize) -> usize {
    let before = bytes[..at].iter().rev().take(lead);
    let of_lead = |c: &&u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    at - before.take_while(of_lead).count()
}

/// The lines that `range` lies in, as far as they matter.
fn line(bytes: &[u8], range: &Range<usize>) -> Range<usize> {
    let before = &bytes[range.start.saturating_sub(REACH)..range.start];
    let after = &bytes[range.end..bytes.len().min(range.end + REACH)];
    let start = range.start - before.len() + memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    start..range.end + memchr::memchr(b'\n', after).unwrap_or(after.len())
}

/// Whether every match starts with one of `keywords`, but for case.
fn starts_with_keyword(hir: &Hir, keywords: &[String]) -> bool {
    let mut extractor = Extractor::new();
    extractor.limit_total(4096);
    let prefixes = extractor.extract(hir);
    let is_keyword = |prefix: &[u8]| {
        keywords.iter().any(|word| {
            prefix
                .get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    let literals = prefixes.literals();
    literals.is_some_and(|all| !all.is_empty() && all.iter().all(|one| is_keyword(one.as_bytes())))
}

/// Whether every match holds one of `keywords`, but for case.
fn holds_keyword(hir: &Hir, keywords: &[String]) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => {
            let text = literal.0.to_ascii_lowercase();
            keywords.iter().any(|word| memchr::memmem::find(&text, word.as_bytes()).is_some())
        }
        HirKind::Capture(capture) => holds_keyword(&capture.sub, keywords),
        HirKind::Repetition(times) => times.min > 0 && holds_keyword(&times.sub, keywords),
        HirKind::Concat(parts) => parts.iter().any(|part| holds_keyword(part, keywords)),
        HirKind::Alternation(parts) => parts.iter().all(|part| holds_keyword(part, keywords)),
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

/// Whether a match is made of the bytes of long words only.
fn only_word_bytes(hir: &Hir) -> bool {
    use regex_syntax::hir::Class;
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.iter().copied().all(super::runs::is_word),
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().all(|r| (r.start()..=r.end()).all(super::runs::is_word))
        }
        HirKind::Class(Class::Unicode(_)) => false,
        HirKind::Capture(capture) => only_word_bytes(&capture.sub),
        HirKind::Repetition(times) => only_word_bytes(&times.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(only_word_bytes),
        HirKind::Empty | HirKind::Look(_) => true,
    }
}
