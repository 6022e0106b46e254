using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>How the host uses its devices, read once for a whole scan: interfaces, disks, mounts, swap, routes, addresses.</summary>
internal sealed class HostUse
{
    private readonly Dictionary<PciAddress, List<NetInterface>> interfaces = [];
    private readonly Dictionary<PciAddress, List<Disk>> disks = [];

    private HostUse()
    {
    }

    /// <summary>Why nothing may be taken at all: what PID 1 uses can't be seen from here. Null when all was read.</summary>
    public string? Blindness { get; private set; }

    /// <summary>VFIO was told to go without an IOMMU: groups may mean nothing.</summary>
    public bool UnsafeNoIommu { get; private set; }

    /// <summary>Network interfaces on a function (also through virtio or USB).</summary>
    public IReadOnlyList<NetInterface> InterfacesOf(PciAddress address) => interfaces.GetValueOrDefault(address) ?? [];

    /// <summary>Block devices and partitions on a function.</summary>
    public IReadOnlyList<Disk> DisksOf(PciAddress address) => disks.GetValueOrDefault(address) ?? [];

    /// <summary>The function's own interface (of several, the one nearest to it, then by name).</summary>
    public string? InterfaceOf(PciAddress address) =>
        InterfacesOf(address).OrderBy(i => i.Path.Length - i.Name.Length).ThenBy(i => i.Name, StringComparer.Ordinal).FirstOrDefault()?.Name;

    /// <summary>Reads it; what can't be read makes <see cref="Blindness"/>.</summary>
    public static HostUse Read(IHostFileSystem files)
    {
        var use = new HostUse();
        try
        {
            use.Blindness = CompareWithPid1(files);
            use.ReadInterfaces(files);
            use.ReadDisks(files);
            use.UnsafeNoIommu = files.ReadText("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") is "Y" or "1";
        }
        catch (HostIoException e)
        {
            use.Blindness ??= $"The host's use of its devices can't be seen: {e.Message}";
        }

        return use;
    }

    /// <summary>The agent must have PID 1's network and PID namespaces: otherwise it sees less than the host uses.</summary>
    private static string? CompareWithPid1(IHostFileSystem files)
    {
        if (files.ReadLink("/proc/self") == "1")
            return "The agent is PID 1 of its own PID namespace and can't see the host's processes: run it with hostPID: true.";
        foreach ((string space, string setting) in new[] { ("net", "hostNetwork"), ("pid", "hostPID") })
        {
            string? host = files.ReadLink($"/proc/1/ns/{space}");
            if (host is null || files.ReadLink($"/proc/self/ns/{space}") != host)
                return $"The agent's {space} namespace isn't PID 1's, so it can't see what the host uses: run it with {setting}: true.";
        }

        return null;
    }

    private void ReadInterfaces(IHostFileSystem files)
    {
        ILookup<string, string> uses = RouteAndAddressLines(files).ToLookup(pair => pair.Interface, pair => pair.Use, StringComparer.Ordinal);
        var onFunctions = new List<(string Name, string Path, PciAddress Address)>();
        var uppers = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string name in files.List("/sys/class/net"))
        {
            if (files.ReadLink($"/sys/class/net/{name}") is not { } path)
                continue;
            if (SysfsPaths.FunctionsOn(path) is [.., var address])
            {
                onFunctions.Add((name, path, address));
                continue;
            }

            // Bonds, bridges, VLANs, macvlans: each names what it stands on. One listing for each of these, not for each NIC.
            foreach (string entry in files.List($"/sys/class/net/{name}").Where(e => e.StartsWith("lower_", StringComparison.Ordinal)))
                uppers.TryAdd(entry["lower_".Length..], name);
        }

