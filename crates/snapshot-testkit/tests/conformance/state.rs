//! A provider that breaks one rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use snapshot_core::{ErrorKind, PortError, StateKind, StateProvider};
use snapshot_testkit::HostState;
use snapshot_testkit::conformance::state::{RULES, Subject, check};

/// A good provider but for the rule of this name.
struct Broken {
    rule: &'static str,
    good: HostState,
    calls: AtomicUsize,
}

impl Broken {
    fn breaks(&self, rule: &str) -> bool {
        self.rule == rule
    }
}

impl StateProvider for Broken {
    fn capture(&self, kind: StateKind) -> Result<Option<Vec<u8>>, PortError> {
        let captured = self.good.capture(kind)?;
        let spaces = " ".repeat(self.calls.fetch_add(1, Ordering::SeqCst));
        Ok(match captured {
            None if self.breaks("nothing_is_captured_as_none") => Some(b"null".to_vec()),
            Some(_) if self.breaks("what_is_put_back_is_captured") => Some(b"{}".to_vec()),
            Some(json) if self.breaks("its_own_comes_back_byte_for_byte") => {
                Some([spaces.as_bytes(), &json].concat())
            }
            Some(json) if self.breaks("capturing_changes_nothing") => {
                self.good.restore(kind, None)?;
                Some(json)
            }
            captured => captured,
        })
    }

    fn restore(&self, kind: StateKind, json: Option<&[u8]>) -> Result<(), PortError> {
        let again = self.good.capture(kind)?.as_deref() == json;
        if self.breaks("a_restore_may_be_repeated") && again && json.is_some() {
            return Err(PortError::plain(ErrorKind::Refused, "it is there already"));
        }
        if self.breaks("none_removes") && json.is_none() {
            return Ok(());
        }
        if self.breaks("the_kinds_are_apart") {
            StateKind::ALL.into_iter().try_for_each(|kind| self.good.restore(kind, None))?;
        }
        if self.breaks("what_is_no_json_does_no_harm") && json == Some(b"") {
            return self.good.restore(kind, None);
        }
        self.good.restore(kind, json)
    }
}

/// Would catch: a rule that any provider keeps, or that names another.
#[test]
fn each_rule_catches_who_breaks_it() {
    for rule in &RULES {
        let (good, calls) = (HostState::default(), AtomicUsize::default());
        let broken = Broken { rule: rule.name, good, calls };
        let caught = rule.check(&Subject::of_any_json(Arc::new(broken))).unwrap_err();
        assert_eq!(caught.rule, rule.name, "{caught}");
    }
}

/// Would catch: a rule that the plainest provider cannot keep.
#[test]
fn a_host_that_gives_back_what_it_got_keeps_all() {
    check(&Subject::of_any_json(Arc::new(HostState::default()))).unwrap();
}
