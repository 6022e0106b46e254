namespace PciOperator.Host;

/// <summary>PID 1's mounts and the host's swap, by device.</summary>
internal sealed class HostMounts
{
    /// <summary>What a host can't lose although nobody else would notice at once.</summary>
    private static readonly string[] Notable =
    [
        "/var/lib/kubelet", "/var/lib/containerd", "/run/containerd", "/var/lib/docker", "/var/lib/containers", "/var/lib/rancher", "/var/lib/etcd",
    ];

    private readonly List<Mount> mounts = [];
    private readonly Dictionary<DeviceNumber, Mount> byNumber = [];
    private readonly Dictionary<string, Mount> bySource = new(StringComparer.Ordinal);
    private readonly HashSet<string> swaps = new(StringComparer.Ordinal);
    private readonly HashSet<DeviceNumber> swapNumbers = [];

    /// <summary>Reads /proc/1/mountinfo and /proc/swaps (proc_pid_mountinfo(5), proc_swaps(5)).</summary>
    /// <exception cref="HostIoException">They can't be read: nothing is known of the host's mounts.</exception>
    public static HostMounts Read(IHostFileSystem files)
    {
        var all = new HostMounts();
        string mountInfo = files.ReadText("/proc/1/mountinfo") ?? throw new HostIoException("read", "/proc/1/mountinfo", Errnos.ENOENT);
        foreach (string[] columns in HostUse.Lines(mountInfo).Where(c => c.Length >= 5))
            all.Add(columns, files);
        if (all.mounts.Count == 0)
            throw new HostIoException("read", "/proc/1/mountinfo", 0, "/proc/1/mountinfo shows no mounts, so what PID 1 uses can't be seen.");
        var swapFiles = new List<string>();
        foreach (string[] columns in HostUse.Lines(files.ReadText("/proc/swaps") ?? "").Skip(1).Where(c => c.Length >= 2))
        {
            string path = Unescape(columns[0]);
            if (columns[1] == "file")
            {
                swapFiles.Add(path);
                continue;
            }

            // Seen from another root the path may be cut; the node's own name is its end in any case.
            all.swaps.Add(SysfsPaths.LastName(path)!);
            if (NodeAt(files, path) is { } number)
                all.swapNumbers.Add(number);
        }

        foreach (string path in Notable.Where(path => files.Exists($"/proc/1/root{path}")))
            all.CarrierOf(path)?.Carries.Add(path);
        foreach (string path in swapFiles)
            all.CarrierOf(path)?.Carries.Add($"the swap file {path}");
        return all;
    }

    /// <summary>"mounted at /data, with /var/lib/kubelet: umount /data frees it"; null when it isn't mounted.</summary>
    /// <param name="name">The block device's name under /sys/class/block.</param>
    /// <param name="number">Its number.</param>
    public string? UseOf(string name, DeviceNumber? number) =>
        ((number is { } n ? byNumber.GetValueOrDefault(n) : null) ?? bySource.GetValueOrDefault(Disk.NodeOf(name))) is { } mount ? Describe(mount) : null;

    /// <summary>Where the file system is mounted that has this device among several.</summary>
    public string? UseOfMember(IEnumerable<(string Name, DeviceNumber? Number)> members) =>
        members.Select(m => UseOf(m.Name, m.Number)).FirstOrDefault(use => use is not null);

    /// <summary>Whether it is swap space.</summary>
    public bool IsSwap(string name, DeviceNumber? number) => swaps.Contains(name) || (number is { } n && swapNumbers.Contains(n));

    private static string Describe(Mount mount)
    {
        List<string> carries = [.. mount.Carries.Where(path => path != mount.Place)];
        string with = carries.Count > 0 ? $", with {string.Join(", ", carries)}" : "";
        return $"mounted at {mount.Place}{with}{(mount.Place is "/" or "/usr" or "/var" ? ": the host runs from it" : $": umount {mount.Place} frees it")}";
    }

    /// <summary>One line: "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue".</summary>
    private void Add(string[] columns, IHostFileSystem files)
    {
        string place = Unescape(columns[4]);
        DeviceNumber? number = Device(columns[2]);

        // One file system may be mounted at several places: what one of them carries, all do.
        Mount? same = number is { } known ? byNumber.GetValueOrDefault(known) : null;
        var mount = new Mount(place, same?.Carries ?? []);
        mounts.Add(mount);
        if (number is { } own)
            byNumber.TryAdd(own, mount);
        int separator = Array.IndexOf(columns, "-", 5);
        if (separator < 0 || separator + 2 >= columns.Length)
            return;

        // btrfs and others show a number of their own; bcachefs joins its devices by ':'; XFS and ext4 name logs and journals in their options.
        IEnumerable<string> named = Unescape(columns[separator + 2]).Split(':')
            .Concat(columns.Skip(separator + 3).SelectMany(options => Unescape(options).Split(',')).Select(option => option[(option.IndexOf('=') + 1)..]));
        foreach (string source in named.Where(s => s.StartsWith("/dev/", StringComparison.Ordinal)))
        {
            if (bySource.TryAdd(source, mount) && NodeAt(files, source) is { } node)
                byNumber.TryAdd(node, mount);
        }
    }

    /// <summary>The mount that a path is on: the longest that leads to it, and of several the last.</summary>
    private Mount? CarrierOf(string path) =>
        mounts.Where(m => path == m.Place || path.StartsWith(m.Place.TrimEnd('/') + "/", StringComparison.Ordinal))
            .Aggregate((Mount?)null, (best, m) => best is null || m.Place.Length >= best.Place.Length ? m : best);

    /// <summary>The node in the agent's /dev, else in PID 1's.</summary>
    private static DeviceNumber? NodeAt(IHostFileSystem files, string path) =>
        (files.DeviceAt(path) ?? files.DeviceAt($"/proc/1/root{path}")) is { IsBlock: true } number ? number : null;

    internal static DeviceNumber? Device(string? text) =>
        text?.Split(':') is [var major, var minor] && uint.TryParse(major, out uint a) && uint.TryParse(minor, out uint b)
            ? new DeviceNumber(true, a, b)
            : null;

    /// <summary>The kernel writes blanks in names as \040 and so on.</summary>
    private static string Unescape(string text) =>
        text.Contains('\\', StringComparison.Ordinal)
            ? text.Replace("\\040", " ", StringComparison.Ordinal).Replace("\\011", "\t", StringComparison.Ordinal)
                .Replace("\\012", "\n", StringComparison.Ordinal).Replace("\\134", "\\", StringComparison.Ordinal)
            : text;

    private sealed record Mount(string Place, List<string> Carries);
}
