namespace PciOperator.Host;

/// <summary>PID 1's mounts and the host's swap, by device.</summary>
internal sealed class HostMounts
{
    /// <summary>What a host can't lose although nobody else would notice at once.</summary>
    private static readonly string[] Notable =
    [
        "/var/lib/kubelet",
        "/var/lib/containerd",
        "/run/containerd",
        "/var/lib/docker",
        "/var/lib/containers",
        "/var/lib/rancher",
        "/var/lib/etcd",
    ];

    private readonly IHostFileSystem _files;
    private readonly List<Mount> _mounts = [];
    private readonly Dictionary<DeviceNumber, Mount> _nodes = [];
    private readonly Dictionary<DeviceNumber, Mount> _byNumber = [];
    private readonly Dictionary<string, Mount> _bySource = new(StringComparer.Ordinal);
    private readonly HashSet<string> _swaps = new(StringComparer.Ordinal);
    private readonly HashSet<DeviceNumber> _swapNumbers = [];

    private HostMounts(IHostFileSystem files) => _files = files;

    /// <summary>Mounts that name no block device but a tag of a virtio function: 9p and virtiofs.</summary>
    public IReadOnlyList<TaggedMount> Tagged { get; private set; } = [];

    /// <summary>The same of any list of mounts.</summary>
    public static IEnumerable<TaggedMount> TaggedIn(string mountInfo)
    {
        foreach (string[] columns in HostUse.Lines(mountInfo).Where(c => c.Length >= 8))
        {
            int separator = Array.IndexOf(columns, "-", 5);
            if (separator < 0 || separator + 2 >= columns.Length || columns[separator + 1] is not ("9p" or "virtiofs"))
                continue;

            // 9p comes over TCP, RDMA and pipes, too.
            string? transport = columns
                .Skip(separator + 3)
                .SelectMany(options => options.Split(','))
                .FirstOrDefault(o => o.StartsWith("trans=", StringComparison.Ordinal));
            if (transport is null or "trans=virtio")
                yield return new TaggedMount(columns[separator + 1], Unescape(columns[separator + 2]), Unescape(columns[4]));
        }
    }

    /// <summary>Reads /proc/1/mountinfo and /proc/swaps (proc_pid_mountinfo(5), proc_swaps(5)).</summary>
    /// <exception cref="HostIoException">They can't be read: nothing is known of the host's mounts.</exception>
    public static HostMounts Read(IHostFileSystem files)
    {
        var all = new HostMounts(files);
        string mountInfo = files.ReadText("/proc/1/mountinfo") ?? throw new HostIoException("read", "/proc/1/mountinfo", Errnos.ENOENT);
        foreach (string[] columns in HostUse.Lines(mountInfo).Where(c => c.Length >= 5))
            all.Add(columns);
        if (all._mounts.Count == 0)
        {
            throw new HostIoException(
                "read",
                "/proc/1/mountinfo",
                0,
                "/proc/1/mountinfo shows no mounts, so what PID 1 uses can't be seen."
            );
        }

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
            all._swaps.Add(SysfsPaths.LastName(path)!);
            if (all.NodeAt(path) is { } number)
                all._swapNumbers.Add(number);
        }

