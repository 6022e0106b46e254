using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>A block device or partition on a PCI function, and what is on it.</summary>
/// <param name="Name">"nvme0n1p1".</param>
/// <param name="Number">Its device number.</param>
internal sealed record Disk(string Name, DeviceNumber Number)
{
    /// <summary>A partition of another.</summary>
    public bool IsPartition { get; init; }

    /// <summary>"/dev/nvme0n1p2 -> md0 -> vg-root, mounted at /"; null when nothing of it is mounted.</summary>
    public string? Mounted { get; init; }

    /// <summary>"/dev/nvme0n1p3 -> vg-swap"; null when none of it is swap.</summary>
    public string? Swap { get; init; }

    /// <summary>"/dev/nvme0n1p2 -> md0": built on, and the top isn't used; null when nothing stands on it.</summary>
    public string? Stacked { get; init; }

    /// <summary>"a member of the ZFS pool tank …": taken without a trace in its holders; null when not.</summary>
    public string? Member { get; init; }

    /// <summary>The host's root, boot, kubelet or container runtime is on it: nobody gives that away.</summary>
    public bool IsVital { get; init; }

    /// <summary>Its node in /dev; the agent sees it under this name and number.</summary>
    public bool HasNode { get; init; }

    /// <summary>"/dev/nvme0n1".</summary>
    public string Node => NodeOf(Name);

    /// <summary>sysfs writes a slash of /dev as an exclamation mark.</summary>
    internal static string NodeOf(string name) => $"/dev/{name.Replace('!', '/')}";
}

/// <summary>
/// Reads the block devices on PCI functions and follows them to the top: partitions, device mapper, LVM, md, multipath and
/// bcache by their holders; loop devices and zram by what they stand on; btrfs and ZFS by their members; what the kernel exports
/// to others by itself (<see cref="KernelExports"/>).
/// </summary>
internal sealed class HostDisks
{
    private const string Block = "/sys/class/block";
    private const int HighestStack = 16;
    private readonly IHostFileSystem _files;
    private readonly HostMounts _mounts;
    private readonly Dictionary<string, List<string>> _above = new(StringComparer.Ordinal);
    private readonly Dictionary<DeviceNumber, List<string>> _aboveNumber = [];
    private readonly Dictionary<string, string> _members = new(StringComparer.Ordinal);
    private readonly HashSet<string> _vitalMembers = new(StringComparer.Ordinal);
    private readonly IReadOnlyDictionary<DeviceNumber, string> _exports;
    private readonly List<string> _pools;

    private HostDisks(IHostFileSystem files, HostMounts mounts, IReadOnlyDictionary<DeviceNumber, string> exports)
    {
        _files = files;
        _mounts = mounts;
        _exports = exports;
        _pools = [.. files.List("/proc/spl/kstat/zfs").Where(name => files.Exists($"/proc/spl/kstat/zfs/{name}/state"))];
    }

    /// <summary>By function: of several on a disk's way each one, since each of them carries it.</summary>
    /// <param name="files">The host.</param>
    /// <param name="mounts">Its mounts.</param>
    /// <param name="exports">What the kernel exports of block devices.</param>
    /// <param name="fabrics">NVMe controllers that hang on a function by their address only.</param>
    public static Dictionary<PciAddress, List<Disk>> Read(
        IHostFileSystem files,
        HostMounts mounts,
        IReadOnlyDictionary<DeviceNumber, string> exports,
        IReadOnlyDictionary<string, List<PciAddress>> fabrics
    )
    {
        var reader = new HostDisks(files, mounts, exports);
        var found = new Dictionary<PciAddress, List<Disk>>();
        List<(string Name, string Path, List<PciAddress> Functions)> places = [];
        IReadOnlyList<string> names = files.List(Block);
        foreach (string name in names)
        {
            if (files.ReadLink($"{Block}/{name}") is not { } path)
                continue;
            List<PciAddress> functions = SysfsPaths.FunctionsOn(path);
            if (functions.Count == 0)
                functions = [.. ControllersOf(files, path).Concat(FabricsOf(files, path, fabrics)).Distinct()];
            if (functions.Count > 0)
                places.Add((name, path, functions));
            else
                reader.NoteBelow(name);
        }

        reader.ReadBtrfs();
        HashSet<string> known = [.. names];
        foreach ((string name, string path, List<PciAddress> functions) in places)
        {
            // A path of NVMe's native multipath has no number: the namespace above has.
            if (reader.NumberOf(name) is not { } number)
                continue;
            Disk disk = reader.Look(name, number) with { IsPartition = path.Split('/') is [.., var parent, _] && known.Contains(parent) };
            foreach (PciAddress address in functions)
                HostUse.Add(found, address, disk);
        }

        return found;
    }

    private Disk Look(string name, DeviceNumber number)
    {
        var disk = new Disk(name, number) { HasNode = _files.DeviceAt(Disk.NodeOf(name)) == number, Member = MemberOf(name, number) };
        Climb(name, number, Disk.NodeOf(name), 0, ref disk);
        return _vitalMembers.Contains(name) ? disk with { IsVital = true } : disk;
    }

    /// <summary>Goes through everything that stands on a device.</summary>
    private void Climb(string name, DeviceNumber? number, string trail, int height, ref Disk disk)
    {
        if (_mounts.UseOf(name, number) is { } use)
            disk = disk with { Mounted = disk.Mounted ?? $"{trail}, {use}" };
        if (_mounts.IsVital(name, number))
            disk = disk with { IsVital = true };
        if (_mounts.IsSwap(name, number))
            disk = disk with { Swap = disk.Swap ?? trail };
        if (height > 0)
        {
            disk = disk with
            {
                Stacked = disk.Stacked is null || trail.StartsWith(disk.Stacked, StringComparison.Ordinal) ? trail : disk.Stacked,
            };
        }

        if (height == HighestStack)
            return;
        IEnumerable<string> holders = _files.List($"{Block}/{name}/holders");
        if (_above.TryGetValue(name, out List<string>? more))
            holders = holders.Union(more);
        if (number is { } own && _aboveNumber.TryGetValue(own, out more))
            holders = holders.Union(more);
        foreach (string holder in holders)
            Climb(holder, NumberOf(holder), $"{trail} -> {_files.ReadText($"{Block}/{holder}/dm/name") ?? holder}", height + 1, ref disk);
    }

