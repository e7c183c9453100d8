//! Tells Zed how `cmaec lsp` is started.

use zed_extension_api::{self as zed, Command, Extension, LanguageServerId, Result, Worktree};

struct Cmae;

impl Extension for Cmae {
    fn new() -> Self {
        Cmae
    }

    /// `cmaec` of the project's `PATH`; `lsp.cmaec.binary.path` in Zed's settings names another, which Zed takes before it asks here.
    fn language_server_command(&mut self, _: &LanguageServerId, worktree: &Worktree) -> Result<Command> {
        let command = worktree.which("cmaec").ok_or("cmaec is not on the PATH: `cargo install --path .` in a clone")?;
        Ok(Command { command, args: vec!["lsp".to_owned()], env: worktree.shell_env() })
    }
}

zed::register_extension!(Cmae);
