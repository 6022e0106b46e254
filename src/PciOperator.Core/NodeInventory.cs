using System.Collections.Immutable;

namespace PciOperator.Core;

/// <summary>What a node offers: immutable, built once per change of its PciNode.</summary>
public sealed class NodeInventory
{
    private readonly Dictionary<PciAddress, int> index;
    private readonly string?[] notOffered;

    private NodeInventory(string name, ImmutableArray<NodeDevice> devices, IReadOnlyDictionary<int, int?>? sockets)
    {
        Name = name;
        Devices = devices;
        index = new Dictionary<PciAddress, int>(devices.Length);
        for (int i = 0; i < devices.Length; i++)
            index[devices[i].Function.Address] = i;
        var byNode = new SortedDictionary<int, int?>();
        foreach (NodeDevice device in devices)
        {
            if (device.Function.NumaNode is { } node && (device.Function.Socket is not null || !byNode.ContainsKey(node)))
                byNode[node] = device.Function.Socket;
        }
        if (sockets is not null)
        {
            foreach ((int node, int? socket) in sockets)
                byNode[node] = socket;
        }
        Sockets = byNode;
        notOffered = Offers();
    }

    /// <summary>The node's name.</summary>
    public string Name { get; }

    /// <summary>Its devices by address.</summary>
    public IReadOnlyList<NodeDevice> Devices { get; }

    /// <summary>The CPU socket of each NUMA node that is known; null: the node is there, its socket is not known.</summary>
    public IReadOnlyDictionary<int, int?> Sockets { get; }

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
        for (int i = 1; i < sorted.Length; i++)
        {
            if (sorted[i - 1].Function.Address == sorted[i].Function.Address)
                throw new ArgumentException($"Two devices of node {name} have the address {sorted[i].Function.Address}.", nameof(devices));
        }
        return new NodeInventory(name, sorted, sockets);
    }

    /// <summary>The device at an address, or null.</summary>
    public NodeDevice? Find(PciAddress address) => index.TryGetValue(address, out int i) ? Devices[i] : null;

    /// <summary>Why the device can't be given away now, as a sentence; null when it can.</summary>
    public string? WhyNotOffered(PciAddress address) =>
        index.TryGetValue(address, out int i) ? notOffered[i] : $"there is no device at {address}";

    // Rules of groups and of PF against VF, from the owners as they are now.
    private string?[] Offers()
    {
        var reasons = new string?[Devices.Count];
        var ownedVf = new Dictionary<PciAddress, NodeDevice>();
        foreach (NodeDevice device in Devices)
        {
            if (device is { Function: { IsVirtual: true, ParentAddress: { } parent }, Owner: not null })
                ownedVf.TryAdd(parent, device);
        }
        string? Own(NodeDevice d)
        {
            if (d.Owner is not null)
                return $"{d.Function.Address} belongs to a claim";
            if (d.BlockedReason is not null)
                return $"{d.Function.Address}: {d.BlockedReason}";
            if (d.Function is { IsVirtual: true, ParentAddress: { } pf } && Find(pf)?.Owner is not null)
                return $"{d.Function.Address}: its PF {pf} belongs to a claim";
            if (ownedVf.TryGetValue(d.Function.Address, out NodeDevice? vf))
                return $"{d.Function.Address}: its VF {vf.Function.Address} belongs to a claim";
            return null;
        }
        foreach (IGrouping<int?, int> group in Enumerable.Range(0, Devices.Count).GroupBy(i => Devices[i].Function.IommuGroup))
        {
            int[] members = [.. group.Where(i => !Devices[i].Function.IsBridge)];
            string? blocked = group.Key is null ? null : members.Select(i => Own(Devices[i])).FirstOrDefault(r => r is not null);
            NodeDevice? stranger = members.Select(i => Devices[i]).FirstOrDefault(d => d.Tags is null);
            foreach (int i in group)
            {
                PciFunction f = Devices[i].Function;
                if (f.IsBridge)
                    reasons[i] = $"{f.Address} is a bridge";
                else if (group.Key is null)
                    reasons[i] = $"{f.Address} is in no IOMMU group";
                else if (Devices[i].Tags is not { } tags)
                    reasons[i] = $"no device spec matches {f.Address}";
                else if (Own(Devices[i]) is { } own)
                    reasons[i] = own;
                else if (blocked is not null)
                    reasons[i] = $"its IOMMU group {group.Key} goes as a whole, and {blocked}";
                else if (stranger is not null && tags.Companions == CompanionPolicy.Refuse)
                    reasons[i] = $"its IOMMU group {group.Key} goes as a whole, and no device spec matches {stranger.Function.Address} in it";
                else if (f is { IsVirtual: true, ParentAddress: { } pf } && members.Any(m => Devices[m].Function.Address == pf))
                    reasons[i] = $"its IOMMU group {group.Key} goes as a whole, and its PF {pf} is in it";
            }
        }
        return reasons;
    }
}