    /// <summary>
    /// A virtual device names what it stands on: the other end of "holders", which a driver may forget to make. Loop devices and zram have
    /// neither, and a loop device doesn't even claim what it was set up on (drivers/block/loop.c, zram_drv.c).
    /// </summary>
    private void NoteBelow(string name)
    {
        foreach (string slave in _files.List($"{Block}/{name}/slaves"))
            Note(_above, slave, name);
        if (name.StartsWith("loop", StringComparison.Ordinal))
        {
            if (
                _files.ReadText($"{Block}/{name}/loop/backing_file") is { } backing
                && (_files.LoopedDevice(Disk.NodeOf(name)) ?? _mounts.NodeAt(backing)) is { } device
            )
            {
                Note(_aboveNumber, device, name);
            }
        }
        else if (
            name.StartsWith("zram", StringComparison.Ordinal)
            && _files.ReadText($"{Block}/{name}/backing_dev")?.Trim() is { } written
            && _mounts.NodeAt(written) is { } store
        )
        {
            Note(_aboveNumber, store, name);
        }
    }

    private static void Note<T>(Dictionary<T, List<string>> map, T below, string name)
        where T : notnull
    {
        if (!map.TryGetValue(below, out List<string>? list))
            map[below] = list = [];
        list.Add(name);
    }

    private DeviceNumber? NumberOf(string name) => HostMounts.Device(_files.ReadText($"{Block}/{name}/dev"));

    private string? MemberOf(string name, DeviceNumber number)
    {
        if (_members.TryGetValue(name, out string? what) || _exports.TryGetValue(number, out what))
            return what;
        if (_files.Exists($"{Block}/{name}/bcache"))
            return "a backing or cache device of bcache: stop it there (echo 1 > /sys/block/bcacheN/bcache/stop; /sys/fs/bcache/UUID/unregister)";
        if (_pools.Count == 0)
            return null;

        // What udev's blkid found on it, kept in its database: the device isn't opened for it.
        string file = $"/run/udev/data/b{number.Major}:{number.Minor}";
        string[] facts = (_files.ReadText($"/proc/1/root{file}") ?? _files.ReadText(file) ?? "").Split('\n');
        if (!facts.Contains("E:ID_FS_TYPE=zfs_member"))
            return null;
        string? label = facts.FirstOrDefault(f => f.StartsWith("E:ID_FS_LABEL=", StringComparison.Ordinal))?["E:ID_FS_LABEL=".Length..];
        if (label is not null && !_pools.Contains(label))
            return null;
        string pool = label ?? string.Join(" or ", _pools);
        if (_mounts.VitalPools.Any(vital => label is null || label == vital))
            _vitalMembers.Add(name);
        return $"a member of the imported ZFS pool {pool}: zpool export {pool} frees it";
    }

    /// <summary>While a btrfs is mounted, /sys/fs/btrfs/UUID/devices links to each of its devices; mountinfo shows one of them.</summary>
    private void ReadBtrfs()
    {
        foreach (string id in _files.List("/sys/fs/btrfs"))
        {
            IReadOnlyList<string> devices = _files.List($"/sys/fs/btrfs/{id}/devices");
            if (devices.Count == 0)
                continue;
            string? use = _mounts.UseOfMember(devices.Select(d => (d, NumberOf(d))));
            if (devices.Any(d => _mounts.IsVital(d, NumberOf(d))))
                _vitalMembers.UnionWith(devices);
            foreach (string device in devices)
                _members[device] = $"a member of the btrfs {id}, {use ?? "which is mounted somewhere"}";
        }
    }

    /// <summary>
    /// With NVMe's native multipath a namespace isn't under its controller but under a virtual subsystem, whose links
    /// name the controllers.
    /// </summary>
    internal static List<PciAddress> ControllersOf(IHostFileSystem files, string path)
    {
        const string marker = "/nvme-subsystem/";
        int at = path.IndexOf(marker, StringComparison.Ordinal);
        if (at < 0)
            return [];
        string subsystem = $"/sys/class/nvme-subsystem/{path[(at + marker.Length)..].Split('/')[0]}";
        return
        [
            .. files
                .List(subsystem)
                .Where(name => name.StartsWith("nvme", StringComparison.Ordinal))
                .Select(name => files.ReadLink($"{subsystem}/{name}"))
                .OfType<string>()
                .SelectMany(SysfsPaths.FunctionsOn)
                .Distinct(),
        ];
    }

    /// <summary>The functions that an NVMe over Fabrics namespace's controllers hang on, which its path doesn't go through.</summary>
    private static IEnumerable<PciAddress> FabricsOf(
        IHostFileSystem files,
        string path,
        IReadOnlyDictionary<string, List<PciAddress>> fabrics
    )
    {
        if (fabrics.Count == 0)
            return [];
        string[] steps = path.Split('/');
        const string marker = "nvme-subsystem";
        int at = Array.IndexOf(steps, marker);
        IEnumerable<string> controllers = at >= 0 && at + 1 < steps.Length ? files.List($"/sys/class/{marker}/{steps[at + 1]}") : steps;
        return controllers.SelectMany(name => fabrics.GetValueOrDefault(name) ?? []);
    }
}
