using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>A network interface of the host and what uses it.</summary>
/// <param name="Name">"eno1".</param>
/// <param name="Path">Its place under /sys/devices.</param>
internal sealed record NetInterface(string Name, string Path)
{
    /// <summary>Administratively up (IFF_UP).</summary>
    public bool Up { get; init; }

    /// <summary>"the default route", "a route to 192.0.2.0/24"; null when none.</summary>
    public string? Route { get; init; }

    /// <summary>"192.0.2.5/24", not a link-local one; null when none.</summary>
    public string? Address { get; init; }

    /// <summary>The link-local address that the kernel gave it; null when none.</summary>
    public string? LinkLocal { get; init; }

    /// <summary>What it is part of, or what stands on it: "the bond bond0", "the vlan ens1.100"; null when none.</summary>
    public string? Upper { get; init; }

    /// <summary>The default route goes through it, or through what stands on it: nobody gives that away.</summary>
    public bool IsVital { get; init; }

    /// <summary>What takes its frames without an address: a packet socket, an XDP program; null when none is to be seen.</summary>
    public string? Listener { get; init; }
}

/// <summary>
/// Reads the interfaces on PCI functions: places from sysfs; addresses, routes of all tables and uppers from rtnetlink; who
/// listens without an address from PID 1's /proc/net.
/// </summary>
internal static class HostInterfaces
{
    private const int Ethernet = 1;
    private const int InfiniBand = 32;
    private const string OpenVSwitch = "openvswitch";

    public static Dictionary<PciAddress, List<NetInterface>> Read(IHostFileSystem files)
    {
        var places = new List<(string Name, string Path, List<PciAddress> Functions)>();
        HostNetwork network = files.ReadNetwork();
        var links = network.Links.DistinctBy(l => l.Index).ToDictionary(l => l.Index);
        var byName = network.Links.DistinctBy(l => l.Name).ToDictionary(l => l.Name, StringComparer.Ordinal);
        var uppers = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (NetLink link in network.Links)
        {
            if (link.Master is { } master)
                uppers[link.Name] = links.TryGetValue(master, out NetLink? m) ? Named(m) : $"interface {master}";
            if (link.Lower is { } lower && links.TryGetValue(lower, out NetLink? l))
                uppers.TryAdd(l.Name, Named(link));
        }

        foreach (string name in files.List("/sys/class/net"))
        {
            if (files.ReadLink($"/sys/class/net/{name}") is not { } path)
                continue;
            List<PciAddress> functions = SysfsPaths.FunctionsOn(path);
            if (functions.Count > 0)
            {
                places.Add((name, path, functions));
                continue;
            }

            // Whatever else stands on a NIC names it here. One listing for each of these, not for each NIC.
            foreach (string entry in files.List($"/sys/class/net/{name}").Where(e => e.StartsWith("lower_", StringComparison.Ordinal)))
                uppers.TryAdd(entry["lower_".Length..], byName.TryGetValue(name, out NetLink? upper) ? Named(upper) : name);
        }

        ILookup<int, NetAddress> addresses = network.Addresses.ToLookup(a => a.Index);
        ILookup<int, NetRoute> routes = network.Routes.ToLookup(r => r.Index);
        Dictionary<string, string> listeners = Listeners(files, links);
        HashSet<int> vital = CarriersOf(network.Routes.Where(r => r.Text is null).Select(r => r.Index), network.Links);
        var found = new Dictionary<PciAddress, List<NetInterface>>();
        foreach ((string name, string path, List<PciAddress> functions) in places)
        {
            NetLink? link = byName.GetValueOrDefault(name);
            int index = link?.Index ?? -1;
            NetRoute? route = routes[index].OrderBy(r => r.Text is not null).FirstOrDefault();
            var net = new NetInterface(name, path)
            {
                Up = link?.Up ?? true,
                Route = route is null
                    ? null
                    : (route.Text is null ? "the default route" : $"a route ({route.Text})")
                        + (route.Table is 0 or 254 or 255 ? "" : $" in table {route.Table}"),
                Address = addresses[index].FirstOrDefault(a => !a.LinkLocal)?.Text,
                LinkLocal = addresses[index].FirstOrDefault(a => a.LinkLocal)?.Text,
                Upper = uppers.GetValueOrDefault(name),
                IsVital = vital.Contains(index),
                Listener = link is null ? "changed its name or namespace just now" : listeners.GetValueOrDefault(name) ?? Frames(link),
            };
            foreach (PciAddress address in functions)
                HostUse.Add(found, address, net);
        }

        return found;
    }