        foreach (string path in Notable.Where(path => files.Exists($"/proc/1/root{path}")))
            all.CarrierOf(path)?.Carries.Add(path);
        foreach (string path in swapFiles)
            all.CarrierOf(path)?.Carries.Add($"the swap file {path}");
        all.Tagged = [.. TaggedIn(mountInfo).Select(t => t with { IsVital = all._mounts.Any(m => m.Place == t.Place && all.IsVital(m)) })];
        return all;
    }

    /// <summary>"mounted at /data, with /var/lib/kubelet: umount /data frees it"; null when it isn't mounted.</summary>
    /// <param name="name">The block device's name under /sys/class/block.</param>
    /// <param name="number">Its number.</param>
    public string? UseOf(string name, DeviceNumber? number) => MountOf(name, number) is { } mount ? Describe(mount) : null;

    /// <summary>The host runs from it, or its kubelet or container runtime does: nobody gives that away.</summary>
    public bool IsVital(string name, DeviceNumber? number) => MountOf(name, number) is { } mount && IsVital(mount);

    /// <summary>ZFS pools that it runs from.</summary>
    public IEnumerable<string> VitalPools => _mounts.Where(m => m.Pool is not null && IsVital(m)).Select(m => m.Pool!);

    private bool IsVital(Mount mount) =>
        _mounts.Any(m =>
            ReferenceEquals(m.Carries, mount.Carries)
            && (
                m.Place is "/" or "/usr" or "/var" or "/etc" or "/boot" or "/efi" or "/sysroot" or "/nix" or "/nix/store"
                || m.Place.StartsWith("/boot/", StringComparison.Ordinal)
            )
        ) || mount.Carries.Any(Notable.Contains);

    private Mount? MountOf(string name, DeviceNumber? number) =>
        (number is { } n ? _byNumber.GetValueOrDefault(n) : null)
        ?? _bySource.GetValueOrDefault(Disk.NodeOf(name))
        ?? (number is { } own ? _nodes.GetValueOrDefault(own) : null);

    /// <summary>Where the file system is mounted that has this device among several.</summary>
    public string? UseOfMember(IEnumerable<(string Name, DeviceNumber? Number)> members) =>
        members.Select(m => UseOf(m.Name, m.Number)).FirstOrDefault(use => use is not null);

    /// <summary>Whether it is swap space.</summary>
    public bool IsSwap(string name, DeviceNumber? number) => _swaps.Contains(name) || (number is { } n && _swapNumbers.Contains(n));

    private static string Describe(Mount mount)
    {
        if (mount.IsNode)
            return $"whose node is bind-mounted at {mount.Place} (as for a pod's raw block volume): umount {mount.Place} frees it";
        List<string> carries = [.. mount.Carries.Where(path => path != mount.Place)];
        string with = carries.Count > 0 ? $", with {string.Join(", ", carries)}" : "";
        return $"mounted at {mount.Place}{with}{(mount.Place is "/" or "/usr" or "/var" ? ": the host runs from it" : $": umount {mount.Place} frees it")}";
    }

    /// <summary>One line: "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue".</summary>
    private void Add(string[] columns)
    {
        string place = Unescape(columns[4]);
        DeviceNumber? number = Device(columns[2]);
        int separator = Array.IndexOf(columns, "-", 5);
        if (separator > 0 && separator + 2 < columns.Length)
        {
            string kind = columns[separator + 1];
            if (kind is "devtmpfs" or "tmpfs" && columns[3] != "/" && NodeAt(place) is { } node)
                _nodes.TryAdd(node, new Mount(place, []) { IsNode = true });
        }

        // One file system may be mounted at several places: what one of them carries, all do.
        Mount? same = number is { } known ? _byNumber.GetValueOrDefault(known) : null;
        bool isZfs = separator > 0 && separator + 2 < columns.Length && columns[separator + 1] == "zfs";
        var mount = new Mount(place, same?.Carries ?? []) { Pool = isZfs ? Unescape(columns[separator + 2]).Split('/')[0] : null };
        _mounts.Add(mount);
        if (number is { } own)
            _byNumber.TryAdd(own, mount);
        if (separator < 0 || separator + 2 >= columns.Length)
            return;

        // btrfs and others show a number of their own; bcachefs joins its devices by ':'; XFS and ext4 name logs and journals in their
        // options.
        IEnumerable<string> named = Unescape(columns[separator + 2])
            .Split(':')
            .Concat(
                columns
                    .Skip(separator + 3)
                    .SelectMany(options => Unescape(options).Split(','))
                    .Select(option => option[(option.IndexOf('=') + 1)..])
            );
        foreach (string source in named.Where(s => s.StartsWith("/dev/", StringComparison.Ordinal)))
        {
            if (_bySource.TryAdd(source, mount) && NodeAt(source) is { } node)
                _byNumber.TryAdd(node, mount);
        }
    }

    /// <summary>The mount that a path is on: the longest that leads to it, and of several the last.</summary>
    private Mount? CarrierOf(string path) =>
        _mounts
            .Where(m => path == m.Place || path.StartsWith(m.Place.TrimEnd('/') + "/", StringComparison.Ordinal))
            .Aggregate((Mount?)null, (best, m) => best is null || m.Place.Length >= best.Place.Length ? m : best);

    /// <summary>The block device's node in the agent's /dev, else in PID 1's.</summary>
    public DeviceNumber? NodeAt(string path) =>
        !path.StartsWith('/') ? null
        : (_files.DeviceAt(path) ?? _files.DeviceAt($"/proc/1/root{path}")) is { IsBlock: true } number ? number
        : null;

    internal static DeviceNumber? Device(string? text) =>
        text?.Split(':') is [var major, var minor] && uint.TryParse(major, out uint a) && uint.TryParse(minor, out uint b)
            ? new DeviceNumber(true, a, b)
            : null;

    /// <summary>The kernel writes blanks in names as \040 and so on.</summary>
    private static string Unescape(string text) =>
        text.Contains('\\', StringComparison.Ordinal)
            ? text.Replace("\\040", " ", StringComparison.Ordinal)
                .Replace("\\011", "\t", StringComparison.Ordinal)
                .Replace("\\012", "\n", StringComparison.Ordinal)
                .Replace("\\134", "\\", StringComparison.Ordinal)
            : text;

    private sealed record Mount(string Place, List<string> Carries)
    {
        /// <summary>Its ZFS pool; null for others.</summary>
        public string? Pool { get; init; }

        /// <summary>No file system: a device's node, for somebody who opens it there.</summary>
        public bool IsNode { get; init; }
    }
}

/// <summary>A mount of a file system that has a name and no block device.</summary>
/// <param name="Kind">"9p" or "virtiofs".</param>
/// <param name="Source">Its tag.</param>
/// <param name="Place">Where it is mounted.</param>
internal sealed record TaggedMount(string Kind, string Source, string Place)
{
    /// <summary>" by process 4242, in a mount namespace of its own"; empty for the host's own.</summary>
    public string By { get; init; } = "";

    /// <summary>The host runs from it.</summary>
    public bool IsVital { get; init; }
}
