//! Every place of a memory where a secret may lie.

use super::token::Kind;

/// Where a canary was planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Prose in a memory file.
    FileProse,
    /// A `.env` file.
    FileEnv,
    /// A YAML file.
    FileYaml,
    /// Source code.
    FileCode,
    /// A file of UTF-16LE behind its mark.
    FileUtf16Le,
    /// A file of UTF-16BE behind its mark.
    FileUtf16Be,
    /// Inside a large file.
    FileLarge,
    /// In a large file, across an offset of 64 KiB, 128 KiB, 256 KiB and so on.
    FileBorder,
    /// Between zeros and noise.
    FileBinary,
    /// Base64 of a text; both alphabets, three alignments.
    FileBase64,
    /// A URL's parameter, percent-encoded where it must be or in every byte.
    FilePercent,
    /// Hexadecimal of a text.
    FileHex,
    /// A file's name.
    FileName,
    /// A folder's name.
    FolderName,
    /// A symbolic link's target.
    LinkTarget,
    /// The name of a folder that is not carried in full, which the manifest says.
    NotCarried,
    /// A string of a state file.
    State,
    /// A string of a state file in `\u` escapes, in whole or in part.
    StateEscaped,
    /// JSON in a string of a state file.
    StateNested,
    /// The snapshot's label, which the test passes on: [`super::Planted::label`].
    Label,
    /// Text in a table.
    Text,
    /// Bytes in a table.
    Blob,
    /// Bytes of UTF-16 in a table.
    BlobUtf16,
    /// A string of JSON in a table.
    Json,
    /// A string of binary JSON in a column that is checked for being that.
    Jsonb,
    /// Base64 of a text in a table.
    Base64,
    /// A table's primary key.
    PrimaryKey,
    /// A unique column.
    Unique,
    /// A key and the column that refers to it.
    ForeignKey,
    /// A key of a table without rowids.
    WithoutRowid,
    /// A column of a STRICT table.
    Strict,
    /// A column that two generated ones are made of.
    Generated,
    /// A column with an index.
    Indexed,
    /// A column that is checked for being JSON.
    CheckJson,
    /// A column that is checked for its length.
    CheckLength,
    /// A text beside its embedding.
    Embedding,
    /// A text of many pages, the secret across its 64 KiB.
    LargeCell,
    /// A full-text table with content of its own.
    Fts5,
    /// A full-text table over another table.
    Fts5External,
    /// A full-text table without content: its words are all there is.
    Fts5Contentless,
    /// A full-text table of the older kind.
    Fts4,
    /// A database of UTF-16.
    Utf16Database,
    /// Text in a database that lies among the memory files.
    FoundStore,
    /// The name of such a database.
    FoundStoreName,
    /// A column's default value.
    SchemaDefault,
    /// A comment in a table's definition.
    SchemaComment,
    /// A view's literal.
    SchemaView,
    /// A literal in a trigger, a partial index or a check.
    SchemaCode,
    /// The name of a table, a column or an index.
    SchemaName,
    /// A sample of an index in `sqlite_stat4`.
    Stat4,
    /// A page that a dropped table has left.
    FreePage,
    /// The gap of a deleted row on a page in use.
    FreeBlock,
    /// A row of the write-ahead log.
    Wal,
    /// A file of HEAD.
    GitHead,
    /// A file of HEAD in UTF-16 or base64.
    GitEncoded,
    /// A file that a later commit removed.
    GitHistory,
    /// A file on another branch.
    GitBranch,
    /// A path that a later commit removed.
    GitPath,
    /// A commit's message.
    GitMessage,
    /// An author's address.
    GitMail,
    /// A tagger's address.
    GitTagger,
    /// An annotated tag's message.
    GitTagMessage,
    /// A tag's name.
    GitTagName,
    /// A branch's name; HEAD is on the first of them.
    GitBranchName,
    /// A note on a commit.
    GitNote,
    /// A working file in the stash.
    GitStash,
    /// A staged file in the stash, that its working file had no more.
    GitStashIndex,
    /// An untracked file in the stash.
    GitStashUntracked,
    /// A stash entry's message.
    GitStashMessage,
    /// A header of a commit that git itself never writes.
    GitHeader,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 70] = [
        Self::FileProse,
        Self::FileEnv,
        Self::FileYaml,
        Self::FileCode,
        Self::FileUtf16Le,
        Self::FileUtf16Be,
        Self::FileLarge,
        Self::FileBorder,
        Self::FileBinary,
        Self::FileBase64,
        Self::FilePercent,
        Self::FileHex,
        Self::FileName,
        Self::FolderName,
        Self::LinkTarget,
        Self::NotCarried,
        Self::State,
        Self::StateEscaped,
        Self::StateNested,
        Self::Label,
        Self::Text,
        Self::Blob,
        Self::BlobUtf16,
        Self::Json,
        Self::Jsonb,
        Self::Base64,
        Self::PrimaryKey,
        Self::Unique,
        Self::ForeignKey,
        Self::WithoutRowid,
        Self::Strict,
        Self::Generated,
        Self::Indexed,
        Self::CheckJson,
        Self::CheckLength,
        Self::Embedding,
        Self::LargeCell,
        Self::Fts5,
        Self::Fts5External,
        Self::Fts5Contentless,
        Self::Fts4,
        Self::Utf16Database,
        Self::FoundStore,
        Self::FoundStoreName,
        Self::SchemaDefault,
        Self::SchemaComment,
        Self::SchemaView,
        Self::SchemaCode,
        Self::SchemaName,
        Self::Stat4,
        Self::FreePage,
        Self::FreeBlock,
        Self::Wal,
        Self::GitHead,
        Self::GitEncoded,
        Self::GitHistory,
        Self::GitBranch,
        Self::GitPath,
        Self::GitMessage,
        Self::GitMail,
        Self::GitTagger,
        Self::GitTagMessage,
        Self::GitTagName,
        Self::GitBranchName,
        Self::GitNote,
        Self::GitStash,
        Self::GitStashIndex,
        Self::GitStashUntracked,
        Self::GitStashMessage,
        Self::GitHeader,
    ];

    /// Whether a secret of this kind can lie here.
    #[must_use]
    pub fn takes(self, kind: Kind) -> bool {
        match self {
            Self::FileName
            | Self::FolderName
            | Self::LinkTarget
            | Self::NotCarried
            | Self::FoundStoreName
            | Self::SchemaName
            | Self::GitTagger
            | Self::GitPath
            | Self::GitMail
            | Self::GitTagName
            | Self::GitBranchName
            | Self::GitStashMessage
            | Self::GitHeader => kind.is_token(),
            // Two must have room in a label.
            Self::Label => kind.is_token() && kind != Kind::OpenAi,
            _ => true,
        }
    }
}
