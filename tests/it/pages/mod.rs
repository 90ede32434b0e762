//! The pages, in a real browser, on a real server that was seeded through the API.

mod guests;
mod layout;
mod looks;
mod pair;
mod safety;
mod window;
