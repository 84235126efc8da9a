//! Noise from a module: what it buys, what vouches for it, and what breaks that.
//!
//! # What one draw buys
//!
//! Without a module each compute party adds a full draw of noise, since half each could be subtracted by the
//! party that knows its half. The client then sees the noise of both, √2 times the deviation that the price was
//! counted for. A module draws once and tells each party one additive share, so the client sees that one draw: as
//! accurate for half the price, or more accurate for the same. Nothing else is bought. Privacy against clients and
//! the network is the same from either source.
//!
//! # Who is trusted with what
//!
//! | corrupted | noise in software | noise of the module |
//! |---|---|---|
//! | a client | sees two draws | sees one draw |
//! | one compute party | knows its own draw, not the other's | has a share that says nothing |
//! | one compute party and the client | one full draw stands between them and the counts | the same |
//! | the module alone | - | learns no count, no vote, no label: it knows noise and nothing else |
//! | the module and the client | - | **no noise is left** |
//! | the module and one compute party | - | the noise is known to them; counts stay shared |
//! | whoever carries the module's bytes | - | lengths and times; can stop it, change nothing |
//!
//! So a false module costs differential privacy, and no input and no weight. That is why it may draw noise, and
//! why it does not deal correlated randomness, though it could: a dealer that colludes with one party has the
//! inputs. A party that adds nothing, or anything, in place of its share gets no exact label: in software the
//! other's full draw stays, and of the module's draw the other share alone is a uniform number.
//!
//! # Kinds of evidence, in the order of how much they mean
//!
//! | kind | who vouches | does not hold against |
//! |---|---|---|
//! | `sev-snp` | AMD, for a virtual machine and its memory | whoever has the machine in hand |
//! | `tdx`, `sgx-dcap` | Intel, for a virtual machine or an enclave | whoever has the machine in hand |
//! | `nitro` | AWS, for an enclave on its own hosts | AWS |
//! | `tpm2` | a TPM, for what was measured at boot | **the owner of the machine**, who reads all memory: no TEE |
//! | `software` | nobody | anybody |
//!
//! A TPM of a virtual machine is its host's program and holds nothing against that host.
//!
//! # What physical access breaks
//!
//! Attacks on the memory bus that were published in 2025 (WireTap on DDR4, Battering RAM, TEE.fail on DDR5) take
//! attestation keys out of SGX, TDX and SEV-SNP machines with equipment that a hospital's basement has room for.
//! The vendors leave physical access out of their promise. With such a key, evidence can be forged for any module on
//! any machine, but only in the name of the machine that the key is from. Therefore:
//!
//! - neither compute party should host the module, for it has exactly that access;
//! - a policy should list the machines (`platforms`) that may run it;
//! - measurements are worth as much as the image behind them: build it yourself, or compare with somebody who did.
//!
//! # What was run on real hardware
//!
//! None. No attester of ours has run on a SEV-SNP, TDX, SGX or Nitro machine or against a hardware TPM. Verifiers
//! were run on evidence captured by others on real SEV-SNP, TDX, SGX and Nitro machines, and attesters against
//! imitations of the kernel's interfaces; the TPM path was run live against a TPM emulator, and with a measured boot
//! in an emulated machine.
//!
//! # What a session binds
//!
//! The hardware signs SHA-512 over kind, boot, the module's channel key and receipt key, the roster's digest, the
//! verifier's nonce and its peer id. So evidence is fresh (nonce), for one asker (peer id), one consortium as it
//! stands (roster), one start of the module (boot), and for the very channel on which it came (key): relayed or
//! stolen evidence is useless without the key that never leaves the module. The module for its part knows both
//! parties by signatures of their identity keys over the handshake, and draws only for a specification that both
//! signed, once both have asked, and once a number. Its receipt commits to both shares by salted hashes; both
//! parties compare receipts before either uses a share, and keep them with the evidence (`module.jsonl` beside the
//! ledger). Unsigned framing can be changed by anybody, so no hash of evidence is an identity or a key against
//! replays.
//!
//! # When it is away
//!
//! | | `noise = "module"` | `noise = "module-else-software"` |
//! |---|---|---|
//! | shares drawn earlier are left, their module's verdict holds | goes on | goes on |
//! | the module cannot be reached | refused, with the reason; nothing charged | each party's full draw; the answer says so |
//! | evidence refused, by either party | **refused**; what was drawn is thrown away | **refused**; what was drawn is thrown away |
//! | the verdict's time is over | as unreachable | as unreachable |
//! | one party lacks a share that the other names | refused, both draw anew | refused, both draw anew |
//! | the module was started anew | verified anew, old shares burnt | verified anew, old shares burnt |
//!
//! Whoever cuts the line to the module can therefore stop releases or, where all members signed that they accept
//! it, make them noisier. Nobody can make them less private: which sources a task allows stands in the roster, and
//! each party holds the other to it.
