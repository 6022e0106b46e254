using PciOperator.Host;

namespace PciOperator.Sandbox.Hosts;

/// <summary>A simulated host's network as rtnetlink and /proc/net show it.</summary>
internal static class SimulatedNetwork
{
    private const int FirstUpper = 1000;

    /// <summary>The interfaces that the host's namespace shows, with their numbers: a number stays while the hardware does.</summary>
    public static List<(int Index, SimulatedInterface Net)> Interfaces(SimulatedState state) =>
        [
            .. state
                .Functions.SelectMany(f => f.Interfaces.Select(net => (f, net)))
                .Select((pair, i) => (Index: i + 2, pair.f, pair.net))
                .Where(t => t.f.HasHostDriver && !t.net.InPod)
                .Select(t => (t.Index, t.net)),
        ];

    public static HostNetwork Read(SimulatedState state)
    {
        List<(int Index, SimulatedInterface Net)> interfaces = Interfaces(state);
        List<string> uppers = [.. interfaces.Select(i => i.Net.Master ?? i.Net.Upper).OfType<string>().Distinct(StringComparer.Ordinal)];
        int Upper(string name) => FirstUpper + uppers.IndexOf(name);
        var links = new List<NetLink>
        {
            new(1, "lo") { Up = true, HardwareType = 772 },
        };
        var addresses = new List<NetAddress> { new(1, "127.0.0.1/8", false), new(1, "::1/128", false) };
        var routes = new List<NetRoute>();
        foreach ((int index, SimulatedInterface net) in interfaces)
        {
            links.Add(
                new NetLink(index, net.Name)
                {
                    Up = net.Up,
                    Master = net.Master is { } master ? Upper(master) : null,
                    Xdp = net.Xdp,
                    Promiscuity = net.Promiscuous ? 1 : 0,
                    HardwareType = net.HardwareType,
                }
            );
            if (net.Address || net.DefaultRoute)
                addresses.Add(new NetAddress(index, "172.17.0.5/24", false));
            if (net.Address6)
                addresses.Add(new NetAddress(index, "2001:db8::5/64", false));
            if (net.LinkLocal)
                addresses.Add(new NetAddress(index, "fe80::a00:27ff:fe00:1/64", true));
            if (net.DefaultRoute)
                routes.Add(new NetRoute(index, null, 254));
            if (net.Route)
                routes.Add(new NetRoute(index, "172.17.0.0/24", 254));
            if (net.Route6)
                routes.Add(new NetRoute(index, "2001:db8::/64", 254));
            if (net.PolicyRoute)
                routes.Add(new NetRoute(index, "198.51.100.0/24", 100));
        }

        foreach (string upper in uppers)
        {
            SimulatedInterface below = interfaces.First(i => (i.Net.Master ?? i.Net.Upper) == upper).Net;
            if (below.UpperRoute)
                routes.Add(new NetRoute(Upper(upper), null, 254));
            links.Add(
                new NetLink(Upper(upper), upper)
                {
                    Up = true,
                    Kind = below.UpperKind ?? (below.Master is null ? "vlan" : "bond"),
                    Lower = below.Master is null ? interfaces.First(i => i.Net == below).Index : null,
                }
            );
        }

        return new HostNetwork(links, addresses, routes);
    }

    /// <summary>/proc/net/packet.</summary>
    public static IEnumerable<string> PacketSockets(SimulatedState state) =>
        Interfaces(state)
            .Where(i => i.Net.PacketSocket)
            .Select(i => $"00000000f2d5a1c0 3      3    0003   {i.Index}     1 0      0      48151");

    /// <summary>/proc/net/ptype.</summary>
    public static IEnumerable<string> Protocols(SimulatedState state) =>
        Interfaces(state)
            .Where(i => i.Net.PacketSocket)
            .Select(i => $"ALL  {i.Net.Name, -8} packet_rcv")
            .Append("0800          ip_rcv")
            .Append("86dd          ipv6_rcv [ipv6]")
            .Concat(Interfaces(state).Where(i => i.Net.Protocol is not null).Select(i => $"8906 {i.Net.Name, -8} {i.Net.Protocol}"));
}
