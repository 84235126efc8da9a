//! The module that draws noise unknown to everybody.

use crate::{digest::Hasher, name::Name};
use consilium_attest::Policy;
use serde::{Serialize, Serializer};

/// Which node carries bytes to the module, and what must vouch for the module before its noise is used.
///
/// The host sees only what is encrypted between the module and each compute party. It can cut the line, and it
/// has the machine in hand, which breaks every kind of evidence; a compute party that hosts is therefore allowed
/// and unwise: broken hardware would show it the noise that hides the votes from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// The member whose node carries bytes to the module.
    pub host: Name,
    /// What evidence must say to be accepted, the same for both compute parties.
    #[serde(serialize_with = "written")]
    pub policy: Policy,
}

impl Module {
    pub(super) fn feed(&self, hasher: &mut Hasher) {
        let mut policy = Vec::new();
        // Fields in the order of their declaration, each with its name; whatever differs, differs here.
        ciborium::into_writer(&self.policy, &mut policy)
            .expect("a policy holds texts, numbers and lists only");
        hasher.text(self.host.as_str());
        hasher.bytes(&policy);
    }
}

/// TOML has no larger number; a time that is cut here is far out of range and refused on reading.
fn written<S: Serializer>(policy: &Policy, serializer: S) -> Result<S::Ok, S::Error> {
    const LARGEST: u64 = i64::MAX.cast_unsigned();
    let mut policy = policy.clone();
    policy.evidence_age_max_secs = policy.evidence_age_max_secs.min(LARGEST);
    policy.reattest_after_secs = policy.reattest_after_secs.min(LARGEST);
    policy.serialize(serializer)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::EXAMPLE_ROSTER;
    use consilium_attest::{Hex, policy::*};
    use proptest::{collection::vec, option, prelude::*};

    /// The example with the tables that stand in its comments, so one of each kind of evidence.
    pub(in crate::roster) fn every_kind() -> String {
        let mut inside = false;
        let lines = EXAMPLE_ROSTER.lines().map(|line| {
            let shown = line.strip_prefix("# ");
            let shown = shown.filter(|shown| inside || shown.starts_with("[module.policy."));
            inside = shown.is_some();
            shown.unwrap_or(line).to_owned() + "\n"
        });
        lines.collect()
    }

    fn hex<const N: usize>() -> impl Strategy<Value = Hex<N>> {
        any::<[u8; 32]>().prop_map(|bytes| Hex(std::array::from_fn(|index| bytes[index % 32] ^ index as u8)))
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        vec("[^\\p{Cc}]{0,12}", 0..3)
    }

    fn platforms() -> impl Strategy<Value = Platforms> {
        prop_oneof![Just(Platforms::Any), words().prop_map(Platforms::Listed)]
    }

    fn images<const N: usize>(indices: &'static [u8]) -> impl Strategy<Value = Vec<Image<N>>> {
        let register = move |value| indices.iter().map(|index| Register { index: *index, value }).collect();
        vec(hex().prop_map(move |value| Image { registers: register(value) }), 0..3)
    }

    fn dcap() -> impl Strategy<Value = DcapPolicy> {
        (vec(hex(), 0..3), words(), words(), any::<u32>(), any::<[bool; 3]>(), platforms()).prop_map(
            |(roots, statuses, advisories, evaluation_min, [dynamic, cached, smt], platforms)| DcapPolicy {
                roots,
                statuses,
                advisories,
                evaluation_min,
                allow_dynamic_platform: dynamic,
                allow_cached_keys: cached,
                allow_smt: smt,
                platforms,
            },
        )
    }

    fn sev_snp() -> impl Strategy<Value = SevSnpPolicy> {
        let lists = (vec(hex(), 0..3), vec(hex(), 0..3), vec(hex(), 0..3));
        let signers = vec(prop_oneof![Just(SnpSigner::Vcek), Just(SnpSigner::Vlek)], 0..3);
        (lists, signers, 0..4u32, any::<[u8; 5]>(), any::<[bool; 2]>(), platforms()).prop_map(
            |(
                (roots, measurements, host_data),
                signers,
                vmpl_max,
                versions,
                [smt, revocation],
                platforms,
            )| {
                let [fmc, boot_loader, tee, snp, microcode] = versions;
                SevSnpPolicy {
                    roots,
                    measurements,
                    host_data,
                    signers,
                    vmpl_max,
                    versions_min: SnpVersions { fmc, boot_loader, tee, snp, microcode },
                    allow_smt: smt,
                    require_revocation_list: revocation,
                    platforms,
                }
            },
        )
    }

    fn intel() -> impl Strategy<Value = (Option<TdxPolicy>, Option<SgxPolicy>)> {
        let tdx = (hex(), hex(), hex()).prop_map(|(mr_td, one, mr_config_id)| TdxImage {
            mr_td,
            rtmr: [one, mr_td, one, mr_config_id],
            mr_config_id,
        });
        let sgx = (hex(), hex(), any::<u16>(), any::<u16>()).prop_map(
            |(mr_enclave, mr_signer, product, version_min)| SgxImage {
                mr_enclave,
                mr_signer,
                product,
                version_min,
            },
        );
        let tdx = (vec(tdx, 0..3), dcap()).prop_map(|(images, platform)| TdxPolicy { images, platform });
        let sgx = (vec(sgx, 0..3), dcap()).prop_map(|(images, platform)| SgxPolicy { images, platform });
        (option::of(tdx), option::of(sgx))
    }

    /// Any policy that holds together.
    pub(in crate::roster) fn policies() -> impl Strategy<Value = Policy> {
        let nitro = (vec(hex(), 0..3), images(&[0, 1, 2, 31]), platforms())
            .prop_map(|(roots, images, platforms)| NitroPolicy { roots, images, platforms });
        let tpm2 = (vec(hex(), 0..3), images(&[23, 0])).prop_map(|(keys, images)| TpmPolicy { keys, images });
        let software = any::<bool>().prop_map(|allow| SoftwarePolicy { allow });
        let times = (1..=EVIDENCE_AGE_SECS_MAX, 1..=REATTEST_SECS_MAX);
        let others = (option::of(nitro), option::of(tpm2), option::of(software));
        (times, option::of(sev_snp()), intel(), others).prop_map(
            |((age, again), sev_snp, (tdx, sgx_dcap), (nitro, tpm2, software))| Policy {
                evidence_age_max_secs: age,
                reattest_after_secs: again,
                sev_snp,
                tdx,
                sgx_dcap,
                nitro,
                tpm2,
                software,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::testing::every_kind;
    use super::*;
    use crate::document::testing::{only, roster};
    use crate::roster::Roster;
    use std::collections::BTreeSet;
    use toml::Value;

    /// Every document that differs from `value` in one of its values.
    fn changes(value: &Value) -> Vec<Value> {
        match value {
            Value::Table(table) => {
                let one = |(key, below): (&String, &Value)| {
                    let with = |below| {
                        let mut table = table.clone();
                        table.insert(key.clone(), below);
                        Value::Table(table)
                    };
                    changes(below).into_iter().map(with).collect::<Vec<_>>()
                };
                table.iter().flat_map(one).collect()
            }
            Value::Array(list) => {
                let one = |(index, below): (usize, &Value)| {
                    let with = |below| {
                        let mut list = list.clone();
                        list[index] = below;
                        Value::Array(list)
                    };
                    changes(below).into_iter().map(with).collect::<Vec<_>>()
                };
                list.iter().enumerate().flat_map(one).collect()
            }
            Value::Integer(number) => vec![Value::Integer((number - 1).abs())],
            Value::Boolean(one) => vec![Value::Boolean(!one)],
            Value::String(text) => vec![match text.as_str() {
                "any" => toml::from_str::<toml::Table>("listed = []").unwrap().into(),
                "vcek" => "vlek".into(),
                _ => format!("{}{}", if text.starts_with('2') { 3 } else { 2 }, &text[1..]).into(),
            }],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn any_value_of_the_policy_changes_the_digest() {
        let whole = roster(&every_kind()).unwrap();
        let module = whole.module().unwrap();
        let written = Value::try_from(&module.policy).unwrap();
        let digest = |module: Option<Module>| Roster { module, ..whole.clone() }.digest();
        let changes = changes(&written);
        assert!(changes.len() > 50, "{}", changes.len());
        let policies = changes.into_iter().map(|changed| changed.try_into::<Policy>().unwrap());
        let mut digests: BTreeSet<_> = policies
            .map(|policy| {
                assert_ne!(policy, module.policy);
                digest(Some(Module { policy, ..module.clone() }))
            })
            .collect();
        let changed = digests.len();
        for kind in written.as_table().unwrap().keys().filter(|key| !key.ends_with("_secs")) {
            let mut less = written.clone();
            less.as_table_mut().unwrap().remove(kind);
            digests.insert(digest(Some(Module { policy: less.try_into().unwrap(), ..module.clone() })));
        }
        digests.insert(digest(Some(Module { host: "north".parse().unwrap(), ..module.clone() })));
        digests.insert(digest(None));
        assert_eq!(digests.len(), changed + 8);
        assert!(!digests.contains(&whole.digest()));
        // What a task binds is its rule, not the module.
        let task = |roster: &Roster| roster.task("digits").unwrap().digest();
        assert_eq!(task(&Roster { module: None, ..whole.clone() }), task(&whole));
    }

    #[test]
    fn times_out_of_range_in_memory_are_refused_too() {
        let read = roster(&every_kind()).unwrap();
        let mut module = read.module().unwrap().clone();
        module.policy.reattest_after_secs = u64::MAX;
        let error =
            Roster::new("a", read.members().to_vec(), Vec::new(), Vec::new(), Some(module)).unwrap_err();
        assert!(only(&error).starts_with("`reattest_after_secs` must be between"), "{error}");
    }
}
