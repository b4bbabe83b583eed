//! A disk for each node whose power can be cut: an ext4 file system of its own in a file, mounted through a
//! loop device. Where that can not be had, nodes keep their files in plain folders.

use super::{Done, HarnessFailure, tools};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The size of a disk. The file behind it is sparse.
const DISK_BYTES: u64 = 1024 * 1024 * 1024;

/// A mounted file system. It is unmounted when this is dropped.
pub(super) struct MountedDisk {
    image: PathBuf,
    folder: PathBuf,
    is_mounted: bool,
}

impl MountedDisk {
    /// Makes a new disk in `image` and mounts it at `folder`, which is made too.
    pub fn make(image: PathBuf, folder: PathBuf) -> Result<MountedDisk, HarnessFailure> {
        let failure = |what: &Path, error| HarnessFailure(format!("{}: {error}", what.display()));
        fs::create_dir_all(&folder).map_err(|error| failure(&folder, error))?;
        let file = File::create(&image).map_err(|error| failure(&image, error))?;
        file.set_len(DISK_BYTES).map_err(|error| failure(&image, error))?;
        tools::run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image])?;
        let mut disk = MountedDisk { image, folder, is_mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fills it to its last block.
    pub fn fill(&self) -> Done {
        let path = self.filler();
        let failure = |what: &str| HarnessFailure(format!("{}: {what}", path.display()));
        let file = File::create(&path).map_err(|error| failure(&error.to_string()))?;
        let (mut end, mut step) = (0, i64::try_from(DISK_BYTES).unwrap_or(i64::MAX));
        while step > 0 {
            match fallocate(&file, FallocateFlags::empty(), end, step) {
                Ok(()) => end += step,
                Err(Errno::ENOSPC) => step /= 2,
                Err(error) => return Err(failure(error.desc())),
            }
        }
        Ok(())
    }

    /// Takes away what fills it.
    pub fn make_room(&self) -> Done {
        let path = self.filler();
        fs::remove_file(&path).map_err(|error| HarnessFailure(format!("{}: {error}", path.display())))
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Takes a disk away whose power was cut and mounts it anew: what comes back is what was written.
    pub fn remount(&mut self) -> Result<(), HarnessFailure> {
        tools::run("umount", &[&self.folder])?;
        self.is_mounted = false;
        self.mount()
    }

    fn mount(&mut self) -> Result<(), HarnessFailure> {
        tools::run("mount", &[Path::new("-o"), Path::new("loop"), &self.image, &self.folder])?;
        self.is_mounted = true;
        Ok(())
    }
}

impl Drop for MountedDisk {
    fn drop(&mut self) {
        if self.is_mounted && tools::run("umount", &[&self.folder]).is_err() {
            // Someone looks into the folder: it goes away when nobody does any more.
            let _ = tools::run("umount", &[Path::new("-l"), &self.folder]);
        }
    }
}
