//! Intel's data about a platform, as PCCS clients store it.

use crate::hex::Hex;
use crate::refusal::Refusal;
use crate::verifier::certificate::{Certificate, pem_chain};
use crate::verifier::revocation::{not_listed, period};
use dcap_qvl::QuoteCollateralV3;
use serde::Deserialize;
use x509_cert::crl::CertificateList;
use x509_cert::der::{DateTime, Decode};

/// Longest text; real ones have 20 kB.
const TEXT_BYTES_MAX: usize = 256 * 1024;
const PART: &str = "the data of Intel about the platform";
const LIST: &str = "Intel's list of revoked certificates";

/// The data, in form but not verified.
pub(super) struct IntelData(QuoteCollateralV3);

/// When a signed statement begins and ends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Period {
    issue_date: String,
    next_update: String,
}

impl IntelData {
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Refusal::TooLarge { part: PART, bytes: text.len(), most: TEXT_BYTES_MAX });
        }
        serde_json::from_str(text).map(Self).map_err(|_| Refusal::Malformed { part: PART })
    }

    /// For the library, which must take the platform's chain from the quote.
    pub(super) fn into_library(self) -> QuoteCollateralV3 {
        QuoteCollateralV3 { pck_certificate_chain: None, ..self.0 }
    }

    /// The root at the end of the chain of the TCB information, if the policy names it.
    pub(super) fn root(&self, roots: &[Hex<32>]) -> Result<Vec<u8>, Refusal> {
        let chain = pem_chain(self.0.tcb_info_issuer_chain.as_bytes())?;
        let der = chain.into_iter().next_back().ok_or(Refusal::Malformed { part: PART })?;
        let fingerprint = Certificate::parse(&der)?.fingerprint();
        if roots.contains(&fingerprint) { Ok(der) } else { Err(Refusal::UnknownRoot { fingerprint }) }
    }

    /// Refuses what has ended, not begun or been revoked, so that it gets its own reason, and says when the first
    /// part ends.
    ///
    /// Nothing is verified yet; forged dates can only refuse here, since the library looks at them again.
    pub(super) fn valid_at(&self, platform_chain: &[u8], now: u64) -> Result<u64, Refusal> {
        let mut ends = self.statements(now)?;
        let mut lists = Vec::new();
        for der in [&self.0.root_ca_crl, &self.0.pck_crl] {
            let malformed = Refusal::Malformed { part: LIST };
            let Ok(list) = <CertificateList>::from_der(der) else { return Err(malformed) };
            let Some((begins, ended)) = period(&list) else { return Err(malformed) };
            ends = ends.min(during(LIST, begins, ended, now)?);
            lists.push(list);
        }
        let chains =
            [&self.0.tcb_info_issuer_chain, &self.0.qe_identity_issuer_chain, &self.0.pck_crl_issuer_chain];
        for pem in chains.map(String::as_bytes).into_iter().chain([platform_chain]) {
            for der in pem_chain(pem)? {
                let certificate = Certificate::parse(&der)?;
                certificate.valid_at(now)?;
                lists.iter().try_for_each(|list| not_listed(list, &certificate))?;
                ends = ends.min(certificate.ends());
            }
        }
        Ok(ends)
    }

    /// The two statements that Intel signs as text.
    fn statements(&self, now: u64) -> Result<u64, Refusal> {
        let texts = [
            (&self.0.tcb_info, "Intel's TCB information"),
            (&self.0.qe_identity, "Intel's quoting enclave identity"),
        ];
        let mut ends = u64::MAX;
        for (text, part) in texts {
            let malformed = Refusal::Malformed { part };
            let Ok(period) = serde_json::from_str::<Period>(text) else { return Err(malformed) };
            let (Some(begins), Some(end)) = (seconds(&period.issue_date), seconds(&period.next_update))
            else {
                return Err(malformed);
            };
            ends = ends.min(during(part, begins, end, now)?);
        }
        Ok(ends)
    }
}

fn during(part: &'static str, begins: u64, ended: u64, now: u64) -> Result<u64, Refusal> {
    match now {
        now if now < begins => Err(Refusal::CollateralEarly { part, begins, now }),
        now if now > ended => Err(Refusal::CollateralExpired { part, ended, now }),
        _ => Ok(ended),
    }
}

fn seconds(date: &str) -> Option<u64> {
    date.parse::<DateTime>().ok().map(|date| date.unix_duration().as_secs())
}
