//! How much memory can still be had: of the machine, and of what the service is allowed.

use std::{fs, path::Path};

/// Where Linux shows its control groups (cgroups(7), version 2).
const GROUPS: &str = "/sys/fs/cgroup";

/// Bytes that can be had without taking them from others; `None` where the system does not tell.
pub fn free() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(available);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let allowed = group.as_deref().and_then(own_group).and_then(|group| allowed(Path::new(GROUPS), group));
    machine.into_iter().chain(allowed).min()
}

/// Of `/proc/meminfo` (proc_meminfo(5)).
fn available(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Of `/proc/self/cgroup`.
fn own_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// What is left of what this group and those that it is in may have (systemd's `MemoryMax=`), files aside, which make room.
fn allowed(root: &Path, group: &str) -> Option<u64> {
    let left = |group: &Path| {
        let read = |name| fs::read_to_string(root.join(group).join(name)).ok();
        let most: u64 = read("memory.max")?.trim().parse().ok()?;
        let taken: u64 = read("memory.current")?.trim().parse().ok()?;
        let files = read("memory.stat")?.lines().find_map(|line| line.strip_prefix("file ")?.parse().ok()).unwrap_or(0);
        Some(most.saturating_sub(taken.saturating_sub(files)))
    };
    Path::new(group).ancestors().filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:        8000000 kB\nMemFree:          100000 kB\nMemAvailable:    4000000 kB\n";
        assert_eq!(available(meminfo), Some(4_096_000_000));
        assert_eq!(available("MemTotal: 1 kB"), None);
        assert_eq!(own_group("1:name=x:/y\n0::/system.slice/kolbox.service\n"), Some("system.slice/kolbox.service"));
        assert_eq!([own_group("0::/\n"), own_group("4:memory:/x\n")], [Some(""), None]);
    }

    #[test]
    fn a_service_has_what_is_left_of_its_own_and_of_what_it_is_part_of() {
        let root = tempfile::tempdir().unwrap();
        let group = |name: &str, most: &str| {
            let folder = root.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in
                [("memory.max", most), ("memory.current", "300\n"), ("memory.stat", "anon 90\nfile 200\n")]
            {
                fs::write(folder.join(file), text).unwrap();
            }
        };
        group("a.slice/b.service", "1000\n");
        assert_eq!(allowed(root.path(), "a.slice/b.service"), Some(900));
        group("a.slice", "max\n");
        assert_eq!(allowed(root.path(), "a.slice/b.service"), Some(900));
        group("a.slice", "500\n");
        assert_eq!(allowed(root.path(), "a.slice/b.service"), Some(400));
        group("a.slice/b.service", "90\n");
        assert_eq!(allowed(root.path(), "a.slice/b.service"), Some(0));
        assert_eq!([allowed(root.path(), "elsewhere"), allowed(root.path(), "")], [None, None]);
    }
}
