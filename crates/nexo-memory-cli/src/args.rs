//! The flags, as people type them. Parsing ends in our own types; nothing is interpreted here.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use nexo_memory_snapshot::id::{AgentId, CreatedBy, StoreName, Tenant};
use nexo_memory_snapshot::redaction::{GitHistory, RedactionOptions};
use nexo_memory_snapshot::request::{DiffSide, PathInside, SnapshotRef};

use crate::exit::Failure;

const ABOUT: &str = "\
Freeze an agent's memory at one instant, seal it into one file that anyone can check, and put it \
back whole.

An agent's memory is its memdir (files, usually with a git repository), its SQLite databases and its \
runtime state. The agent may go on working: its writers are held for milliseconds.";

const AFTER: &str = "\
Examples:
  nexo-memory snapshot --agent ana --label before
  nexo-memory list
  nexo-memory diff @before live --agent ana
  nexo-memory restore @before --agent ana

Names and places:
A snapshot is named by latest, latest~1, @label, an id or its first characters (4 or more), or the \
path of a bundle.

Where bundles are kept (the root): --root, else $NEXO_MEMORY_ROOT, else the configuration, else \
$NEXO_HOME/state, else ~/.nexo/state. Configuration: --config, else $NEXO_MEMORY_CONFIG, else \
$NEXO_HOME/config/memory.yaml, else /etc/nexo-memory.yaml. `nexo-memory config show` tells what is \
in force.

What opens encrypted bundles: --decrypt-identity, else the identities in $NEXO_MEMORY_IDENTITY, else the \
configuration's identity_path; for those with a passphrase, $NEXO_MEMORY_PASSPHRASE, else it is asked for.

Exit codes:
  0  done                               7  bundle newer than this program
  1  a defect of ours                   8  encryption
  2  usage or configuration             9  I/O, rights, space
  3  agent or snapshot not found       10  done, but not whole (with --strict)
  4  integrity                         11  a check found something
  5  busy                              12  verified only as far as possible
  6  refused, or recovery pending     130  interrupted";

/// Help of a verb: what it does comes before its flags.
const VERB: &str = "\
{about}.

{before-help}{usage-heading} {usage}

{all-args}{after-help}";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "nexo-memory", version, about = ABOUT, after_help = AFTER, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where bundles are kept
    #[arg(long, global = true, value_name = "DIR", alias = "state-root", help_heading = PLACES)]
    pub(crate) root: Option<PathBuf>,
    /// The configuration to read
    #[arg(long, global = true, value_name = "YAML", help_heading = PLACES)]
    pub(crate) config: Option<PathBuf>,
    /// The agent's tenant
    #[arg(long, global = true, default_value_t, value_name = "TENANT", help_heading = PLACES)]
    pub(crate) tenant: Tenant,
    /// Memdirs of the classic layout, `<DIR>/<agent>`; the root where absent
    #[arg(long, global = true, value_name = "DIR", help_heading = PLACES)]
    pub(crate) memdir_root: Option<PathBuf>,
    /// Databases of the classic layout, `<DIR>/<agent>/<store>.sqlite`; the root where absent
    #[arg(long, global = true, value_name = "DIR", help_heading = PLACES)]
    pub(crate) sqlite_root: Option<PathBuf>,
    /// The memdir of the one agent named, without any configuration
    #[arg(long, global = true, value_name = "DIR", help_heading = PLACES)]
    pub(crate) memdir: Option<PathBuf>,
    /// A database of the one agent named; may be repeated. A NAME alone is for diff: only this store
    #[arg(long, global = true, value_name = "NAME=FILE", help_heading = PLACES)]
    pub(crate) store: Vec<StoreArg>,
    /// Runtime state, `<DIR>/<agent>/{extract_cursor,dream_run}.json`
    #[arg(long, global = true, value_name = "DIR", help_heading = PLACES)]
    pub(crate) state_json_root: Option<PathBuf>,
    /// The age identities that open encrypted bundles: a file of mode 0600, or - for stdin
    #[arg(long, global = true, value_name = "FILE", help_heading = PLACES)]
    pub(crate) decrypt_identity: Option<PathBuf>,
    /// Print one JSON document on stdout and nothing else
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) json: bool,
    /// Exit with 10 where something was left out or changed around the cut
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) strict: bool,
    /// Only results and errors
    #[arg(long, short, global = true, help_heading = OUTPUT)]
    pub(crate) quiet: bool,
    /// Whether to colour messages
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = OUTPUT)]
    pub(crate) color: Color,
    /// No progress bar
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) no_progress: bool,
}

