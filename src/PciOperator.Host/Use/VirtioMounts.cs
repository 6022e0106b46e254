using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// File systems that a host which is a guest itself has from its hypervisor, 9p and virtiofs: a mount names a tag, and the tag belongs to
/// a virtio function. The driver never lets go of a mounted one: unbinding would block for good.
/// </summary>
internal static class VirtioMounts
{
    private const string Devices = "/sys/bus/virtio/devices";

    /// <summary>By function: "the 9p file system hostshare, mounted at /mnt: umount /mnt frees it".</summary>
    public static Dictionary<PciAddress, ServedMount> Read(IHostFileSystem files, HostMounts mounts)
    {
        var found = new Dictionary<PciAddress, ServedMount>();
        List<(string Kind, string? Tag, List<PciAddress> Functions)> served = Served(files);
        if (served.Count == 0)
            return found;
        foreach (TaggedMount mount in mounts.Tagged.Concat(Elsewhere(files)))
        {
            var ofKind = served.Where(s => s.Kind == mount.Kind).ToList();
            var own = ofKind.Where(s => s.Tag == mount.Source).ToList();

            // An old kernel doesn't show virtiofs' tags, and the root file system's may be called /dev/root: then it may be any.
            if (own.Count == 0)
                own = ofKind.Exists(s => s.Tag is null) ? [.. ofKind.Where(s => s.Tag is null)] : ofKind;
            foreach (PciAddress address in own.SelectMany(s => s.Functions))
            {
                if (!found.TryGetValue(address, out ServedMount? before) || (mount.IsVital && !before.IsVital))
                {
                    found[address] = new ServedMount(
                        $"the {mount.Kind} file system {mount.Source}, mounted at {mount.Place}{mount.By}: umount {mount.Place} frees it",
                        mount.IsVital
                    );
                }
            }
        }

        return found;
    }

    private static List<(string Kind, string? Tag, List<PciAddress> Functions)> Served(IHostFileSystem files)
    {
        var served = new List<(string, string?, List<PciAddress>)>();
        foreach (string name in files.List(Devices))
        {
            // Numbers of the virtio specification, 5: 9 is 9P transport, 26 a file system device.
            string? kind = files.ReadText($"{Devices}/{name}/device")?.Trim() switch
            {
                "0x0009" => "9p",
                "0x001a" => "virtiofs",
                _ => null,
            };
            List<PciAddress> functions = kind is null ? [] : SysfsPaths.FunctionsOn(files.ReadLink($"{Devices}/{name}") ?? "");
            if (functions.Count > 0)
            {
                served.Add(
                    (
                        kind!,
                        (kind == "9p" ? files.ReadText($"{Devices}/{name}/mount_tag") : TagOf(files, name))?.Trim('\0', '\n', ' '),
                        functions
                    )
                );
            }
        }

        return served;
    }

    /// <summary>Since Linux 6.9: Documentation/ABI/testing/sysfs-fs-virtiofs.</summary>
    private static string? TagOf(IHostFileSystem files, string device) =>
        files
            .List("/sys/fs/virtiofs")
            .Where(id => SysfsPaths.LastName(files.ReadLink($"/sys/fs/virtiofs/{id}/device")) == device)
            .Select(id => files.ReadText($"/sys/fs/virtiofs/{id}/tag"))
            .FirstOrDefault();

    /// <summary>Nothing but a process' own list of mounts shows these, so each mount namespace is looked at.</summary>
    private static IEnumerable<TaggedMount> Elsewhere(IHostFileSystem files)
    {
        string? host = files.ReadLink("/proc/1/ns/mnt");
        var seen = new HashSet<string?> { host };
        foreach (string pid in ProcessFolder.All(files))
        {
            string? space = null;
            string? text = ProcessFolder.Read(
                files,
                pid,
                () => seen.Contains(space = files.ReadLink($"/proc/{pid}/ns/mnt")) ? null : ProcessFolder.Mounts(files, pid)
            );
            if (text is null)
                continue;
            seen.Add(space);
            foreach (TaggedMount mount in HostMounts.TaggedIn(text))
            {
                yield return mount with
                {
                    By = $" by process {pid}, in a mount namespace of its own",
                    IsVital = false,
                };
            }
        }
    }
}

/// <summary>A mount of what a virtio function serves.</summary>
/// <param name="Text">What and where, as the end of a sentence.</param>
/// <param name="IsVital">The host runs from it.</param>
internal sealed record ServedMount(string Text, bool IsVital);
