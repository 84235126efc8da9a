//! Lists of revoked certificates.

use super::certificate::{Certificate, signed_part};
use crate::refusal::Refusal;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::IssuingDistributionPoint;
use x509_cert::spki::ObjectIdentifier;

/// Longest list.
const LIST_BYTES_MAX: usize = 1024 * 1024;
const PART: &str = "a list of revoked certificates";
const DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");

/// A list that its issuer signed and that counts now.
pub(crate) struct Revocations {
    list: CertificateList,
    /// The last second in which it counts.
    pub(crate) ends: u64,
}

impl Revocations {
    /// Reads a list and verifies it, unless another than `issuer` issued it.
    pub(crate) fn read(der: &[u8], issuer: &Certificate<'_>, now: u64) -> Result<Option<Self>, Refusal> {
        if der.len() > LIST_BYTES_MAX {
            return Err(Refusal::TooLarge { part: PART, bytes: der.len(), most: LIST_BYTES_MAX });
        }
        let malformed = Refusal::Malformed { part: PART };
        let Ok(list) = CertificateList::from_der(der) else { return Err(malformed) };
        let Some(signed) = signed_part(der) else { return Err(malformed) };
        if list.tbs_cert_list.issuer != *issuer.subject_name() {
            return Ok(None);
        }
        if list.signature_algorithm != list.tbs_cert_list.signature {
            return Err(malformed);
        }
        issuer.verify_named(&list.signature_algorithm, signed, list.signature.as_bytes(), PART)?;
        whole(&list)?;
        let Some((begins, ends)) = period(&list) else { return Err(malformed) };
        if now < begins {
            return Err(Refusal::CollateralEarly { part: PART, begins, now });
        }
        if now > ends {
            return Err(Refusal::CollateralExpired { part: PART, ended: ends, now });
        }
        Ok(Some(Self { list, ends }))
    }

    /// Refuses a certificate that the list names.
    pub(crate) fn check(&self, certificate: &Certificate<'_>) -> Result<(), Refusal> {
        not_listed(&self.list, certificate)
    }
}

/// Refuses a list that leaves out certificates of issuers: the changes since an earlier list, some reasons, or only
/// the certificates of others. Such a list says so in a critical extension.
fn whole(list: &CertificateList) -> Result<(), Refusal> {
    let covers_issuers = |one: &Extension| {
        one.extn_id == DISTRIBUTION_POINT
            && IssuingDistributionPoint::from_der(one.extn_value.as_bytes()).is_ok_and(|point| {
                !point.only_contains_user_certs
                    && !point.only_contains_attribute_certs
                    && !point.indirect_crl
                    && point.only_some_reasons.is_none()
            })
    };
    let extensions = list.tbs_cert_list.crl_extensions.iter().flatten();
    match extensions.filter(|one| one.critical).find(|one| !covers_issuers(one)) {
        Some(one) => Err(Refusal::PartialList { extension: one.extn_id.to_string() }),
        None => Ok(()),
    }
}

/// The first and the last second in which a list counts: from then on its successor is due. A list without an end
/// would count for ever, so it has no period.
pub(crate) fn period(list: &CertificateList) -> Option<(u64, u64)> {
    let begins = list.tbs_cert_list.this_update.to_unix_duration().as_secs();
    let next = list.tbs_cert_list.next_update?.to_unix_duration().as_secs();
    Some((begins, next.checked_sub(1)?))
}

/// Refuses a certificate that a list of its issuer names. Whatever the reason and the entry's extensions say, it is
/// out.
pub(crate) fn not_listed(list: &CertificateList, certificate: &Certificate<'_>) -> Result<(), Refusal> {
    let mut revoked = list.tbs_cert_list.revoked_certificates.iter().flatten();
    let own = list.tbs_cert_list.issuer == *certificate.issuer_name();
    if own && revoked.any(|entry| entry.serial_number.as_bytes() == certificate.serial()) {
        return Err(Refusal::Revoked { subject: certificate.subject() });
    }
    Ok(())
}
