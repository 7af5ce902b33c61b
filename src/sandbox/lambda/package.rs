//! Unpacks the zip file of a function into a folder of its own.

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use tempfile::TempDir;
use zip::ZipArchive;

use crate::world::ApiError;

/// "Deployment package (.zip file archive) size … 250 MB … The maximum size of the contents of a
/// deployment package … uncompressed" (Lambda quotas).
const UNPACKED_BYTES_MAX: u64 = 250 * 1024 * 1024;
/// Files in one package.
const FILES_MAX: usize = 10_000;

fn refuse(message: impl std::fmt::Display) -> ApiError {
    ApiError::client("InvalidParameterValueException", format!("Could not unzip uploaded file: {message}"))
}

/// Unpacks a zip file; the folder goes when nobody uses it.
pub(super) fn unpack(zipped: &[u8]) -> Result<Arc<TempDir>, ApiError> {
    let mut archive = ZipArchive::new(Cursor::new(zipped)).map_err(refuse)?;
    if archive.len() > FILES_MAX {
        return Err(refuse(format_args!("more than {FILES_MAX} files")));
    }
    let folder = tempfile::Builder::new().prefix("pointsman-function-").tempdir().map_err(refuse)?;
    let mut room = UNPACKED_BYTES_MAX;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(refuse)?;
        // A name that leads out of the folder has no place in it.
        let Some(name) = file.enclosed_name() else {
            return Err(refuse(format_args!("the name {:?}", file.name())));
        };
        let path = folder.path().join(name);
        if file.is_dir() {
            std::fs::create_dir_all(&path).map_err(refuse)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(refuse)?;
        }
        let mut made = std::fs::File::create(&path).map_err(refuse)?;
        // Sizes in the archive are claims; what counts is what comes out.
        let written = std::io::copy(&mut file.by_ref().take(room + 1), &mut made).map_err(refuse)?;
        let over = || refuse(format_args!("unpacked, it is larger than {UNPACKED_BYTES_MAX} bytes"));
        room = room.checked_sub(written).ok_or_else(over)?;
    }
    Ok(Arc::new(folder))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use super::*;

    /// A zip file of these files.
    pub(in super::super) fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn files_are_unpacked_with_their_folders_and_gone_with_the_last_user() {
        let folder = unpack(&zipped(&[("h.py", "x = 1\n"), ("lib/util.py", "")])).unwrap();
        let path = folder.path().to_owned();
        assert_eq!(std::fs::read_to_string(path.join("h.py")).unwrap(), "x = 1\n");
        assert!(path.join("lib/util.py").is_file());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_and_what_is_no_zip_are_refused() {
        for bytes in [zipped(&[("../evil.py", "x")]), b"PK nonsense".to_vec()] {
            let refused = unpack(&bytes).unwrap_err();
            assert_eq!(refused.code, "InvalidParameterValueException");
        }
    }
}
