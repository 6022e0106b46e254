using System.Collections.Immutable;

namespace PciOperator.Core;

/// <summary>What a node offers: immutable, built once per change of its PciNode.</summary>
public sealed class NodeInventory
{
    private readonly Dictionary<PciAddress, int> _index;
    private readonly Offers _offers;

    private NodeInventory(
        string name,
        ImmutableArray<NodeDevice> devices,
        Dictionary<PciAddress, int> index,
        IReadOnlyDictionary<int, int?> sockets
    )
    {
        (Name, Devices, _index, Sockets) = (name, devices, index, sockets);
        _offers = new Offers(devices, index);
        Shape = NodeShape.Build(devices, index, _offers, sockets);
        Groups = _offers.Groups;
        HasUnspecifiedEndpoints = Array.Exists(_offers.UnspecifiedEndpoints, s => s is not null);
    }

    /// <summary>The node's name.</summary>
    public string Name { get; }

    /// <summary>Its devices by address.</summary>
    public IReadOnlyList<NodeDevice> Devices { get; }

    /// <summary>The CPU socket of each NUMA node that is known; null: the node is there, its socket is not known.</summary>
    public IReadOnlyDictionary<int, int?> Sockets { get; }

    /// <summary>How many devices can be given away now.</summary>
    public int Free => Shape.Free;

    /// <summary>Its pools, as Nova would make them.</summary>
    public IReadOnlyList<DevicePool> Pools => field ??= DevicePool.Of(this);

    internal NodeShape Shape { get; }

    /// <summary>Whether some device is kept back by an endpoint that no spec matches.</summary>
    internal bool HasUnspecifiedEndpoints { get; }

    internal IReadOnlyDictionary<int, List<int>> Groups { get; }

    /// <summary>Builds a node's inventory.</summary>
    /// <param name="name">The node's name.</param>
    /// <param name="devices">All its devices that a spec matches and the rest of their IOMMU groups, in any order.</param>
    /// <param name="sockets">The socket of each NUMA node, for nodes without a device; absent: as the devices say.</param>
    /// <exception cref="ArgumentException">Two devices have one address.</exception>
    public static NodeInventory Build(string name, IReadOnlyList<NodeDevice> devices, IReadOnlyDictionary<int, int?>? sockets = null)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(devices);
        ImmutableArray<NodeDevice> sorted = [.. devices.OrderBy(d => d.Function.Address)];
        var index = new Dictionary<PciAddress, int>(sorted.Length);
        for (int i = 0; i < sorted.Length; i++)
        {
            if (!index.TryAdd(sorted[i].Function.Address, i))
                throw new ArgumentException($"Two devices of node {name} have the address {sorted[i].Function.Address}.", nameof(devices));
        }

        var byNode = new SortedDictionary<int, int?>();
        foreach (NodeDevice device in sorted)
        {
            if (device.Function.NumaNode is { } node && (device.Function.Socket is not null || !byNode.ContainsKey(node)))
                byNode[node] = device.Function.Socket;
        }

        if (sockets is not null)
        {
            foreach ((int node, int? socket) in sockets)
                byNode[node] = socket;
        }

        return new NodeInventory(name, sorted, index, byNode);
    }

    /// <summary>The device at an address, or null.</summary>
    public NodeDevice? Find(PciAddress address) => _index.TryGetValue(address, out int i) ? Devices[i] : null;

    /// <summary>Why the device can't be given away now, as a sentence; null when it can.</summary>
    public string? WhyNotOffered(PciAddress address) =>
        _index.TryGetValue(address, out int i) ? _offers.Reasons[i] : $"there is no device at {address}";

    /// <summary>The devices that go when one of them does: those of its IOMMU group, or it alone when that goes with its PF only.</summary>
    public IEnumerable<NodeDevice> GroupOf(PciAddress address) =>
        !_index.TryGetValue(address, out int i) ? []
        : Devices[i].Function.IommuGroup is { } group && _offers.Groups.TryGetValue(group, out List<int>? members) && members.Contains(i)
            ? members.Select(m => Devices[m])
        : [Devices[i]];

    /// <summary>The node after a claim took these devices: all of an allocation's, companions included.</summary>
    /// <param name="allocation">Devices of this node.</param>
    /// <param name="claimUid">The claim.</param>
    public NodeInventory Take(NodeAllocation allocation, string claimUid)
    {
        ArgumentNullException.ThrowIfNull(allocation);
        HashSet<PciAddress> taken = [.. allocation.Devices.Select(d => d.Address)];
        return Build(Name, [.. Devices.Select(d => taken.Contains(d.Function.Address) ? d with { Owner = claimUid } : d)], Sockets);
    }

    /// <summary>The node after a claim gave back all that it has.</summary>
    public NodeInventory Release(string claimUid) =>
        Build(Name, [.. Devices.Select(d => d.Owner == claimUid ? d with { Owner = null } : d)], Sockets);

    /// <summary>The node as a claim sees it whose agent refused some devices: they hold up their groups, as blocked ones do.</summary>
    internal NodeInventory Without(ClaimRequirements claim)
    {
        NodeDevice[]? changed = null;
        for (int i = 0; i < Devices.Count; i++)
        {
            if (!claim.Excluded.Contains(new DeviceExclusion(Name, Devices[i].Function.Address)))
                continue;
            changed ??= [.. Devices];
            changed[i] = changed[i] with { BlockedReason = changed[i].BlockedReason ?? "refused for this claim by the node's agent" };
        }

        return changed is null ? this : Build(Name, changed, Sockets);
    }

    /// <summary>Devices of the alias that only an endpoint without a spec keeps back, and the first such endpoint.</summary>
    internal (int Count, PciAddress? Endpoint) HeldByStrangers(AliasDefinition alias)
    {
        int count = 0;
        PciAddress? first = null;
        for (int i = 0; i < Devices.Count; i++)
        {
            if (_offers.UnspecifiedEndpoints[i] is { } endpoint && new DeviceClass(Devices[i].Function, Devices[i].Tags!).Matches(alias))
            {
                count++;
                first ??= endpoint;
            }
        }

        return (count, first);
    }
}
