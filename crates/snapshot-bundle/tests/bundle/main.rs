//! The bundle format from the outside: stock tools, round trips, damage, crafted files.

#[cfg(test)]
mod crafted;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod signed;
#[cfg(test)]
mod stock_tools;
#[cfg(test)]
mod support;
#[cfg(test)]
mod writer;
