//! What counts as a secret, beside the rules that come along.

use std::sync::Arc;

use snapshot_core::RedactionPolicy;

use super::ConfigError;
use super::section::Section;
use crate::redaction::{AllowConfig, RuleConfig, Rules, RulesConfig};

/// Most rules, exceptions and words.
const MAX_LISTED: usize = 4096;
/// Highest entropy of a byte, in bits.
const MAX_ENTROPY: f64 = 8.0;

/// The section `redaction`, and the rules that it makes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedactionSection {
    /// As written.
    pub rules: RulesConfig,
    /// Compiled, with those that come along.
    pub policy: Arc<Rules>,
}

/// The same text makes the same rules.
impl PartialEq for RedactionSection {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl RedactionSection {
    pub(super) fn policy(&self) -> Arc<dyn RedactionPolicy> {
        Arc::clone(&self.policy) as _
    }
}

pub(super) fn read(mut section: Section<'_>) -> Result<RedactionSection, ConfigError> {
    let name = section.text("name")?;
    let mut rules = Vec::new();
    if let Some(section) = section.section("rules")? {
        for (id, rule) in section.into_sections()? {
            rules.push(read_rule(id, rule)?);
        }
    }
    let allow = AllowConfig {
        regexes: section.texts("allow", MAX_LISTED)?.unwrap_or_default(),
        stopwords: section.texts("stopwords", MAX_LISTED)?.unwrap_or_default(),
        ..AllowConfig::default()
    };
    let disable = section.texts("disable", MAX_LISTED)?.unwrap_or_default();
    let rules = RulesConfig { name, rules, allow, disable };
    let policy = Rules::with(&rules).map_err(|e| section.bad_here(e.to_string()))?;
    section.finish();
    Ok(RedactionSection { rules, policy: Arc::new(policy) })
}

fn read_rule(id: String, mut rule: Section<'_>) -> Result<RuleConfig, ConfigError> {
    let regex = rule.text("regex")?;
    let keywords = rule.texts("keywords", MAX_LISTED)?.unwrap_or_default();
    let entropy = rule.decimal("entropy", 0.0..=MAX_ENTROPY)?;
    let group = rule.count("secret_group")?;
    let Some(regex) = regex else { return Err(rule.bad("regex", "it is needed")) };
    rule.finish();
    Ok(RuleConfig {
        id,
        regex,
        keywords,
        entropy,
        secret_group: group.and_then(|group| usize::try_from(group).ok()),
        description: String::new(),
        weak: false,
        allow: Vec::new(),
    })
}
