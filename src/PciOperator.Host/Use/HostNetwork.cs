namespace PciOperator.Host;

/// <summary>A network namespace's interfaces, addresses and routes of all tables, as rtnetlink(7) dumps them.</summary>
/// <param name="Links">RTM_GETLINK.</param>
/// <param name="Addresses">RTM_GETADDR: IPv4 and IPv6.</param>
/// <param name="Routes">RTM_GETROUTE and RTM_GETNEXTHOP: of each interface at most one default route and one other, since one is enough to
/// refuse.</param>
public sealed record HostNetwork(IReadOnlyList<NetLink> Links, IReadOnlyList<NetAddress> Addresses, IReadOnlyList<NetRoute> Routes);

/// <summary>An interface of the host.</summary>
/// <param name="Index">Its number (ifindex).</param>
/// <param name="Name">"eno1".</param>
public sealed record NetLink(int Index, string Name)
{
    /// <summary>Administratively up (IFF_UP).</summary>
    public bool Up { get; init; }

    /// <summary>What it speaks (ARPHRD_…): 1 for Ethernet, 32 for InfiniBand, 280 for CAN.</summary>
    public int HardwareType { get; init; } = 1;

    /// <summary>The bond, bridge, team, VRF or virtual switch that it is a port of; null: none.</summary>
    public int? Master { get; init; }

    /// <summary>The interface that it stands on (a VLAN's, a macvlan's), in the same namespace; null: none.</summary>
    public int? Lower { get; init; }

    /// <summary>"bond", "bridge", "vlan", "openvswitch"; null for hardware.</summary>
    public string? Kind { get; init; }

    /// <summary>An XDP program is attached.</summary>
    public bool Xdp { get; init; }

    /// <summary>How many asked for every frame to be taken (IFLA_PROMISCUITY).</summary>
    public int Promiscuity { get; init; }
}

/// <summary>An address on an interface.</summary>
/// <param name="Index">The interface's number.</param>
/// <param name="Text">"192.0.2.5/24".</param>
/// <param name="LinkLocal">An IPv6 link-local address, which the kernel gives to each interface that is up.</param>
public sealed record NetAddress(int Index, string Text, bool LinkLocal);

/// <summary>A route through an interface.</summary>
/// <param name="Index">The interface's number.</param>
/// <param name="Text">"192.0.2.0/24"; null: to everywhere.</param>
/// <param name="Table">254 is main.</param>
public sealed record NetRoute(int Index, string? Text, int Table);
