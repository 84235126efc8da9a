//! Networks under one client's key, as files: what a client and an owner hand each other, and the work between them.
//!
//! ```text
//! client                                      owner
//!                                             write_plan: public, after a self-test
//! make_keys: a secret, evaluation keys  --->
//! encrypt: a query, a ticket            --->
//!                                       <---  evaluate: an answer
//! decrypt: logits
//! ```
//!
//! [`consilium_protocol::homomorphic`] computes; here are the files, the threads and what is refused by name. A query may
//! be much larger than memory: it is written and read block by block, and no more blocks are in memory than threads work
//! on them. A file is there whole or not at all, and tells when it was cut or changed on the way. That is no signature:
//! who changes a file on purpose can make it look whole. What such a file then does is open to noise, or to logits of
//! another input; the client's input stays hidden all the same.

mod container;
mod evaluate;
mod fault;
mod formats;
mod inspect;
mod order;
mod question;
mod self_test;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use container::{FORMAT, FileKind, HEADER_BYTES_MAX};
pub use evaluate::{evaluate, prepare};
pub use fault::HomomorphicError;
pub(crate) use fault::nameless;
pub use formats::{
    KeyId, Keys, QueryId, Secret, Ticket, make_keys, read_keys, read_plan, read_query, read_secret,
    read_ticket, write_plan,
};
pub use inspect::{Inspected, inspect};
pub use question::{Decrypted, Sizes, class, decrypt, encode, encrypt};
pub use self_test::{SelfTest, random_samples, self_test};

/// What each side learns, in words.
pub const LEARNS: [(&str, &str); 4] = [
    (
        "the client learns",
        "the logits of its inputs, exactly, and this plan; beyond that an answer tells at most 2^-40 about the weights",
    ),
    (
        "the owner learns",
        "how many inputs a query has, and nothing about them, under ring learning with errors",
    ),
    (
        "not protected",
        "the model from many questions: exact logits of enough inputs rebuild it, so limit what you answer; from keys or queries that another program made to find out more; and the client from an owner who answers with another network",
    ),
    (
        "instead",
        "a label alone, with differential privacy, is what a consortium with two compute parties gives: consilium ask",
    ),
];

/// Hears `(bytes done, bytes)` of a work, from any thread.
pub type Heard<'a> = &'a (dyn Fn(u64, u64) + Sync);
