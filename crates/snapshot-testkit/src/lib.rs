//! Seeding realistic agents, hermetic git, fixed clocks and ids, faults, torture writers.
