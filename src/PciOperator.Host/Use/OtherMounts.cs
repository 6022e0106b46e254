namespace PciOperator.Host;

/// <summary>Mounts that PID 1 doesn't see, for the sentence about a disk that the kernel holds for somebody.</summary>
internal sealed class OtherMounts(IHostFileSystem files)
{
    /// <summary>
    /// "it is mounted at /data by process 4242 (postgres), in a mount namespace of its own"; null when no process has it mounted.
    /// </summary>
    public string? WhereIs(IReadOnlyList<Disk> disks)
    {
        var seen = new HashSet<string?>();
        foreach (string pid in ProcessFolder.All(files))
        {
            string? space = null;
            string? mounts = ProcessFolder.Read(
                files,
                pid,
                () => seen.Contains(space = files.ReadLink($"/proc/{pid}/ns/mnt")) ? null : ProcessFolder.Mounts(files, pid)
            );
            if (mounts is null)
                continue;
            seen.Add(space);
            foreach (string[] columns in HostUse.Lines(mounts).Where(c => c.Length >= 5))
            {
                if (HostMounts.Device(columns[2]) is { } number && disks.Any(d => d.Number == number))
                    return $"it is mounted at {columns[4]} by process {pid} ({files.ReadText($"/proc/{pid}/comm") ?? "gone"}), in a mount namespace of its own";
            }
        }

        return null;
    }
}