    /// <summary>
    /// These interfaces and all that they stand on: ports of a bond or bridge, a VLAN's interface, ports of a virtual switch.
    /// </summary>
    private static HashSet<int> CarriersOf(IEnumerable<int> indexes, IReadOnlyList<NetLink> links)
    {
        var carriers = new HashSet<int>(indexes);
        int before;
        do
        {
            before = carriers.Count;

            // A switch's own port isn't tied to the switch that its other ports have as their master.
            if (links.Any(l => l.Kind == OpenVSwitch && carriers.Contains(l.Index)))
                carriers.UnionWith(links.Where(l => l.Kind == OpenVSwitch).Select(l => l.Index));
            foreach (NetLink link in links)
            {
                if (link.Master is { } master && carriers.Contains(master))
                    carriers.Add(link.Index);
                if (carriers.Contains(link.Index) && link.Lower is { } lower)
                    carriers.Add(lower);
            }
        } while (carriers.Count > before);
        return carriers;
    }

    private static string Named(NetLink link) => link.Kind is { } kind ? $"the {kind} {link.Name}" : link.Name;

    /// <summary>What the link itself says of a listener.</summary>
    private static string? Frames(NetLink link)
    {
        if (link.Xdp)
            return $"has an XDP program attached (ip link set {link.Name} xdp off detaches it)";
        if (link.Promiscuity > 0)
            return $"takes every frame for somebody (promiscuity {link.Promiscuity}: a capture, a virtual switch, a macvtap)";
        return link.Up && link.HardwareType is not (Ethernet or InfiniBand)
            ? $"is up, and an interface of its kind (type {link.HardwareType}: CAN, IEEE 802.15.4, a modem) is used without addresses (ip link set {link.Name} down frees it)"
            : null;
    }

    /// <summary>Packet sockets that are bound to an interface, and the kernel's protocols that are (FCoE, TIPC, batman-adv).</summary>
    private static Dictionary<string, string> Listeners(IHostFileSystem files, Dictionary<int, NetLink> links)
    {
        var found = new Dictionary<string, string>(StringComparer.Ordinal);

        // sk RefCnt Type Proto Iface R Rmem User Inode
        foreach (string[] columns in HostUse.Lines(files.ReadText("/proc/1/net/packet") ?? "").Skip(1).Where(c => c.Length >= 9))
        {
            if (
                int.TryParse(columns[4], NumberStyles.None, CultureInfo.InvariantCulture, out int index)
                && links.TryGetValue(index, out NetLink? link)
            )
            {
                found.TryAdd(
                    link.Name,
                    $"has a packet socket bound to it (a DHCP client, lldpd, tcpdump, …: ss --packet --processes names the process; inode {columns[8]})"
                );
            }
        }

        // "8906 ens1     fcoe_rcv [fcoe]": the interface's column is blank for what listens everywhere.
        foreach (string line in (files.ReadText("/proc/1/net/ptype") ?? "").Split('\n').Skip(1))
        {
            if (line.Length < 7 || line[5] == ' ' || line.Contains("packet_rcv", StringComparison.Ordinal))
                continue;
            string[] columns = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (columns.Length >= 3)
                found.TryAdd(columns[1], $"is used by the kernel's {columns[2].Split('+')[0]} (protocol {columns[0]})");
        }

        return found;
    }
}