        foreach ((string name, string path, PciAddress address) in onFunctions)
        {
            string folder = $"/sys/class/net/{name}";
            string flags = files.ReadText($"{folder}/flags") ?? "";
            bool up = !uint.TryParse(flags.AsSpan().TrimStart("0x"), NumberStyles.AllowHexSpecifier, null, out uint bits) || (bits & 1) != 0;
            string? upper = SysfsPaths.LastName(files.ReadLink($"{folder}/master")) ?? uppers.GetValueOrDefault(name);
            Add(interfaces, address, new NetInterface(name, path, up, uses[name].FirstOrDefault(), upper));
        }
    }

    /// <summary>"the route 0A000000/00FFFFFF" or "the address fe80…" of each interface, as /proc/1/net shows them.</summary>
    private static IEnumerable<(string Interface, string Use)> RouteAndAddressLines(IHostFileSystem files)
    {
        string routes = files.ReadText("/proc/1/net/route")
            ?? throw new HostIoException("read", "/proc/1/net/route", Errnos.ENOENT);
        foreach (string[] columns in Lines(routes).Skip(1).Where(c => c.Length >= 8))
            yield return (columns[0], columns[1] == "00000000" && columns[7] == "00000000" ? "the default route" : $"a route ({IPv4(columns[1])})");
        foreach (string[] columns in Lines(files.ReadText("/proc/1/net/ipv6_route") ?? "").Where(c => c.Length >= 10))
        {
            if (columns[9] != "lo" && !columns[0].StartsWith("ff00", StringComparison.Ordinal))
                yield return (columns[9], "an IPv6 route");
        }

        foreach (string[] columns in Lines(files.ReadText("/proc/1/net/if_inet6") ?? "").Where(c => c.Length >= 6))
            yield return (columns[5], "an IPv6 address");
    }

    /// <summary>/proc/net/route prints the address as a native (little-endian) word.</summary>
    private static string IPv4(string hex) =>
        uint.TryParse(hex, NumberStyles.AllowHexSpecifier, null, out uint word) ? new System.Net.IPAddress(word).ToString() : hex;

    private void ReadDisks(IHostFileSystem files)
    {
        (Dictionary<DeviceNumber, string> mounts, Dictionary<string, string> mountedSources) = ReadMounts(files);
        HashSet<string> swaps = [.. Lines(files.ReadText("/proc/swaps") ?? "").Skip(1).Where(c => c.Length > 0).Select(c => Unescape(c[0]))];
        var swapNumbers = swaps.Select(files.DeviceAt).OfType<DeviceNumber>().ToHashSet();
        foreach (string name in files.List("/sys/class/block"))
        {
            string folder = $"/sys/class/block/{name}";
            if (files.ReadLink(folder) is not { } path)
                continue;
            List<PciAddress> functions = SysfsPaths.FunctionsOn(path).TakeLast(1).ToList();
            if (functions.Count == 0)
                functions = ControllersOf(files, path);
            if (functions.Count == 0 || Device(files.ReadText($"{folder}/dev")) is not { } number)
                continue;
            var disk = new Disk(
                name,
                number,
                mounts.GetValueOrDefault(number) ?? mountedSources.GetValueOrDefault($"/dev/{name}"),
                swapNumbers.Contains(number) || swaps.Contains($"/dev/{name}"),
                files.List($"{folder}/holders"));
            foreach (PciAddress address in functions)
                Add(disks, address, disk);
        }
    }

    /// <summary>
    /// With NVMe's native multipath a namespace isn't under its controller but under a virtual subsystem, whose links
    /// name the controllers.
    /// </summary>
    private static List<PciAddress> ControllersOf(IHostFileSystem files, string path)
    {
        const string marker = "/nvme-subsystem/";
        int at = path.IndexOf(marker, StringComparison.Ordinal);
        if (at < 0)
            return [];
        string subsystem = $"/sys/class/nvme-subsystem/{path[(at + marker.Length)..].Split('/')[0]}";
        return
        [
            .. files.List(subsystem).Where(name => name.StartsWith("nvme", StringComparison.Ordinal))
                .Select(name => files.ReadLink($"{subsystem}/{name}")).OfType<string>()
                .SelectMany(link => SysfsPaths.FunctionsOn(link).TakeLast(1)).Distinct(),
        ];
    }

    /// <summary>Mounts by device, and (btrfs and others show a device number of their own) by source.</summary>
    private static (Dictionary<DeviceNumber, string> ByNumber, Dictionary<string, string> BySource) ReadMounts(IHostFileSystem files)
    {
        string mountInfo = files.ReadText("/proc/1/mountinfo") ?? throw new HostIoException("read", "/proc/1/mountinfo", Errnos.ENOENT);
        var byNumber = new Dictionary<DeviceNumber, string>();
        var bySource = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string[] columns in Lines(mountInfo).Where(c => c.Length >= 5))
        {
            string place = Unescape(columns[4]);
            if (Device(columns[2]) is { } number)
                byNumber.TryAdd(number, place);
            int separator = Array.IndexOf(columns, "-", 5);
            if (separator < 0 || separator + 2 >= columns.Length || !columns[separator + 2].StartsWith("/dev/", StringComparison.Ordinal))
                continue;
            string source = Unescape(columns[separator + 2]);
            if (bySource.TryAdd(source, place) && files.DeviceAt(source) is { IsBlock: true } node)
                byNumber.TryAdd(node, place);
        }

        return (byNumber, bySource);
    }

    private static DeviceNumber? Device(string? text) =>
        text?.Split(':') is [var major, var minor] && uint.TryParse(major, out uint a) && uint.TryParse(minor, out uint b)
            ? new DeviceNumber(true, a, b)
            : null;

    private static IEnumerable<string[]> Lines(string text) =>
        text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries));

    /// <summary>The kernel writes blanks in names as \040 and so on.</summary>
    private static string Unescape(string text) =>
        text.Contains('\\', StringComparison.Ordinal)
            ? text.Replace("\\040", " ", StringComparison.Ordinal).Replace("\\011", "\t", StringComparison.Ordinal).Replace("\\134", "\\", StringComparison.Ordinal)
            : text;

    private static void Add<T>(Dictionary<PciAddress, List<T>> map, PciAddress address, T value)
    {
        if (!map.TryGetValue(address, out List<T>? list))
            map[address] = list = [];
        list.Add(value);
    }
}

/// <summary>A network interface: where it sits, whether it is up, what uses it.</summary>
/// <param name="Name">"eno1".</param>
/// <param name="Path">Its place under /sys/devices.</param>
/// <param name="Up">Administratively up (IFF_UP).</param>
/// <param name="Use">"the default route", "an IPv6 address"; null when none.</param>
/// <param name="Upper">A bond, bridge, VLAN, … on top of it; null when none.</param>
internal sealed record NetInterface(string Name, string Path, bool Up, string? Use, string? Upper);

/// <summary>A block device or partition and what is on it.</summary>
/// <param name="Name">"nvme0n1p1".</param>
/// <param name="Number">Its device number.</param>
/// <param name="Swap">It is swap space.</param>
/// <param name="MountedAt">A mount point; null when none.</param>
/// <param name="Holders">dm, md, bcache devices on top of it.</param>
internal sealed record Disk(string Name, DeviceNumber Number, string? MountedAt, bool Swap, IReadOnlyList<string> Holders);
