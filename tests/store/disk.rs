//! A small disk of its own: ext4 on a loop device, whose power can be cut.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::TempDir;

/// One disk at a time: loop devices are few.
static TURN: Mutex<()> = Mutex::new(());

/// EXT4_IOC_SHUTDOWN (`_IOR('X', 125, __u32)`) with EXT4_GOING_FLAGS_NOLOGFLUSH: from here on nothing reaches the disk,
/// not even the journal's buffer. What is left is what a power cut leaves.
const CUT: &str = r#"open(my $disk, "<", $ARGV[0]) or die "open: $!"; my $how = pack("L", 2);
ioctl($disk, 0x8004587d, $how) or die "ioctl: $!";"#;

/// A mounted disk; unmounted when it is dropped.
pub struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
    _folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Disk {
    /// A disk of so many MB, mounted there (a folder that exists). `Err`: why this machine has none, in words.
    pub fn new(megabytes: u64, mount_point: &Path) -> Result<Self, String> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(megabytes << 20)).unwrap();
        run("perl", &["-e", "1"])?;
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let disk = Self { image, mount_point: mount_point.to_owned(), _folder: folder, _turn: turn };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.mount_point)])
    }

    /// Cuts the power. Whoever has files open here gets errors from now on.
    pub fn cut_power(&self) {
        run("perl", &["-e", CUT, text(&self.mount_point)]).unwrap();
    }

    /// The power comes back. Nobody may have a file open here.
    pub fn power_up(&self) {
        run("umount", &[text(&self.mount_point)]).unwrap();
        self.mount().unwrap();
    }

    /// Makes it a disk that can only be read, or writable again.
    pub fn set_read_only(&self, read_only: bool) {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        run("mount", &["-o", how, text(&self.mount_point)]).unwrap();
    }

    /// Writes a file that leaves not a byte free.
    pub fn fill(&self) -> PathBuf {
        let path = self.mount_point.join("filler");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        // Ever smaller pieces: the last block too.
        for piece in [1 << 20, 64 << 10, 4 << 10] {
            let piece = vec![0x5a; piece];
            while file.write_all(&piece).is_ok() {}
        }
        file.sync_all().unwrap();
        assert_eq!(fs2::available_space(&self.mount_point).unwrap() / 65_536, 0, "the disk is not full");
        path
    }

    /// Frees what [`Self::fill`] took.
    pub fn free(&self) {
        fs::remove_file(self.mount_point.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that was just killed may hold it a moment longer: then it goes when that has gone.
        if run("umount", &[text(&self.mount_point)]).is_err() {
            let _ = run("umount", &["--lazy", text(&self.mount_point)]);
        }
    }
}

/// The disk, or `None` where this machine has none, which is told under this name.
pub fn disk_or_skip(name: &str, megabytes: u64, mount_point: &Path) -> Option<Disk> {
    match Disk::new(megabytes, mount_point) {
        Ok(disk) => Some(disk),
        Err(why) => {
            crate::process::skipped(&format!("{name}: {why}"));
            None
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(format!("{program} failed here: {said}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("{program} is not installed")),
        Err(error) => Err(format!("{program} cannot be run: {error}")),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