const PLACES: &str = "Where things are";
const OUTPUT: &str = "Output";

/// When messages are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// `--store NAME=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedStore {
    pub(crate) name: StoreName,
    pub(crate) file: PathBuf,
}

/// `--store`: where a store lies, or the one that a diff is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreArg {
    /// `NAME=FILE`.
    Lies(NamedStore),
    /// `NAME`.
    Only(StoreName),
}

impl Global {
    /// The stores whose files are named.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &NamedStore> {
        self.store.iter().filter_map(|store| match store {
            StoreArg::Lies(named) => Some(named),
            StoreArg::Only(_) => None,
        })
    }

    /// The stores that are named without a file.
    pub(crate) fn only_stores(&self) -> impl Iterator<Item = &StoreName> {
        self.store.iter().filter_map(|store| match store {
            StoreArg::Lies(_) => None,
            StoreArg::Only(name) => Some(name),
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Capture an agent's memory at one instant into one verifiable bundle
    #[command(help_template = VERB, before_help = "\
All databases, git refs and runtime state are of the same instant, whatever the agent is \
writing meanwhile. What a bundle cannot hold (a socket, say) is listed, never skipped in \
silence.")]
    #[command(after_help = "\
Examples:
  nexo-memory snapshot --agent ana --label 'before the upgrade'
  nexo-memory snapshot --all --quiet
  nexo-memory snapshot --agent ana --memdir ./mem --store long_term=./memory.db")]
    Snapshot(SnapshotArgs),
    /// Put an agent's memory back to a snapshot, whole or not at all
    #[command(help_template = VERB, before_help = "\
Shows what it will do and asks first. The present state is kept as a snapshot, so a restore \
can be undone. Databases are written through SQLite: programs that have them open see the \
restored rows at once.")]
    #[command(after_help = "\
Examples:
  nexo-memory restore latest --agent ana --dry-run
  nexo-memory restore 3f9c21ab --to /tmp/look-at-it-first
  nexo-memory restore latest --agent ana --as bob")]
    Restore(RestoreArgs),
    /// List snapshots, newest first
    #[command(help_template = VERB, before_help = "\
Reads the summaries beside the bundles, not the bundles. What cannot be read is told on \
stderr.")]
    #[command(after_help = "\
Examples:
  nexo-memory list
  nexo-memory list --agent ana --json | jq -r '.snapshots[].id'")]
    List(ListArgs),
    /// Show what a snapshot holds
    #[command(help_template = VERB, before_help = "\
Prints the bundle's manifest for people; with --json, as it is.")]
    #[command(after_help = "\
Examples:
  nexo-memory show latest --agent ana
  nexo-memory show @before --agent ana --json | jq .manifest.git
  nexo-memory show ./3f9c21ab.tar.zst")]
    Show(ShowArgs),
    /// Write one file of a snapshot to stdout
    #[command(help_template = VERB, before_help = "\
Reads only the frames that hold it. The digest is known at the end: what was printed is to be \
trusted only after exit code 0. `ls` lists the paths; git@REVISION:PATH is a file as a commit of the \
snapshot's git history has it. On a terminal, characters that could \
steer it are escaped; in a pipe or file, the bytes are as they were.")]
    #[command(override_usage = "nexo-memory cat [OPTIONS] <SNAPSHOT> <PATH>")]
    #[command(after_help = "\
Examples:
  nexo-memory cat latest memory_files/MEMORY.md --agent ana
  nexo-memory cat latest git@main~3:MEMORY.md --agent ana
  nexo-memory cat 3f9c21ab sqlite/long_term.sqlite > then.sqlite")]
    Cat(CatArgs),
    /// List what a snapshot holds
    #[command(help_template = VERB, before_help = "\
Files, folders and links at a path in the bundle and below it; without one, all of them. Reads the \
manifest only. git@REVISION:PATH is a place in the snapshot's git history, which is read for it.")]
    #[command(after_help = "\
Examples:
  nexo-memory ls latest --agent ana
  nexo-memory ls latest memory_files/notes --agent ana
  nexo-memory ls latest git@main --agent ana")]
    Ls(LsArgs),
    /// Write files of a snapshot into a folder
    #[command(help_template = VERB, before_help = "\
What lies at a path in the bundle and below it, under the same names; without one, all of it. With \
git@REVISION:PATH, that of a commit of its git history. Replaces nothing, reads only what is needed, \
and checks it on the way.")]
    #[command(after_help = "\
Examples:
  nexo-memory extract latest --agent ana --to ./look
  nexo-memory extract latest sqlite/long_term.sqlite --agent ana --to ./look
  nexo-memory extract latest git@v1:notes --agent ana --to ./look")]
    Extract(ExtractArgs),
    /// Read bundles from end to end and check every digest
    #[command(help_template = VERB, before_help = "\
Names each damaged artifact and frame. Without a snapshot, all of the agent's (or, with \
--all, of the tenant's) are checked. Exits with 4 where anything is wrong, with 12 where an encrypted bundle \
could be compared with its summary only, for there is no identity.")]
    #[command(after_help = "\
Examples:
  nexo-memory verify latest --agent ana
  nexo-memory verify --all --json")]
    Verify(VerifyArgs),
    /// Look for secrets in a snapshot, or in an agent's live memory
    #[command(help_template = VERB, before_help = "\
Tells where each secret is and by which rule it was found, the secret itself masked. It is the search \
that a redaction begins with: what is not found here is not redacted. Exit code 11 where anything is \
found. Changes nothing.")]
    #[command(after_help = "\
Examples:
  nexo-memory scan-secrets --agent ana
  nexo-memory scan-secrets latest --agent ana --json | jq '.report.by_rule'")]
    ScanSecrets(ScanSecretsArgs),
    /// Show what was learned, changed and forgotten between two snapshots, or since one
    #[command(help_template = VERB, before_help = "\
A summary first, then the rows, files, commits and places of the runtime state. `live` is a valid \
side. With --json all of them, whatever --limit says.")]
    #[command(after_help = "\
Examples:
  nexo-memory diff latest~1 latest --agent ana
  nexo-memory diff @before-dream live --agent ana --stat
  nexo-memory diff 3f9c live --store long_term --table memories --limit 0
  nexo-memory diff latest live --agent ana --json | jq '.changes[].what'")]
    Diff(DiffArgs),
    /// Delete one snapshot, or all of an agent
    #[command(help_template = VERB, before_help = "\
Asks first, and refuses the last good one of an agent. What is deleted never comes back, not even \
by a crash in the middle. --everything leaves nothing of the agent in the vault, and asks for its \
name; the agent's memory itself is not touched.")]
    #[command(after_help = "\
Examples:
  nexo-memory delete 3f9c21ab
  nexo-memory delete latest~4 --agent ana --yes
  nexo-memory delete --agent ana --everything")]
    Delete(DeleteArgs),
    /// Copy a bundle out of the vault, checked on the way
    #[command(help_template = VERB, before_help = "\
A plain bundle holds the whole memory in the clear, so --whole must say that this is meant, or --encrypt \
for whom it is, or --redact that its secrets stay here. An encrypted one leaves as it is, for others with \
--encrypt, in the clear with --decrypt. What leaves the vault is told. Replaces nothing.")]
    #[command(after_help = "\
Examples:
  nexo-memory export latest --agent ana --to /mnt/backup --whole
  nexo-memory export latest --agent ana --to /mnt --recipients-file team.txt
  nexo-memory export latest --agent ana --to ./for-support --redact
  nexo-memory export 3f9c21ab --to ./ana.tar.zst --whole")]
    Export(ExportArgs),
    /// Take bundles into the vault, checked on the way
    #[command(help_template = VERB, before_help = "\
Each is copied, read whole, and gets a new summary; what lies beside it must agree. Refuses what is \
there already, and bundles of another tenant. What comes in the clear is encrypted where the configuration \
says so. With --all, bundles that lie in the vault without \
their summary become snapshots again.")]
    #[command(after_help = "\
Examples:
  nexo-memory import /mnt/backup/*.tar.zst
  nexo-memory import --all")]
    Import(ImportArgs),
    /// Encrypt snapshots anew, for other readers
    #[command(help_template = VERB, before_help = "\
For the recipients named, else those of the configuration. Content and signature stay as they are. The new \
file is read back before the old one goes; who can read only the old one cannot read it any more. \
Snapshots in the clear are encrypted. Needs the identity that opens what there is.")]
    #[command(after_help = "\
Examples:
  nexo-memory rekey --agent ana --recipients-file team --decrypt-identity key
  nexo-memory rekey --all --decrypt-identity key.txt --yes")]
    Rekey(RekeyArgs),
    /// Make a key: an age identity, or a minisign key
    #[command(help_template = VERB, before_help = "\
The secret is written to a new file of mode 0600. What the key opens or signs is lost without it: keep a \
copy where the bundles are not.")]
    #[command(after_help = "\
Examples:
  nexo-memory keygen --age --to ~/.config/nexo/identity.txt
  nexo-memory keygen --sign --to ~/.config/nexo/signing.key")]
    Keygen(KeygenArgs),
    /// Delete what the policy drops
    #[command(help_template = VERB, before_help = "\
Prints each snapshot with the reason why it stays or goes; --dry-run stops after that. The policy is \
the configuration's memory.snapshot.retention. The last good snapshot of an agent always stays; one \
that is pinned, on hold or needed by an interrupted restore does too.")]
    #[command(after_help = "\
Examples:
  nexo-memory prune --dry-run
  nexo-memory prune --agent ana --json")]
    Prune(PruneArgs),
    /// Keep a snapshot from being deleted
    #[command(help_template = VERB, after_help = "\
Examples:
  nexo-memory pin @before-upgrade --agent ana --reason 'until the audit'")]
    Pin(PinArgs),
    /// Let a pinned snapshot go again
    #[command(help_template = VERB, after_help = "\
Examples:
  nexo-memory unpin @before-upgrade --agent ana")]
    Unpin(UnpinArgs),
    /// Keep everything from being deleted, of one agent or of the whole vault
    #[command(help_template = VERB, before_help = "\
While a hold lasts, neither prune nor delete removes anything.")]
    #[command(after_help = "\
Examples:
  nexo-memory hold --all 'incident 42'
  nexo-memory hold --agent ana 'under audit'")]
    Hold(HoldArgs),
    /// End a hold
    #[command(help_template = VERB, after_help = "\
Examples:
  nexo-memory release --agent ana
  nexo-memory release --all")]
    Release(ReleaseArgs),
    /// One line an agent: its last good snapshot, and what is wrong
    #[command(help_template = VERB, before_help = "\
Reads summaries only. Exits with 11 where an agent has no good snapshot, one older than --max-age, an \
interrupted restore, or a problem.")]
    #[command(after_help = "\
Examples:
  nexo-memory status
  nexo-memory status --max-age 26h --json")]
    Status(StatusArgs),
    /// Listen to what happens to agents' memories
    #[cfg(feature = "nats")]
    #[command(help_template = VERB, after_help = "\
Examples:
  nexo-memory events tail --agent ana")]
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Events(EventsArgs),
    /// Check the vault and the agents for what needs a decision or a repair
    #[command(help_template = VERB, before_help = "\
Changes nothing unless told. With --fix it reads what is suspect whole, makes summaries anew, \
clears away what the dead left, closes what others can read, and moves what is no snapshot to a \
quarantine, from which `import` takes it back. A restore that was interrupted while someone worked on waits \
here: `forward` finishes it, `abandon` keeps what is there now; either way the present state \
was kept as a snapshot. Exits with 11 where something is left to do.")]
    #[command(after_help = "\
Examples:
  nexo-memory doctor --fix
  nexo-memory doctor --agent ana --recover forward")]
    Doctor(DoctorArgs),
    /// Watch an agent live through a bad day, in ten seconds
    #[cfg(feature = "demo")]
    #[command(help_template = VERB, before_help = "\
Makes an agent with four databases, a git memdir and four writers that never rest, and takes it \
through a snapshot, a poisoned fact, a restore, and a kill in the middle of a restore. Each \
step is the command that was really run: paste it. Needs git, tar, zstd, sqlite3 and sha256sum.")]
    #[command(after_help = "\
Examples:
  nexo-memory demo
  nexo-memory demo --dir /tmp/ana --plain")]
    Demo(DemoArgs),
    /// Print completions for a shell
    #[command(help_template = VERB, after_help = "\
Examples:
  nexo-memory completions bash > /etc/bash_completion.d/nexo-memory
  nexo-memory completions zsh > ~/.zfunc/_nexo-memory")]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(help_template = VERB, before_help = "\
The page of the program to stdout; with --to, that and one for each verb into a folder.")]
    #[command(after_help = "\
Examples:
  nexo-memory man | man -l -
  nexo-memory man --to /usr/local/share/man/man1")]
    Man(ManArgs),
    /// Look at the configuration
    #[command(help_template = VERB, after_help = "\
Examples:
  nexo-memory config show
  nexo-memory config check")]
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Config(ConfigArgs),
}

impl Verb {
    /// Whether this is the demo.
    pub(crate) const fn is_demo(&self) -> bool {
        #[cfg(feature = "demo")]
        return matches!(self, Self::Demo(_));
        #[cfg(not(feature = "demo"))]
        return false;
    }
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// The agent
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    pub(crate) agent: Option<AgentId>,
    /// Every agent of the configuration, one after another
    #[arg(long)]
    pub(crate) all: bool,
    /// A name for people; `@label` finds it again
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Without the secrets that are found in it; such a snapshot brings not everything back
    #[arg(long)]
    pub(crate) redact_secrets: bool,
    /// Take it whole, whatever the configuration's redact_secrets_default says
    #[arg(long, conflicts_with = "redact_secrets")]
    pub(crate) no_redact: bool,
    #[command(flatten)]
    pub(crate) redaction: RedactionArgs,
    #[command(flatten)]
    pub(crate) encrypt: EncryptArgs,
    /// Do not encrypt, whatever the configuration says
    #[arg(long, conflicts_with_all = ["encrypt", "recipients_file", "passphrase"])]
    pub(crate) no_encrypt: bool,
    /// Keep the label of an encrypted snapshot in its summary, where everybody can read it
    #[arg(long, requires = "label")]
    pub(crate) public_label: bool,
    /// Sign it with this minisign secret key, one without a password
    #[arg(long, value_name = "FILE")]
    pub(crate) sign: Option<PathBuf>,
    /// What asks for it: retention counts origins apart
    #[arg(long, value_name = "ORIGIN", default_value = "cli")]
    pub(crate) created_by: CreatedBy,
    /// How long to wait for locks, whatever the configuration says
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) lock_timeout: Option<Duration>,
}

/// What a redaction does beyond looking for secrets.
#[derive(Debug, Clone, Args)]
pub(crate) struct RedactionArgs {
    /// Of a redacted bundle's git history: rewrite it, keep what HEAD holds as one commit, or drop it
    #[arg(long, value_name = "HOW", value_parser = git_history(), default_value = "rewrite")]
    pub(crate) git_history: GitHistory,
    /// Leave this store out of a redacted bundle; may be repeated
    #[arg(long, value_name = "STORE")]
    pub(crate) drop_store: Vec<StoreName>,
}

/// For whom something is encrypted.
#[derive(Debug, Clone, Args)]
pub(crate) struct EncryptArgs {
    /// Encrypt for this age recipient, age1... or age:age1...; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) encrypt: Vec<String>,
    /// Encrypt for the recipients in this file, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) recipients_file: Vec<PathBuf>,
    /// Encrypt with a passphrase: $NEXO_MEMORY_PASSPHRASE (for rekey, $NEXO_MEMORY_NEW_PASSPHRASE), else it
    /// is asked for
    #[arg(long, conflicts_with_all = ["encrypt", "recipients_file"])]
    pub(crate) passphrase: bool,
}

impl RedactionArgs {
    pub(crate) fn options(&self) -> RedactionOptions {
        let drop_stores = self.drop_store.clone();
        RedactionOptions { git_history: self.git_history, drop_stores }
    }

    /// Whether anything is asked for that only a redaction does.
    pub(crate) fn asks(&self) -> bool {
        self.git_history != GitHistory::default() || !self.drop_store.is_empty()
    }
}

#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    /// latest, latest~1, @label, an id or its first characters
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<SnapshotRef>,
    /// The same, as a flag (also --id)
    #[arg(long = "from", alias = "id", value_name = "SNAPSHOT", conflicts_with = "snapshot")]
    pub(crate) named: Option<SnapshotRef>,
    /// The agent; alone, all of its snapshots
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Every snapshot of the tenant
    #[arg(long, conflicts_with_all = ["snapshot", "named", "agent"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) encrypt: EncryptArgs,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("kind").required(true))]
pub(crate) struct KeygenArgs {
    /// An age identity, which opens what is encrypted for its recipient
    #[arg(long, group = "kind")]
    pub(crate) age: bool,
    /// A minisign key, which signs snapshots; its public half is written beside it, with .pub
    #[arg(long, group = "kind")]
    pub(crate) sign: bool,
    /// The file to write the secret to
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The bundles
    #[arg(value_name = "BUNDLE", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) bundles: Vec<PathBuf>,
    /// Those that lie in the vault without their summary
    #[arg(long)]
    pub(crate) all: bool,
    /// Only bundles of this agent
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Bundles of other tenants too, each into its own
    #[arg(long)]
    pub(crate) foreign: bool,
    #[command(flatten)]
    pub(crate) encrypt: EncryptArgs,
    /// Do not encrypt what comes in the clear, whatever the configuration says
    #[arg(long, conflicts_with_all = ["encrypt", "recipients_file", "passphrase"])]
    pub(crate) no_encrypt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only this agent; else every agent of the tenant that has snapshots
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Show the plan and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    #[command(flatten)]
    pub(crate) snapshot: Named,
    /// The agent, where the snapshot's name does not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Why
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct UnpinArgs {
    #[command(flatten)]
    pub(crate) snapshot: Named,
    /// The agent, where the snapshot's name does not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
}

/// Whose: one agent's, or everything.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whose {
    /// Of this agent
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Of the whole vault, with all its tenants
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Why
    #[arg(value_name = "WHY")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) whose: Whose,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this agent
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// The age from which a last good snapshot is too old, as 26h or 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) max_age: Option<Duration>,
}

/// Flags of `events`.
#[cfg(feature = "nats")]
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    pub(crate) verb: EventsVerb,
}

/// What to do with events.
#[cfg(feature = "nats")]
#[derive(Debug, Subcommand)]
pub(crate) enum EventsVerb {
    /// Print events as they arrive, until Ctrl-C
    #[command(help_template = VERB, before_help = "\
Listens at the NATS server of $NEXO_MEMORY_NATS_URL or the configuration's memory.snapshot.events.nats. \
With --json one event a line.")]
    #[command(after_help = "\
Examples:
  nexo-memory events tail --agent ana
  nexo-memory events tail --mutations --json | jq .kind")]
    Tail(TailArgs),
}

/// Flags of `events tail`.
#[cfg(feature = "nats")]
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Only this agent's
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Mutation events too
    #[arg(long)]
    pub(crate) mutations: bool,
}

/// Flags of `demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where to make the agent and its vault; a fresh folder for temporary files where absent
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// No bold and no colours
    #[arg(long)]
    pub(crate) plain: bool,
    /// Restore @before of the agent made in DIR, and die (SIGKILL) between two of its stores
    #[arg(long, requires = "dir")]
    pub(crate) kill_in_restore: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) snapshot: Named,
    /// The agent, where the snapshot's name does not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Put it over the memory of this agent of the tenant instead
    #[arg(long = "as", value_name = "AGENT")]
    pub(crate) over: Option<AgentId>,
    /// Show the plan and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Restore into this empty folder instead, to look at first
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Do not keep the present state as a snapshot first
    #[arg(long)]
    pub(crate) no_auto_pre_snapshot: bool,
    /// Keep it, whatever the configuration's auto_pre_restore says
    #[arg(long, conflicts_with = "no_auto_pre_snapshot")]
    pub(crate) auto_pre_snapshot: bool,
    /// How long to wait for locks, whatever the configuration says
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) lock_timeout: Option<Duration>,
    /// Restore a database whole although other agents use it too
    #[arg(long)]
    pub(crate) whole_store: bool,
    /// Restore a redacted snapshot over the live agent: what was taken out of it is lost there too
    #[arg(long)]
    pub(crate) accept_redacted: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this agent's
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) snapshot: Named,
    /// The agent, where the snapshot's name does not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    pub(crate) inside: Inside,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) inside: Inside,
}

#[derive(Debug, Args)]
pub(crate) struct ExtractArgs {
    #[command(flatten)]
    pub(crate) inside: Inside,
    /// The folder to write to; made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

/// Which part of which snapshot.
#[derive(Debug, Args)]
pub(crate) struct Inside {
    /// latest, latest~1, @label, an id or its first characters, or a bundle's path
    #[arg(value_name = "SNAPSHOT", required_unless_present = "named")]
    first: Option<String>,
    /// A path in the bundle, as `ls` names it, or git@REVISION:PATH in its git history
    #[arg(value_name = "PATH")]
    second: Option<String>,
    /// The snapshot as a flag (also --id, --bundle), before the PATH alone
    #[arg(long = "from", aliases = ["id", "bundle"], value_name = "SNAPSHOT")]
    named: Option<SnapshotRef>,
    /// The agent, where the snapshot's name does not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// latest, latest~1, @label, an id or its first characters, or a bundle's path
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<SnapshotRef>,
    /// The same, as a flag (also --id, --from)
    #[arg(long = "bundle", aliases = ["id", "from"], value_name = "SNAPSHOT")]
    #[arg(conflicts_with = "snapshot")]
    pub(crate) named: Option<SnapshotRef>,
    /// The agent; alone, all of its snapshots
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Every snapshot of the tenant
    #[arg(long, conflicts_with_all = ["snapshot", "named", "agent"])]
    pub(crate) all: bool,
    /// Only those that nobody has read for 6 days; alone, of every agent
    #[arg(long, conflicts_with_all = ["snapshot", "named"])]
    pub(crate) due: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScanSecretsArgs {
    /// latest, latest~1, @label, an id or its first characters, or a bundle's path
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<SnapshotRef>,
    /// The same, as a flag (also --id, --bundle)
    #[arg(long = "from", aliases = ["id", "bundle"], value_name = "SNAPSHOT")]
    #[arg(conflicts_with = "snapshot")]
    pub(crate) named: Option<SnapshotRef>,
    /// The agent; alone, its live memory
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// How long to wait for locks, whatever the configuration says
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) lock_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The older side: a snapshot, or `live`
    #[arg(value_parser = diff_side)]
    pub(crate) a: DiffSide,
    /// The newer side: a snapshot, or `live`
    #[arg(value_parser = diff_side)]
    pub(crate) b: DiffSide,
    /// The agent, where the snapshots' names do not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Counts only
    #[arg(long)]
    pub(crate) stat: bool,
    /// Only tables of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// Rows shown of each table, and as many files, commits and places; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// latest, latest~1, @label, an id or its first characters, or a bundle's path
    #[arg(value_name = "SNAPSHOT", required_unless_present_any = ["named", "everything"])]
    pub(crate) snapshot: Option<SnapshotRef>,
    /// The same, as a flag (also --id, --bundle)
    #[arg(long = "from", aliases = ["id", "bundle"], value_name = "SNAPSHOT")]
    #[arg(conflicts_with = "snapshot")]
    pub(crate) named: Option<SnapshotRef>,
    /// All that the vault has of the agent, the last good snapshot too
    #[arg(long, requires = "agent", conflicts_with_all = ["snapshot", "named"])]
    pub(crate) everything: bool,
    /// The agent, where the snapshot's name does not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) snapshot: Named,
    /// The agent, where the snapshot's name does not tell it
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// The folder, or the file ending in .tar.zst (encrypted: .tar.zst.age), to write
    #[arg(long, value_name = "PATH")]
    pub(crate) to: PathBuf,
    /// All of it, as it lies in the vault: of a plain bundle, the whole memory in the clear
    #[arg(long)]
    pub(crate) whole: bool,
    /// All of it in the clear, also where the bundle is encrypted
    #[arg(long, conflicts_with = "whole")]
    pub(crate) decrypt: bool,
    /// Without the secrets that are found in it, in the clear unless it is encrypted too; the copy is a bundle of
    /// its own, with another id
    #[arg(long, conflicts_with_all = ["whole", "decrypt"])]
    pub(crate) redact: bool,
    #[command(flatten)]
    pub(crate) redaction: RedactionArgs,
    #[command(flatten)]
    pub(crate) encrypt: EncryptArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Only this agent
    #[arg(long)]
    pub(crate) agent: Option<AgentId>,
    /// Mend what can be mended without a decision and without losing anything
    #[arg(long)]
    pub(crate) fix: bool,
    /// Decide an interrupted restore
    #[arg(long, value_name = "HOW", requires = "agent", conflicts_with = "fix")]
    pub(crate) recover: Option<Recover>,
}

/// How an interrupted restore is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recover {
    /// Finish it
    Forward,
    /// Keep what is there now
    Abandon,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder for all pages; made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print what is in force, and where each value came from
    #[command(help_template = VERB, before_help = "\
Flags win over the environment, the environment over the configuration, that over defaults.")]
    #[command(after_help = "\
Examples:
  nexo-memory config show
  nexo-memory config show --config ./memory.yaml --json")]
    Show,
    /// Say what is wrong with the configuration
    #[command(help_template = VERB, before_help = "\
Reads it as every verb does (exit 2 where that fails), and looks whether what it names is there. Exits \
with 11 where something is likely not meant.")]
    #[command(after_help = "\
Examples:
  nexo-memory config check --config ./memory.yaml")]
    Check,
    /// Print the JSON Schema of the configuration
    #[command(help_template = VERB, after_help = "\
Examples:
  nexo-memory config schema > nexo-memory.schema.json")]
    Schema,
}

/// Which snapshot.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// latest, latest~1, @label, an id or its first characters, or a bundle's path
    #[arg(value_name = "SNAPSHOT", required_unless_present = "named")]
    snapshot: Option<SnapshotRef>,
    /// The same, as a flag (also --id, --bundle)
    #[arg(long = "from", aliases = ["id", "bundle"], value_name = "SNAPSHOT")]
    #[arg(conflicts_with = "snapshot")]
    named: Option<SnapshotRef>,
}

impl Named {
    /// The snapshot that was named, either way.
    pub(crate) fn get(&self) -> Option<&SnapshotRef> {
        self.snapshot.as_ref().or(self.named.as_ref())
    }
}

impl Inside {
    /// The snapshot that was named, either way, and the path in it.
    pub(crate) fn get(&self) -> Result<(SnapshotRef, Option<PathInside>), Failure> {
        let (snapshot, path) = match (&self.named, &self.first, &self.second) {
            (Some(_), Some(_), Some(second)) => {
                let why =
                    format!("two snapshots are named, or two paths: \"{second}\" is too much");
                return Err(Failure::usage(why).try_this("leave out --from, or one of the two"));
            }
            (Some(named), path, None) => (named.clone(), path),
            (None, Some(first), path) => (parsed(first)?, path),
            (_, None, _) => return Err(Failure::usage("no snapshot is named")),
        };
        Ok((snapshot, path.as_deref().map(parsed).transpose()?))
    }
}

/// What was typed, as what it should be.
fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|e: T::Err| Failure::usage(e.to_string()))
}

impl FromStr for StoreArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').map_or((text, None), |(n, f)| (n, Some(f)));
        if file.is_some_and(str::is_empty) {
            return Err("expected NAME=FILE".to_owned());
        }
        let name = name.parse::<StoreName>().map_err(|e| e.to_string())?;
        Ok(match file {
            Some(file) => Self::Lies(NamedStore { name, file: PathBuf::from(file) }),
            None => Self::Only(name),
        })
    }
}

/// A number with `m`, `h` or `d` behind it.
fn age(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no age: 90m, 26h and 7d are");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u32 = number.parse().map_err(|_| bad())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// A number of seconds, fractions too.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

fn git_history() -> impl TypedValueParser<Value = GitHistory> {
    let names = GitHistory::ALL.map(GitHistory::as_str);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<GitHistory>())
}

fn diff_side(text: &str) -> Result<DiffSide, String> {
    match text {
        "live" => Ok(DiffSide::Live),
        _ => text.parse().map(DiffSide::Snapshot).map_err(|e| format!("{e}, or live")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_snapshot_is_named_in_place_or_by_the_flags_of_0_1() {
        for args in [
            ["show", "3f9c"].as_slice(),
            &["show", "--from", "3f9c"],
            &["show", "--id", "3f9c"],
            &["show", "--bundle", "3f9c"],
        ] {
            let cli = Cli::try_parse_from([&["nexo-memory"], args].concat()).unwrap();
            let Verb::Show(args) = cli.verb else { panic!("{cli:?}") };
            assert_eq!(args.snapshot.get(), Some(&SnapshotRef::Prefix("3f9c".into())));
        }
        assert!(Cli::try_parse_from(["nexo-memory", "show"]).is_err());
        assert!(Cli::try_parse_from(["nexo-memory", "show", "3f9c", "--id", "3f9c"]).is_err());
    }

    #[test]
    fn stores_and_sides_are_parsed_types() {
        let name = StoreName::from_static("long_term");
        let lies = StoreArg::Lies(NamedStore { name: name.clone(), file: PathBuf::from("/a=b") });
        assert_eq!("long_term=/a=b".parse(), Ok(lies));
        assert_eq!("long_term".parse(), Ok(StoreArg::Only(name)));
        for bad in ["long_term=", "../x=/y", "=/y", "../x", ""] {
            assert!(bad.parse::<StoreArg>().is_err(), "{bad}");
        }
        assert_eq!(diff_side("live"), Ok(DiffSide::Live));
        assert!(diff_side("lively").unwrap_err().contains("or live"));
    }
}
