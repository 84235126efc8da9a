//! What vendors signed about their platforms, as files of an administrator.

use super::Away;
use crate::vault::read_bounded;
use consilium_attest::Collateral;
use std::fs;
use std::path::Path;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files that are read.
const FILES_MAX: usize = 64;

/// Reads a folder: `*.der` and `*.crt` are certificates in DER, `*.crl` lists of revoked ones in DER, and
/// `dcap.json` Intel's answers for one platform. Other files are left alone. All of it is signed, so that who
/// may write here can withhold but not forge.
///
/// # Errors
/// [`Away::Refused`], naming the file: without what vendors say nothing can be verified.
pub(super) fn load(folder: Option<&Path>) -> Result<Collateral, Away> {
    let Some(folder) = folder else { return Ok(Collateral::default()) };
    let failed = |path: &Path, why: &dyn std::fmt::Display| {
        Away::Refused(format!("the vendors' statements in {}: {why}", path.display()))
    };
    let entries = fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| failed(folder, &error)))
        .collect::<Result<Vec<_>, _>>()?;
    // In one order everywhere, since chains are searched from the front.
    paths.sort();
    if paths.len() > FILES_MAX {
        return Err(failed(folder, &format!("{} files, at most {FILES_MAX} are read", paths.len())));
    }
    let mut collateral = Collateral::default();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let dcap = path.file_name().is_some_and(|name| name == "dcap.json");
        if !dcap && !matches!(extension, Some("der" | "crt" | "crl")) {
            continue;
        }
        let bytes = read_bounded(&path, FILE_BYTES_MAX).map_err(|error| failed(&path, &error))?.to_vec();
        if dcap {
            let text = String::from_utf8(bytes).map_err(|_| failed(&path, &"not UTF-8"))?;
            collateral.dcap = Some(text);
        } else if extension == Some("crl") {
            collateral.revocation_lists.push(bytes);
        } else {
            collateral.certificates.push(bytes);
        }
    }
    Ok(collateral)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b.crt", "2"), ("a.der", "1"), ("ark.crl", "3"), ("dcap.json", "{}"), ("README", "no")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let found = load(Some(folder.path())).unwrap();
        assert_eq!(found.certificates, [b"1", b"2"]);
        assert_eq!((found.revocation_lists, found.dcap.as_deref()), (vec![b"3".to_vec()], Some("{}")));
        assert_eq!(load(None).unwrap(), Collateral::default());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let away = load(Some(folder.path())).unwrap_err();
            fs::remove_file(path).unwrap();
            assert!(away.is_refused() && away.to_string().contains(name), "{away}");
        };
        refused("dcap.json", b"\xff");
        refused("big.crl", &vec![0; FILE_BYTES_MAX as usize + 1]);
        let absent = load(Some(&folder.path().join("absent"))).unwrap_err();
        assert!(absent.to_string().contains("absent"), "{absent}");
    }
}
