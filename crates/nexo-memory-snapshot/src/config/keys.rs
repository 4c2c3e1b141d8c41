//! Every key of the section, once: the reader takes no other, an unknown one is compared with these,
//! and the JSON Schema is made of them.

/// A key of a mapping.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it says, for the schema: editors show it.
    pub(super) about: &'static str,
}

/// What a key takes. `null` counts as absent everywhere.
pub(super) enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Number {
        /// From here.
        min: u64,
        /// To there.
        max: u64,
    },
    /// A number, fractions too.
    Decimal {
        /// From here.
        min: u32,
        /// To there.
        max: u32,
    },
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// A mapping with these keys, told in groups.
    Mapping(&'static [&'static [Key]]),
    /// A mapping with names of the user's own, each of this kind.
    Each(&'static Self),
}

/// Longest wait that may be configured, in seconds: a day.
pub(super) const MAX_WAIT_SECS: u64 = 86_400;
/// Longest time between two retention runs, in seconds: 30 days.
pub(super) const MAX_INTERVAL_SECS: u64 = 30 * 86_400;

/// `memory.snapshot`.
pub(super) const SNAPSHOT: Kind = Kind::Mapping(&[&GENERAL, &OF_AGENTS]);

/// What is said once.
const GENERAL: [Key; 12] = [
    switch(
        "enabled",
        "Whether anything happens by itself: automatic snapshots and retention. Default true; commands work either way",
    ),
    text("root", "The vault: the folder that snapshots are kept in"),
    text("memdir_root", "The classic layout's memdirs, <memdir_root>/<agent>; default: the root"),
    text(
        "sqlite_root",
        "The classic layout's databases, <sqlite_root>/<agent>/<store>.sqlite; default: the root",
    ),
    mapping("git", "Limits of captured repositories", &[&GIT]),
    mapping("events", "Who is told, and where", &[&EVENTS]),
    mapping(
        "redaction",
        "What counts as a secret, beside the rules that come along",
        &[&REDACTION],
    ),
    switch(
        "require_signature",
        "Whether bundles that no trusted key signed are refused at import and restore, and count for nothing in retention; default false",
    ),
    Key {
        name: "trusted_keys",
        kind: Kind::Texts,
        about: "Keys whose signatures count: minisign public keys, RW and 54 characters more",
    },
    text(
        "signing_key_path",
        "The minisign secret key, without a password, that signs every snapshot taken",
    ),
    mapping("retention", "What is to be kept", &[&RETENTION, &[INTERVAL]]),
    Key {
        name: "agents",
        kind: Kind::Each(&AGENT),
        about: "Agents by name: where each keeps its memory, and what differs for it",
    },
];

/// What an agent may say for itself, too.
const OF_AGENTS: [Key; 7] = [
    number(
        "lock_timeout_secs",
        0,
        MAX_WAIT_SECS,
        "How long to wait for locks and busy databases, in seconds; default 60",
    ),
    switch(
        "auto_pre_dream",
        "Whether a runtime takes a snapshot before each dream run; default false",
    ),
    switch(
        "auto_pre_restore",
        "Whether a restore keeps the present state as a snapshot first; default true",
    ),
    switch(
        "auto_pre_mutating_tool",
        "Whether a runtime takes a snapshot before each tool that changes the memory; default false",
    ),
    switch(
        "redact_secrets_default",
        "Whether snapshots are redacted where nothing else is said; default false (0.1: true)",
    ),
    mapping("encryption", "For whom snapshots are encrypted, and what opens them", &[&ENCRYPTION]),
    mapping(
        "hooks",
        "Commands that pause the agent around the cut and let it go on; {agent} stands for its name",
        &[&HOOKS],
    ),
];

/// `agents.<name>`.
const AGENT: Kind = Kind::Mapping(&[
    &LAYOUT,
    &OF_AGENTS,
    &[mapping("retention", "What is to be kept of this agent", &[&RETENTION])],
]);

const LAYOUT: [Key; 3] = [
    text("memdir", "The folder of its notes, with or without a git repository"),
    Key { name: "stores", kind: Kind::Each(&Kind::Text), about: "Its databases: name and path" },
    mapping("state", "Where its runtime state is", &[&STATE]),
];

const STATE: [Key; 2] = [
    mapping("extract_cursor", "The extractor's cursor", &[&SOURCE]),
    mapping("dream_run", "The last dream run", &[&SOURCE]),
];

const SOURCE: [Key; 4] = [
    text("json", "A JSON file, or:"),
    text("sqlite", "A database"),
    text("table", "Its table, of which the last row counts"),
    text("order_by", "The column that tells which row is the last"),
];

const GIT: [Key; 1] = [number(
    "max_object_bytes",
    1,
    u64::MAX,
    "Largest git object carried, in bytes; default 256 MiB",
)];

const HOOKS: [Key; 3] = [
    text("quiesce", "Pauses the agent, and ends once it is paused; run by sh -c"),
    text("resume", "Lets the agent go on; run on every way out"),
    number("deadline_secs", 1, MAX_WAIT_SECS, "How long each may take, in seconds; default 30"),
];

const ENCRYPTION: [Key; 3] = [
    switch(
        "enabled",
        "Whether snapshots are encrypted where nothing else is said, those kept before a restore among them; default false",
    ),
    Key {
        name: "recipients",
        kind: Kind::Texts,
        about: "Who can read them: age recipients, age1...; at most 64",
    },
    text("identity_path", "A file of age identities that open them, 0600; read once it is needed"),
];

