//! Freeze an agent's memory at one instant, seal it into one verifiable file, put it back whole.
