//! The engine as users meet it: real databases, real git, real processes.
//!
//! One binary, so that it links once.

mod crash;
mod cut;
mod restore;
mod support;