const REDACTION: [Key; 5] = [
    text("name", "What manifests call this policy; default: that of the rules that come along"),
    Key {
        name: "rules",
        kind: Kind::Each(&Kind::Mapping(&[&RULE])),
        about: "Rules by id, which stands in [REDACTED:<id>]: small letters, digits and -",
    },
    Key {
        name: "allow",
        kind: Kind::Texts,
        about: "Regular expressions: what one of them finds a part of is no secret",
    },
    Key {
        name: "stopwords",
        kind: Kind::Texts,
        about: "What holds one of these words is no secret",
    },
    Key {
        name: "disable",
        kind: Kind::Texts,
        about: "Ids of rules that come along and are not to be used",
    },
];

const RULE: [Key; 4] = [
    text(
        "regex",
        "The regular expression, over bytes; its first group is the secret, or all of it",
    ),
    Key {
        name: "keywords",
        kind: Kind::Texts,
        about: "Words of which one must be near; without any, the rule is slow",
    },
    Key {
        name: "entropy",
        kind: Kind::Decimal { min: 0, max: 8 },
        about: "Bits of Shannon entropy a byte that the secret has at least",
    },
    number("secret_group", 0, 99, "The group that is the secret; 0 is all of it"),
];

const INTERVAL: Key = number(
    "gc_interval_secs",
    0,
    MAX_INTERVAL_SECS,
    "Time between two retention runs of a runtime, in seconds; default 3600",
);

const RETENTION: [Key; 13] = [
    number("keep_count", 0, U32, "Limit: this many of the newest stay; 0 is no limit; default 30"),
    number(
        "max_age_days",
        0,
        U32,
        "Limit: none is older than so many days; 0 is no limit; default 90",
    ),
    number(
        "max_total_bytes",
        0,
        u64::MAX,
        "Limit: all of an agent's together; the oldest go first; 0, the default, is no limit",
    ),
    number("keep_last", 0, U32, "Rule: the newest this many stay"),
    number("keep_hourly", 0, U32, "Rule: the newest of each of so many hours stays"),
    number("keep_daily", 0, U32, "Rule: the newest of each of so many days stays"),
    number("keep_weekly", 0, U32, "Rule: the newest of each of so many weeks stays"),
    number("keep_monthly", 0, U32, "Rule: the newest of each of so many months stays"),
    number("keep_yearly", 0, U32, "Rule: the newest of each of so many years stays"),
    number("keep_within_days", 0, U32, "Rule: all of so many days before the newest stay"),
    Key {
        name: "keep_labels",
        kind: Kind::Texts,
        about: "Rule: these labels stay; one that ends in * stands for all that begin so",
    },
    text("time_zone", "Where days begin, as Europe/Berlin; default UTC"),
    Key {
        name: "origins",
        kind: Kind::Each(&Kind::Mapping(&[&ORIGIN])),
        about: "Limits of single origins, as auto-pre-dream, whose snapshots then count apart",
    },
];

const ORIGIN: [Key; 2] = [
    number("keep_count", 0, U32, "This many of the newest stay; 0 is no limit"),
    number("max_age_days", 0, U32, "None is older than so many days; 0 is no limit"),
];

const EVENTS: [Key; 4] = [
    text(
        "lifecycle_subject_prefix",
        "What subjects of lifecycle events begin with; default nexo.memory.snapshot",
    ),
    text(
        "mutation_subject_prefix",
        "What subjects of mutation events begin with; default nexo.memory.mutated",
    ),
    switch(
        "mutation_publish_enabled",
        "Whether a runtime's mutation events are published; default true",
    ),
    mapping("nats", "The NATS server", &[&NATS]),
];

const NATS: [Key; 7] = [
    text("url", "nats:// or tls://, host and port; several with commas between them"),
    text("creds", "A credentials file"),
    text("nkey", "A file with the seed of an nkey"),
    text("token", "A token, best as ${VARIABLE}"),
    switch("jetstream", "Whether messages go to JetStream, which stores them; default false"),
    text("stream", "The JetStream stream that must take them"),
    mapping("tls", "TLS files, PEM", &[&TLS]),
];

const TLS: [Key; 3] = [
    text("ca", "Certificates to trust instead of the system's"),
    text("cert", "Our own certificate"),
    text("key", "Its key"),
];

const U32: u64 = 0xffff_ffff;

impl Kind {
    /// The keys of a mapping.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> {
        let groups: &[&[Key]] = if let Self::Mapping(groups) = self { groups } else { &[] };
        groups.iter().copied().flatten()
    }

    /// What a key below takes; none where it is not known.
    pub(super) fn of(&self, name: &str) -> Option<&'static Self> {
        match self {
            Self::Each(each) => Some(each),
            _ => self.keys().find(|key| key.name == name).map(|key| &key.kind),
        }
    }
}

const fn switch(name: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Boolean, about }
}

const fn number(name: &'static str, min: u64, max: u64, about: &'static str) -> Key {
    Key { name, kind: Kind::Number { min, max }, about }
}

const fn text(name: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Text, about }
}

const fn mapping(
    name: &'static str,
    about: &'static str,
    groups: &'static [&'static [Key]],
) -> Key {
    Key { name, kind: Kind::Mapping(groups), about }
}
