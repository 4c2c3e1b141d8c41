//! Freeze an agent's memory at one instant, seal it into one verifiable file, put it back whole.

pub mod config;
mod hooks;

pub use hooks::{ShellHooks, ShellQuiesce};
